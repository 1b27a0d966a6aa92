"""What a commit may hold: bytes of one's own, inspected under their names, that find each other, and a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from pydantic import Field
from sqlalchemy import String, cast, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Write
from gongqi.resources.hub.models import Blob, BlobOwner, Inspection
from gongqi.resources.hub.rules import (
    CARD_LIMIT_BYTES,
    CARD_PATH,
    Card,
    FileEntry,
    check_component,
    check_paths,
    no_card,
    parse_card,
)

EXPRESSION = 500  # characters of a licence expression
MAX_NAMED = 10_000  # digests in one statement; SQLite takes 32,766 parameters


class FileInput(Input):
    """One file. The path is checked by rules.check_path, the licence by the gates."""

    path: str = Field(max_length=1024)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    component: str | None = Field(None, max_length=64)
    license: str | None = Field(None, max_length=EXPRESSION)


def brought(ctx: Write, org: str, files: Sequence[FileInput]) -> list[FileEntry]:
    """`files` as entries of a revision: each is held by `org` and was inspected under its name.

    Raises Refused: hub.path-*, hub.component-unknown, hub.blob-unknown, hub.blob-renamed.
    """
    check_paths(file.path for file in files)
    digests = {file.sha256 for file in files}
    mine = select(Blob.sha256, Blob.size).join(BlobOwner, BlobOwner.sha256 == Blob.sha256)
    held = ctx.session.execute(mine.where(BlobOwner.org == org, Blob.sha256.in_(digests)))
    sizes = {row.sha256: row.size for row in held}
    entries = []
    for file in files:
        if file.component is not None:
            check_component(file.component)
        if file.sha256 not in sizes:
            raise Refused("hub.blob-unknown", path=file.path, sha256=file.sha256)
        entries.append(FileEntry(file.path, sizes[file.sha256], file.sha256, file.component, file.license))
    check_names(ctx, entries)
    return entries


def check_names(ctx: Write, entries: Sequence[FileEntry]) -> None:
    """Raises Refused hub.blob-renamed for bytes that were not inspected under the name they are to bear."""
    looked = select(Inspection.sha256, Inspection.name).where(Inspection.sha256.in_({e.sha256 for e in entries}))
    names = {(sha256, name) for sha256, name in ctx.session.execute(looked)}
    for entry in entries:
        if (entry.sha256, PurePosixPath(entry.path).name) not in names:
            raise Refused("hub.blob-renamed", path=entry.path, sha256=entry.sha256)


def check_whole(ctx: Write, entries: Sequence[FileEntry]) -> None:
    """Whether these files can stand together. Raises Refused hub.path-twin, hub.onnx-external-missing."""
    paths = frozenset(check_paths(entry.path for entry in entries))
    external = _external(ctx, sorted({entry.sha256 for entry in entries}))
    for entry in entries if external else ():
        path = PurePosixPath(entry.path)
        for location in external.get((entry.sha256, path.name), ()):
            if str(path.parent / location) not in paths:
                raise Refused("hub.onnx-external-missing", path=entry.path, location=location)


def _external(ctx: Write, digests: list[str]) -> dict[tuple[str, str], list[str]]:
    """(digest, name) -> the files beside it that it points at, for the few that point at any."""
    points = select(Inspection).where(cast(Inspection.external, String) != "[]")
    found = {}
    for start in range(0, len(digests), MAX_NAMED):
        rows = ctx.session.scalars(points.where(Inspection.sha256.in_(digests[start : start + MAX_NAMED])))
        found |= {(row.sha256, row.name): row.external for row in rows}
    return found


def card_in(ctx: Write, entries: Sequence[FileEntry], kind: str) -> Card:
    """The card, which may still be unwritten: a revision without one can be kept, but not released.

    Raises Refused hub.card-too-large, hub.card-malformed, hub.card-alias, hub.card-field.
    """
    entry = next((entry for entry in entries if entry.path == CARD_PATH), None)
    if entry is None:
        return no_card()
    if entry.size > CARD_LIMIT_BYTES:
        raise Refused("hub.card-too-large", size_bytes=entry.size, limit_bytes=CARD_LIMIT_BYTES)
    return parse_card(ctx.blobs.read(entry.sha256, limit_bytes=CARD_LIMIT_BYTES), kind)
