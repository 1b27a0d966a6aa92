"""Revisions: an asset's states, each immutable and named by a digest of everything that changes its meaning."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import func, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub import refs
from gongqi.resources.hub.access import check_may_have
from gongqi.resources.hub.assets import ID, asset_row, check_changeable
from gongqi.resources.hub.catalogue import refresh
from gongqi.resources.hub.contents import FileInput, brought, card_in, check_names, check_whole
from gongqi.resources.hub.events import RevisionCommitted
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.models import Asset, File, Lineage, Ref, Revision
from gongqi.resources.hub.rules import (
    CARD_PATH,
    MAIN,
    OID_LENGTH,
    FileEntry,
    card_digest,
    copied,
    revision_digest,
    without,
)

Relation = Literal[
    "trained-on", "fine-tuned-from", "distilled-from", "evaluated-on", "merged-from", "derived-from", "returned-from"
]
MAX_FILES = 10_000  # in one request; about 2 MB of JSON
MAX_SOURCES = 64  # direct sources of one revision: more is a merge nobody can account for
MESSAGE = 2000


class SourceInput(Input):
    revision: str = Field(max_length=ID)
    relation: Relation


class Commit(Input):
    """The whole of a revision. `parent` is the number of the one that it must follow on its branch, 0 for none; left
    out, it follows the last."""

    asset: str = Field(max_length=ID)
    branch: str = Field(MAIN, max_length=250)
    message: str = Field(min_length=1, max_length=MESSAGE)
    files: list[FileInput] = Field(min_length=1, max_length=MAX_FILES)
    lineage: list[SourceInput] = Field(default_factory=list, max_length=MAX_SOURCES)
    parent: int | None = Field(None, ge=0, le=2**31)


class Copy(Input):
    """A file of another revision of the same asset; `at` is read as `hub:ref:create` reads it."""

    source: str = Field(max_length=1024)
    at: str = Field(MAIN, max_length=250)
    path: str = Field(max_length=1024)


class Change(Input):
    """What the next revision changes: files that come or are replaced, those that go, and copies of earlier ones.

    `removed` names files, or folders with a slash at the end. `parent` is what the branch must point at now, an id or
    the first forty digits of a digest; left out, it follows whatever is there. Lineage is carried on.
    """

    asset: str = Field(max_length=ID)
    branch: str = Field(MAIN, max_length=250)
    message: str = Field(min_length=1, max_length=MESSAGE)
    files: list[FileInput] = Field(default_factory=list, max_length=MAX_FILES)
    removed: list[str] = Field(default_factory=list, max_length=MAX_FILES)
    copies: list[Copy] = Field(default_factory=list, max_length=MAX_FILES)
    parent: str | None = Field(None, max_length=ID)


class GetRevision(Input):
    revision: str = Field(max_length=ID)


class ListRevisions(Paged):
    asset: str = Field(max_length=ID)


class RevisionOut(Output):
    id: str
    asset: str
    number: int
    parent: str | None
    digest: str
    card_sha256: str
    message: str
    author: str
    created_at: datetime


class FileOut(Output):
    path: str
    sha256: str
    size: int
    component: str | None
    license: str | None


class SourceOut(Output):
    revision: str
    relation: str


class RevisionDetail(RevisionOut):
    card: dict[str, Any]
    files: list[FileOut]
    lineage: list[SourceOut]


@dataclass(frozen=True, slots=True)
class RevisionFacts:
    """What the hub knows about a revision, for rooms above. `lineage` is (source revision id, relation)."""

    revision: str
    number: int
    digest: str
    asset: str
    slug: str
    kind: str
    org: str
    visibility: str
    title_zh: str
    title_en: str
    card: Mapping[str, Any]
    card_sha256: str
    author: str
    created_at: datetime
    files: tuple[FileFacts, ...]
    lineage: tuple[tuple[str, str], ...]


@verb("hub:revision:commit", evidence="hub.revision-committed")
def commit(ctx: Write, input: Commit) -> RevisionOut:
    ctx.find(Asset, input.asset, to="hub:revision:commit")
    lineage = [(source.revision, source.relation) for source in input.lineage]
    return commit_revision(
        ctx, asset=input.asset, message=input.message, files=input.files, lineage=lineage, parent=input.parent,
        branch=input.branch,
    )  # fmt: skip


@verb("hub:revision:change", evidence="hub.revision-committed")
def change(ctx: Write, input: Change) -> RevisionOut:
    asset = ctx.find(Asset, input.asset, to="hub:revision:change")
    return change_revision(ctx, asset, input)


@read("hub:revision:list")
def list_revisions(ctx: Read, input: ListRevisions) -> Page[RevisionOut]:
    query = ctx.visible(Revision, to="hub:revision:read").where(Revision.asset == input.asset)
    return ctx.page(query, Revision.id, input, to=RevisionOut)


@read("hub:revision:get")
def get_revision(ctx: Read, input: GetRevision) -> RevisionDetail:
    revision = ctx.find(Revision, input.revision, to="hub:revision:read")
    return RevisionDetail(
        **RevisionOut.model_validate(revision).model_dump(),
        card=revision.card,
        files=[FileOut.model_validate(row) for row in files_of(ctx, revision.id)],
        lineage=[SourceOut(revision=row.to_revision, relation=row.relation) for row in lineage_of(ctx, revision.id)],
    )


def visible_revisions(ctx: Read, keys: Collection[str]) -> dict[str, RevisionOut]:
    """Of these revisions, those that the reader may see."""
    query = ctx.visible(Revision, to="hub:revision:read").where(Revision.id.in_(keys))
    return {row.id: RevisionOut.model_validate(row) for row in ctx.session.scalars(query)}


def find_file(ctx: Read, revision: str, path: str) -> FileFacts:
    """A file of a revision that the actor may see and have.

    Raises Refused access.not-found, hub.file-absent, hub.asset-gated, hub.release-withdrawn.
    """
    home = ctx.find(Revision, revision, to="hub:revision:read")
    check_may_have(ctx, home.id)
    row = ctx.session.get(File, (home.id, path))
    if row is None:
        raise Refused("hub.file-absent", path=path[:200])
    return _facts(row)


def shown_revision(ctx: Read, key: str) -> RevisionOut | None:
    """What the page of an asset or a revision, by either's id, shows: the revision itself, or the last one on `main`.

    None when an asset has none. Raises Refused access.not-found.
    """
    if key.startswith("rev_"):
        return RevisionOut.model_validate(ctx.find(Revision, key, to="hub:revision:read"))
    return latest_revision(ctx, ctx.find(Asset, key, to="hub:asset:read").id)


def files_to_have(ctx: Read, revision: str) -> tuple[FileFacts, ...]:
    """The files of a revision that the actor may see and have.

    Raises Refused access.not-found, hub.asset-gated, hub.release-withdrawn.
    """
    home = ctx.find(Revision, revision, to="hub:revision:read")
    check_may_have(ctx, home.id)
    return tuple(_facts(row) for row in files_of(ctx, home.id))


# --- for rooms above: the caller has authorised ----------------------------------------------------------------------


def asset_of(ctx: Read, revision: str) -> str:
    return ctx.session.get_one(Revision, revision).asset


def commit_revision(
    ctx: Write, *, asset: str, message: str, files: Sequence[FileInput], parent: int | None = None,
    lineage: Sequence[tuple[str, str]] = (), branch: str = MAIN,
) -> RevisionOut:  # fmt: skip
    """The next revision of an asset, made of bytes that its organisation has uploaded; `lineage` is (source, relation).

    Raises Refused: hub.revision-conflict, hub.path-*, hub.component-unknown, hub.blob-unknown, hub.blob-renamed,
    hub.onnx-external-missing, hub.card-*, hub.lineage-twice, access.not-found for a source that the actor cannot see.
    """
    home = asset_row(ctx, asset)
    last = refs.head(ctx, asset, branch)
    current = last.number if last else 0
    if parent not in (None, current):
        raise Refused("hub.revision-conflict", expected=str(parent), current=str(current))
    return _put(ctx, home, branch, last, message, brought(ctx, home.org, files), list(lineage))


def change_revision(ctx: Write, home: Asset, change: Change) -> RevisionOut:
    """Raises Refused as `commit_revision`, hub.file-absent for what is to go or be copied and is not there, and
    hub.nothing-changed, since a revision that says nothing new is none."""
    last = refs.head(ctx, home.id, change.branch)
    if change.parent is not None and change.parent not in ((last.id, last.digest[:OID_LENGTH]) if last else ("",)):
        current = last.digest[:OID_LENGTH] if last else ""
        raise Refused("hub.revision-conflict", expected=change.parent, current=current)
    before = {row.path: _entry(row) for row in files_of(ctx, last.id)} if last else {}
    after = without(before, change.removed)
    for copy in change.copies:
        source = refs.resolve(ctx, home.id, copy.at)
        files = before if last and source.id == last.id else {row.path: _entry(row) for row in files_of(ctx, source.id)}
        after |= copied(files, copy.source, copy.path)
    check_names(ctx, [after[copy.path] for copy in change.copies])
    after |= {entry.path: entry for entry in brought(ctx, home.org, change.files)}
    if after == before and last:
        raise Refused("hub.nothing-changed", revision=last.digest[:OID_LENGTH])
    lineage = [(row.to_revision, row.relation) for row in lineage_of(ctx, last.id)] if last else []
    return _put(ctx, home, change.branch, last, change.message, list(after.values()), lineage)


def _put(
    ctx: Write, home: Asset, branch: str, last: Revision | None, message: str, entries: Sequence[FileEntry],
    lineage: Sequence[tuple[str, str]],
) -> RevisionOut:  # fmt: skip
    """Write the revision that follows `last` on `branch`."""
    check_changeable(home)
    check_whole(ctx, entries)
    card = card_in(ctx, entries, home.kind)
    sources = _sources(ctx, lineage)
    parents = [row.digest for row in sources] + ([last.digest] if last else [])
    digest = card_digest(card)
    number = ctx.session.scalar(select(func.max(Revision.number)).where(Revision.asset == home.id)) or 0
    revision = ctx.add(
        Revision(
            id=ctx.new_id("rev"), asset=home.id, number=number + 1, parent=last.id if last else None,
            digest=revision_digest(entries, card=digest, parents=parents), card=card.front_matter(),
            card_body=card.body, card_sha256=digest, message=message, author=ctx.actor.id, created_at=ctx.now,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.session.add_all(
        File(revision=revision.id, path=e.path, sha256=e.sha256, size=e.size, component=e.component, license=e.license)
        for e in entries
    )
    ctx.session.add_all(Lineage(from_revision=revision.id, to_revision=to, relation=how) for to, how in lineage)
    refs.move(ctx, home.id, branch, revision.id)
    if branch == MAIN:
        refresh(ctx, home)
    ctx.record(
        revision.id, kind="hub.revision-committed", asset=home.id, number=revision.number, digest=revision.digest,
        files=len(entries), sources=sorted(row.digest for row in sources),
    )  # fmt: skip
    ctx.emit(RevisionCommitted(asset=home.id, revision=revision.id, digest=revision.digest))
    return RevisionOut.model_validate(revision)


def card_text(ctx: Read, revision: str) -> str:
    """The body of a revision's card, as its author wrote it (CommonMark)."""
    return ctx.session.scalar(select(Revision.card_body).where(Revision.id == revision)) or ""


