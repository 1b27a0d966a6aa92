"""Branches and tags: names for revisions, as git and its clients use them.

A branch points at the last revision committed on it and moves with the next; `main` is there as soon as anything is, and
stays. A tag points at one revision until it is deleted. A revision is asked for by a branch, a tag, its own id, or the
first forty digits of its digest, which is what git and its like take for the name of a commit.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Literal

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub.assets import ID, check_changeable
from gongqi.resources.hub.models import Asset, Ref, Revision
from gongqi.resources.hub.rules import MAIN, OID_LENGTH, check_ref

RefKind = Literal["branch", "tag"]
NAME = 250
MESSAGE = 2000
MAX_REFS = 1000  # of one asset; they are listed whole by every client that looks at it


class CreateRef(Input):
    """`at`: what it shall point at, as `resolve` reads it; left out, the head of `main`."""

    asset: str = Field(max_length=ID)
    kind: RefKind
    name: str = Field(max_length=NAME)
    at: str = Field(MAIN, max_length=NAME)
    message: str = Field("", max_length=MESSAGE)


class DeleteRef(Input):
    asset: str = Field(max_length=ID)
    kind: RefKind
    name: str = Field(max_length=NAME)


class ListRefs(Paged):
    asset: str = Field(max_length=ID)


class RefOut(Output):
    asset: str
    kind: str
    name: str
    revision: str
    message: str
    at: datetime


@verb("hub:ref:create", evidence="hub.ref-created")
def create_ref(ctx: Write, input: CreateRef) -> RefOut:
    asset = ctx.find(Asset, input.asset, to="hub:ref:create")
    check_changeable(asset)
    name = check_ref(input.name)
    if ctx.session.get(Ref, (asset.id, input.kind, name)):
        raise Refused("hub.ref-taken", ref=name)
    if len(refs_of(ctx, asset.id)) >= MAX_REFS:
        raise Refused("hub.too-many-refs", limit=MAX_REFS)
    revision = resolve(ctx, asset.id, input.at)
    ref = ctx.add(
        Ref(asset=asset.id, kind=input.kind, name=name, revision=revision.id, message=input.message, at=ctx.now)
    )
    ctx.session.flush()
    ctx.record(asset.id, ref_kind=input.kind, name=name, revision=revision.id)
    return RefOut.model_validate(ref)


@verb("hub:ref:delete", evidence="hub.ref-deleted")
def delete_ref(ctx: Write, input: DeleteRef) -> RefOut:
    asset = ctx.find(Asset, input.asset, to="hub:ref:delete")
    check_changeable(asset)
    ref = ctx.session.get(Ref, (asset.id, input.kind, input.name))
    if ref is None:
        raise Refused("hub.ref-unknown", ref=ascii(input.name[:80])[1:-1])
    if (input.kind, input.name) == ("branch", MAIN):
        raise Refused("hub.main-stays")
    ctx.session.delete(ref)
    ctx.record(asset.id, ref_kind=input.kind, name=input.name, revision=ref.revision)
    return RefOut.model_validate(ref)


@read("hub:ref:list")
def list_refs(ctx: Read, input: ListRefs) -> Page[RefOut]:
    """All at once: an asset has at most MAX_REFS."""
    asset = ctx.find(Asset, input.asset, to="hub:asset:read")
    return Page(items=[RefOut.model_validate(row) for row in refs_of(ctx, asset.id)])


# --- for this room and those above: the caller has authorised -------------------------------------------------------


def refs_of(ctx: Read, asset: str) -> list[Ref]:
    """`main` first, then branches, then tags."""
    rows = ctx.session.scalars(select(Ref).where(Ref.asset == asset).order_by(Ref.kind, Ref.name))
    return sorted(rows, key=lambda row: (row.kind, row.name) != ("branch", MAIN))


def targets_of(ctx: Read, asset: str) -> list[tuple[str, str, str]]:
    """(kind, name, first digits of the digest) of each, `main` first."""
    digests = select(Revision.id, Revision.digest).join(Ref, Ref.revision == Revision.id).where(Ref.asset == asset)
    digest_of = {row.id: row.digest for row in ctx.session.execute(digests)}
    return [(row.kind, row.name, digest_of[row.revision][:OID_LENGTH]) for row in refs_of(ctx, asset)]


def refs_at(ctx: Read, asset: str, revisions: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """By revision, the (kind, name) of each branch and tag that points at it, `main` first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in refs_of(ctx, asset):
        if row.revision in revisions:
            found.setdefault(row.revision, []).append((row.kind, row.name))
    return found


def head(ctx: Read, asset: str, branch: str = MAIN) -> Revision | None:
    """The last revision on a branch, None when the asset is empty. Raises Refused hub.ref-unknown."""
    row = ctx.session.scalar(
        select(Revision)
        .join(Ref, Ref.revision == Revision.id)
        .where(Ref.asset == asset, Ref.kind == "branch", Ref.name == branch)
    )
    if row is None and branch != MAIN:
        raise Refused("hub.ref-unknown", ref=ascii(branch[:80])[1:-1])
    return row


def resolve(ctx: Read, asset: str, name: str) -> Revision:
    """The revision that `name` means: a branch, a tag, an id, or the first digits of a digest.

    Raises Refused hub.ref-unknown.
    """
    by_ref = select(Revision).join(Ref, Ref.revision == Revision.id).where(Ref.asset == asset, Ref.name == name)
    row = ctx.session.scalar(by_ref.order_by(Ref.kind).limit(1))
    if row is None:
        own = select(Revision).where(Revision.asset == asset)
        if len(name) == OID_LENGTH:  # a range, which an index serves on every database
            row = ctx.session.scalar(own.where(Revision.digest >= name, Revision.digest < name + "g").limit(1))
        else:
            row = ctx.session.scalar(own.where(Revision.id == name))
    if row is None:
        raise Refused("hub.ref-unknown", ref=ascii(name[:80])[1:-1])
    return row


def move(ctx: Write, asset: str, branch: str, revision: str) -> None:
    """Let `branch` point at a revision that was just committed on it."""
    ref = ctx.session.get(Ref, (asset, "branch", branch))
    if ref is None:
        ctx.add(Ref(asset=asset, kind="branch", name=branch, revision=revision, message="", at=ctx.now))
    else:
        ref.revision, ref.at = revision, ctx.now
