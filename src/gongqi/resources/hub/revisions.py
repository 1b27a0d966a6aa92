"""Revisions: an asset's states, each immutable and named by a digest of everything that changes its meaning."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub.assets import ID, asset_row
from gongqi.resources.hub.events import RevisionCommitted
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.models import Asset, BlobOwner, File, Inspection, Lineage, Revision
from gongqi.resources.hub.rules import (
    CARD_LIMIT_BYTES,
    CARD_PATH,
    Card,
    FileEntry,
    card_digest,
    check_component,
    check_paths,
    parse_card,
    revision_digest,
)

Relation = Literal[
    "trained-on", "fine-tuned-from", "distilled-from", "evaluated-on", "merged-from", "derived-from", "returned-from"
]
MAX_FILES = 10_000  # in one request; about 2 MB of JSON
MAX_SOURCES = 64  # direct sources of one revision: more is a merge nobody can account for
MESSAGE = 2000
EXPRESSION = 500  # characters of a licence expression


class FileInput(Input):
    """One file. The path is checked by rules.check_path, the licence by the gates."""

    path: str = Field(max_length=1024)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    component: str | None = Field(None, max_length=64)
    license: str | None = Field(None, max_length=EXPRESSION)


class SourceInput(Input):
    revision: str = Field(max_length=ID)
    relation: Relation


class Commit(Input):
    """`parent` is the number of the revision that this one must follow, 0 for none; left out, it follows the latest."""

    asset: str = Field(max_length=ID)
    message: str = Field(min_length=1, max_length=MESSAGE)
    files: list[FileInput] = Field(min_length=1, max_length=MAX_FILES)
    lineage: list[SourceInput] = Field(default_factory=list, max_length=MAX_SOURCES)
    parent: int | None = Field(None, ge=0, le=2**31)


class GetRevision(Input):
    revision: str = Field(max_length=ID)


class ListRevisions(Paged):
    asset: str = Field(max_length=ID)


class RevisionOut(Output):
    id: str
    asset: str
    number: int
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
        ctx, asset=input.asset, message=input.message, files=input.files, lineage=lineage, parent=input.parent
    )


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
    """A file of a revision that the actor may see. Raises Refused access.not-found, hub.file-absent."""
    home = ctx.find(Revision, revision, to="hub:revision:read")
    row = ctx.session.get(File, (home.id, path))
    if row is None:
        raise Refused("hub.file-absent", path=path[:200])
    return FileFacts(row.path, row.sha256, row.size, row.component, row.license)


# --- for rooms above: the caller has authorised ----------------------------------------------------------------------


def commit_revision(
    ctx: Write, *, asset: str, message: str, files: Sequence[FileInput], parent: int | None = None,
    lineage: Sequence[tuple[str, str]] = (),
) -> RevisionOut:  # fmt: skip
    """The next revision of an asset, made of bytes that its organisation has uploaded; `lineage` is (source, relation).

    Raises Refused: hub.revision-conflict, hub.path-*, hub.component-unknown, hub.blob-unknown, hub.blob-renamed,
    hub.onnx-external-missing, hub.card-*, hub.lineage-twice, access.not-found for a source that the actor cannot see.
    """
    home = asset_row(ctx, asset)
    latest = latest_revision(ctx, asset)
    current = latest.number if latest else 0
    if parent not in (None, current):
        raise Refused("hub.revision-conflict", expected=parent, current=current)
    sizes = _held_sizes(ctx, home.org, files)
    entries = [FileEntry(f.path, sizes[f.path], f.sha256, f.component, f.license) for f in files]
    card = _card_in(ctx, entries)
    sources = _sources(ctx, lineage)
    parents = [row.digest for row in sources] + ([latest.digest] if latest else [])
    digest = card_digest(card)
    revision = ctx.add(
        Revision(
            id=ctx.new_id("rev"), asset=asset, number=current + 1,
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
    ctx.record(
        revision.id, kind="hub.revision-committed", asset=asset, number=revision.number, digest=revision.digest,
        files=len(entries), sources=sorted(row.digest for row in sources),
    )  # fmt: skip
    ctx.emit(RevisionCommitted(asset=asset, revision=revision.id, digest=revision.digest))
    return RevisionOut.model_validate(revision)


def card_text(ctx: Read, revision: str) -> str:
    """The body of a revision's card, as its author wrote it (CommonMark)."""
    return ctx.session.scalar(select(Revision.card_body).where(Revision.id == revision)) or ""


def latest_revision(ctx: Read, asset: str) -> RevisionOut | None:
    row = ctx.session.scalar(select(Revision).where(Revision.asset == asset).order_by(Revision.number.desc()).limit(1))
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
        files=tuple(FileFacts(f.path, f.sha256, f.size, f.component, f.license) for f in files_of(ctx, row.id)),
        lineage=tuple((edge.to_revision, edge.relation) for edge in lineage_of(ctx, row.id)),
    )  # fmt: skip


def files_of(ctx: Read, revision: str) -> Sequence[File]:
    return ctx.session.scalars(select(File).where(File.revision == revision).order_by(File.path)).all()


def lineage_of(ctx: Read, revision: str) -> Sequence[Lineage]:
    query = select(Lineage).where(Lineage.from_revision == revision)
    return ctx.session.scalars(query.order_by(Lineage.relation, Lineage.to_revision)).all()


# --- what a commit must hold -----------------------------------------------------------------------------------------


def _held_sizes(ctx: Write, org: str, files: Sequence[FileInput]) -> dict[str, int]:
    """path -> size in bytes. Every file is held by `org`, was inspected under its name, and finds what it points at."""
    paths = frozenset(check_paths(file.path for file in files))
    digests = {file.sha256 for file in files}
    held = set(ctx.session.scalars(select(BlobOwner.sha256).where(BlobOwner.org == org, BlobOwner.sha256.in_(digests))))
    looked = {
        (row.sha256, row.name): row
        for row in ctx.session.scalars(select(Inspection).where(Inspection.sha256.in_(digests & held)))
    }
    sizes = {}
    for file in files:
        if file.component is not None:
            check_component(file.component)
        if file.sha256 not in held:
            raise Refused("hub.blob-unknown", path=file.path, sha256=file.sha256)
        inspection = looked.get((file.sha256, PurePosixPath(file.path).name))
        if inspection is None:
            raise Refused("hub.blob-renamed", path=file.path, sha256=file.sha256)
        for location in inspection.external:
            if str(PurePosixPath(file.path).parent / location) not in paths:
                raise Refused("hub.onnx-external-missing", path=file.path, location=location)
        sizes[file.path] = ctx.blobs.size(file.sha256)
    return sizes


def _card_in(ctx: Write, entries: Sequence[FileEntry]) -> Card:
    entry = next((entry for entry in entries if entry.path == CARD_PATH), None)
    if entry is None:
        raise Refused("hub.card-missing")
    if entry.size > CARD_LIMIT_BYTES:
        raise Refused("hub.card-too-large", size_bytes=entry.size, limit_bytes=CARD_LIMIT_BYTES)
    return parse_card(ctx.blobs.read(entry.sha256, limit_bytes=CARD_LIMIT_BYTES))


def _sources(ctx: Write, lineage: Sequence[tuple[str, str]]) -> list[Revision]:
    if len(set(lineage)) != len(lineage):
        raise Refused("hub.lineage-twice")
    return [ctx.find(Revision, key, to="hub:revision:read") for key in sorted({key for key, _ in lineage})]