def claims_of(ctx: Read, revision: str) -> dict[str, Any]:
    """The front matter of a revision's card."""
    return ctx.session.scalar(select(Revision.card).where(Revision.id == revision)) or {}


def parent_of(ctx: Read, revision: str) -> str | None:
    """The revision before it on its branch."""
    return ctx.session.scalar(select(Revision.parent).where(Revision.id == revision))


def revisions_by_card(ctx: Read, asset: str, cards: Collection[str]) -> dict[str, str]:
    """By the digest of a card, the last revision of the asset that bears it."""
    query = select(Revision.card_sha256, Revision.id).where(Revision.asset == asset, Revision.card_sha256.in_(cards))
    return {row.card_sha256: row.id for row in ctx.session.execute(query.order_by(Revision.id))}


def example_file(ctx: Read, revision: str) -> str | None:
    """A file to show a download with: the card, else the first."""
    query = select(File.path).where(File.revision == revision).order_by(File.path != CARD_PATH, File.path)
    return ctx.session.scalar(query.limit(1))


def heads_after(ctx: Read, asset: str, *, kind: str, limit: int) -> list[tuple[str, str]]:
    """(asset, its last revision on `main`) of the assets of a kind whose ids follow `asset`, in their order."""
    heads = select(Asset.id, Ref.revision).join(Ref, Ref.asset == Asset.id)
    heads = heads.where(Ref.kind == "branch", Ref.name == MAIN, Asset.kind == kind, Asset.id > asset)
    return [(key, head) for key, head in ctx.session.execute(heads.order_by(Asset.id).limit(limit))]


