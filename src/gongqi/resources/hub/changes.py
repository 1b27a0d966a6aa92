"""What changed from one revision of an asset to another: files, what is said of them, the card, the lineage.

A file that has another name and the same bytes was renamed. Everything is bounded and counted whole, so that a list that
was cut says how much it leaves out. What changed within a file is for rooms that can read it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import Field

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Read, read
from gongqi.resources.hub.assets import ID
from gongqi.resources.hub.models import File, Revision
from gongqi.resources.hub.revisions import RevisionOut, SourceOut, files_of, lineage_of

MAX_FILES = 1_000
MAX_FIELDS = 200
MAX_VALUE = 1_000  # characters of a field's value
CARD_LINES = 1_000  # of each card that are compared: more take a second
CARD_LINE_CHARACTERS = 500
DIFF_LINES = 400  # that are shown
CONTEXT_LINES = 2

How = Literal["added", "removed", "changed", "renamed", "relabelled"]


class CompareRevisions(Input):
    before: str = Field(max_length=ID)
    after: str = Field(max_length=ID)


class FileState(Output):
    path: str
    sha256: str
    size: int
    component: str | None
    license: str | None


class FileChange(Output):
    """`how`: relabelled where only the component or the licence is another. `before` and `after` None: not there."""

    how: How
    before: FileState | None
    after: FileState | None


class FieldChange(Output):
    """A field of the card's front matter, such as `title.zh`. A value None: not there."""

    field: str
    before: str | None
    after: str | None


class ChangesOut(Output):
    """`counts`: files by how they changed, also of those that are not listed. `text`: the lines of a unified diff of the
    cards' texts; `is_text_whole` False: it is longer, or the cards are. `unchanged`: files that are the same."""

    before: RevisionOut
    after: RevisionOut
    counts: dict[str, int]
    unchanged: int
    files: list[FileChange]
    card: list[FieldChange]
    text: list[str]
    is_text_whole: bool
    sources_added: list[SourceOut]
    sources_removed: list[SourceOut]


@read("hub:revision:compare")
def compare_revisions(ctx: Read, input: CompareRevisions) -> ChangesOut:
    """Raises Refused access.not-found, hub.revisions-apart for those of two assets."""
    before, after = (ctx.find(Revision, key, to="hub:revision:read") for key in (input.before, input.after))
    if before.asset != after.asset:
        raise Refused("hub.revisions-apart", before=before.id, after=after.id)
    found, unchanged = file_changes(_states(files_of(ctx, before.id)), _states(files_of(ctx, after.id)))
    text, is_text_whole = text_changes(before.card_body, after.card_body)
    sources = [{(row.to_revision, row.relation) for row in lineage_of(ctx, each.id)} for each in (before, after)]
    return ChangesOut(
        before=RevisionOut.model_validate(before), after=RevisionOut.model_validate(after),
        counts={how: sum(each.how == how for each in found) for how in get_args(How)}, unchanged=unchanged,
        files=found[:MAX_FILES], card=field_changes(before.card, after.card), text=text, is_text_whole=is_text_whole,
        sources_added=_sources(sources[1] - sources[0]), sources_removed=_sources(sources[0] - sources[1]),
    )  # fmt: skip


def file_changes(before: Sequence[FileState], after: Sequence[FileState]) -> tuple[list[FileChange], int]:
    """What changed, by the path that it has now or had last, and how many files are the same."""
    old, new = ({file.path: file for file in files} for files in (before, after))
    changes = [
        FileChange(how="changed" if old[path].sha256 != file.sha256 else "relabelled", before=old[path], after=file)
        for path, file in new.items()
        if path in old and old[path] != file
    ]
    unchanged = sum(old.get(path) == file for path, file in new.items())
    gone: dict[str, list[FileState]] = {}
    for path, file in old.items():
        if path not in new:
            gone.setdefault(file.sha256, []).append(file)
    for path, file in new.items():
        if path not in old:
            same = gone.get(file.sha256)
            was = same.pop(0) if same else None
            changes.append(FileChange(how="renamed" if was else "added", before=was, after=file))
    changes += [FileChange(how="removed", before=file, after=None) for files in gone.values() for file in files]
    return sorted(changes, key=lambda each: (each.after or each.before).path), unchanged  # type: ignore[union-attr]


def field_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    """What the front matter says otherwise, the first MAX_FIELDS."""
    old, new = (dict(_flat("", card)) for card in (before, after))
    fields = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [FieldChange(field=name, before=old.get(name), after=new.get(name)) for name in fields[:MAX_FIELDS]]


def text_changes(before: str, after: str) -> tuple[list[str], bool]:
    """A unified diff, and whether it is whole."""
    (old, one), (new, other) = (_lines(text) for text in (before, after))
    lines = list(difflib.unified_diff(old, new, n=CONTEXT_LINES, lineterm=""))[2:]  # without the names of files
    return lines[:DIFF_LINES], one and other and len(lines) <= DIFF_LINES


def _lines(text: str) -> tuple[list[str], bool]:
    lines = text.split("\n", CARD_LINES)
    cut = [line.rstrip("\r")[:CARD_LINE_CHARACTERS] for line in lines[:CARD_LINES]]
    return cut, len(lines) <= CARD_LINES and all(len(line) < CARD_LINE_CHARACTERS for line in cut)


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """The values of a card by the way to them; what is empty says nothing."""
    if isinstance(value, Mapping):
        inner = ((key if name in ("", "other") else f"{name}.{key}", each) for key, each in value.items())
        return [pair for key, each in inner for pair in _flat(key, each)]
    if isinstance(value, list):
        value = ", ".join(str(each) for each in value)
    return [(name, str(value)[:MAX_VALUE])] if value not in (None, "") else []


def _states(rows: Sequence[File]) -> list[FileState]:
    return [FileState.model_validate(row) for row in rows]


def _sources(pairs: set[tuple[str, str]]) -> list[SourceOut]:
    return [SourceOut(revision=revision, relation=relation) for revision, relation in sorted(pairs)]