def digests_in_revisions(ctx: Read, digests: Collection[str]) -> set[str]:
    """Of these SHA-256, those of files that are in some revision."""
    return set(ctx.session.scalars(select(File.sha256).where(File.sha256.in_(digests)).distinct()))


def latest_revision(ctx: Read, asset: str) -> RevisionOut | None:
    """The last one on `main`."""
    row = refs.head(ctx, asset)
    return RevisionOut.model_validate(row) if row else None


def revision_facts(ctx: Read, revision: str) -> RevisionFacts:
    """Any revision with its asset, files and lineage. Raises Refused access.not-found."""
    row = ctx.session.get(Revision, revision)
    if row is None:
        raise Refused("access.not-found", kind="revision", key=revision[:100])
    home = asset_row(ctx, row.asset)
    return RevisionFacts(
        revision=row.id, number=row.number, digest=row.digest, asset=home.id, slug=home.slug, kind=home.kind,
        org=home.org, visibility=home.visibility, title_zh=home.title_zh, title_en=home.title_en, card=row.card,
        card_sha256=row.card_sha256, author=row.author, created_at=row.created_at,
        files=tuple(_facts(file) for file in files_of(ctx, row.id)),
        lineage=tuple((edge.to_revision, edge.relation) for edge in lineage_of(ctx, row.id)),
    )  # fmt: skip


def files_of(ctx: Read, revision: str) -> Sequence[File]:
    return ctx.session.scalars(select(File).where(File.revision == revision).order_by(File.path)).all()


def lineage_of(ctx: Read, revision: str) -> Sequence[Lineage]:
    query = select(Lineage).where(Lineage.from_revision == revision)
    return ctx.session.scalars(query.order_by(Lineage.relation, Lineage.to_revision)).all()


def _facts(row: File) -> FileFacts:
    return FileFacts(row.path, row.sha256, row.size, row.component, row.license)


def _entry(row: File) -> FileEntry:
    return FileEntry(row.path, row.size, row.sha256, row.component, row.license)


def _sources(ctx: Write, lineage: Sequence[tuple[str, str]]) -> list[Revision]:
    if len(set(lineage)) != len(lineage):
        raise Refused("hub.lineage-twice")
    return [ctx.find(Revision, key, to="hub:revision:read") for key in sorted({key for key, _ in lineage})]
