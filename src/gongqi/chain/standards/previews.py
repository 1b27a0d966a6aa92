"""What is in the tables of a revision, and what changed in them, for whoever may have the files.

A preview is a part of the bytes, so it is given as the bytes are: `hub.files_to_have` decides. Nothing
is read here: flows have read it, or will have in a moment, and a caller who comes before is told to come again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from gongqi.chain.standards import readings
from gongqi.chain.standards.donated import DESCRIPTION, Finding, differences, words_on
from gongqi.chain.standards.tables import TOO_MUCH
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.verbs import Input, Output, Page, Read, read
from gongqi.resources.hub import service as hub

RETRY_SECONDS = 3
ID = 64


class OneRevision(Input):
    revision: str = Field(max_length=ID)


class OneTable(OneRevision):
    path: str = Field(max_length=1024)


class TwoRevisions(Input):
    before: str = Field(max_length=ID)
    after: str = Field(max_length=ID)


class TableOut(Output):
    """`state`: read, coming, no-table or too-much. `rows` None: not known."""

    path: str
    form: str
    state: str
    columns: int | None = None
    rows: int | None = None


class ColumnOut(Output):
    """One column. `distinct` is an estimate; `minimum` to `bins` of numbers and dates, `top` of the rest: [value, how
    often]. A bin is [from, to, how many]. `said`: what a donor's own description says of it."""

    name: str
    type: str
    count: int | None = None
    nulls: int | None = None
    distinct: int | None = None
    minimum: int | float | str | None = None
    maximum: int | float | str | None = None
    mean: float | None = None
    deviation: float | None = None
    quartiles: list[float | None] = Field(default_factory=list)
    bins: list[tuple[int | float, int | float, int]] = Field(default_factory=list)
    top: list[tuple[str, int]] = Field(default_factory=list)
    said: dict[str, str] | None = None


class PreviewOut(Output):
    """A table. `read`: how many rows the figures rest on, all of them if `is_whole`, else the first. `head`: the first few,
    of the first columns, each value as text of 200 characters at most, and one more where it was cut."""

    revision: str
    path: str
    sha256: str
    form: str
    rows: int | None
    read: int
    is_whole: bool
    columns: list[ColumnOut]
    head: list[list[str | None]]


class FindingOut(Output):
    code: str
    path: str
    name: str


class DescriptionOut(Output):
    """What a donor's own Croissant description says, and in `findings` where it is wrong. `rai`: [field, words]."""

    revision: str
    path: str
    version: str = ""
    name: str = ""
    description: str = ""
    license: list[str] = Field(default_factory=list)
    cite: str = ""
    creators: list[str] = Field(default_factory=list)
    published: str = ""
    rai: list[tuple[str, str]] = Field(default_factory=list)
    fields: int = 0
    findings: list[FindingOut] = Field(default_factory=list)


class RowsOut(Output):
    """Rows that were added, removed, or changed under the same `key`; without a key (None) there is no telling what was
    changed. `by_column`: how many rows changed there. The rows themselves are a few examples of `columns`; one that changed
    is [key, [[column, before, after], …]]."""

    key: str | None
    added: int
    removed: int
    changed: int | None
    columns: list[str]
    by_column: list[tuple[str, int]]
    added_rows: list[list[str | None]]
    removed_rows: list[list[str | None]]
    changed_rows: list[tuple[str, list[tuple[str, str | None, str | None]]]]


class TableChange(Output):
    """A table that is in both revisions under its name, with other bytes.

    `state`: compared; coming, while it is read or compared; unasked, since only neighbours are compared by themselves;
    too-long for row by row; or unreadable. `retyped`: [column, type before, type after].
    """

    path: str
    state: str
    rows_before: int | None = None
    rows_after: int | None = None
    added: list[str] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    renamed: list[tuple[str, str]] = Field(default_factory=list)
    retyped: list[tuple[str, str, str]] = Field(default_factory=list)
    rows: RowsOut | None = None


class TableChangesOut(Output):
    before: str
    after: str
    tables: list[TableChange]


@read("standards:table:list")
def list_tables(ctx: Read, input: OneRevision) -> Page[TableOut]:
    """The tables of a revision by their paths. Raises Refused access.*, hub.asset-gated, hub.release-withdrawn."""
    return Page(items=tables_in(ctx, hub.files_to_have(ctx, input.revision)))


@read("standards:table:preview")
def preview(ctx: Read, input: OneTable) -> PreviewOut:
    """Raises Refused as `list_tables`, hub.file-absent, standards.no-table, standards.table-too-much; Unavailable while it
    has not been read."""
    files = hub.files_to_have(ctx, input.revision)
    if all(file.path != input.path for file in files):
        raise Refused("hub.file-absent", path=input.path[:200])
    found_here = [each for each in readings.readable(files) if each[0].path == input.path and each[1] != DESCRIPTION]
    if not found_here:
        raise Refused("standards.no-table", path=input.path)
    [(file, form)] = found_here
    found = readings.found_in(ctx, {(file.sha256, form)}).get((file.sha256, form))
    if found is None:
        raise Unavailable("standards.table-not-read-yet", retry_after_seconds=RETRY_SECONDS, path=file.path)
    if "flaw" in found:
        raise Refused("standards.table-too-much" if found["flaw"] == TOO_MUCH else "standards.no-table", path=file.path)
    own = readings.own_description(ctx, files)
    names = {each["name"]: 0 for each in found["columns"]}
    said = words_on(own[1], file.path, names) if own and own[1] else {}
    columns = [ColumnOut(**each, said=said.get(each["name"])) for each in found["columns"]]
    return PreviewOut(
        revision=input.revision, path=file.path, sha256=file.sha256, form=form, columns=columns,
        **{name: found[name] for name in ("rows", "read", "is_whole", "head")},
    )  # fmt: skip


@read("standards:description:show")
def show_description(ctx: Read, input: OneRevision) -> DescriptionOut:
    """What a donor's own description says of a revision. Raises Refused as `list_tables`, standards.no-description."""
    told = description_in(ctx, input.revision, hub.files_to_have(ctx, input.revision))
    if told is None:
        raise Refused("standards.no-description", revision=input.revision)
    return told


@read("standards:table:compare")
def compare_tables(ctx: Read, input: TwoRevisions) -> TableChangesOut:
    """What changed in the tables that two revisions of an asset have under one name.

    Raises Refused as `list_tables`, hub.revisions-apart.
    """
    changes = hub.compare_revisions.run(ctx, hub.CompareRevisions(before=input.before, after=input.after))
    old, new = (hub.files_to_have(ctx, key) for key in (input.before, input.after))
    pairs = readings.changed_tables(old, new)
    found = readings.found_in(ctx, {(sha, form) for one, other, form in pairs.values() for sha in (one, other)})
    known = readings.differences_in(ctx, set(pairs.values()))
    are_neighbours = changes.after.parent == changes.before.id
    tables = [
        _change(path, found.get((one, form)), found.get((other, form)), known.get((one, other, form)), are_neighbours)
        for path, (one, other, form) in pairs.items()
    ]
    return TableChangesOut(before=input.before, after=input.after, tables=tables)


# --- the caller has authorised ----------------------------------------------------------------------------------------


def tables_in(ctx: Read, files: Sequence[readings.StoredFile]) -> list[TableOut]:
    forms = [each for each in readings.readable(files) if each[1] != DESCRIPTION]
    found = readings.found_in(ctx, {(file.sha256, form) for file, form in forms})
    return [_table(file.path, form, found.get((file.sha256, form))) for file, form in forms]


def description_in(ctx: Read, revision: str, files: Sequence[readings.StoredFile]) -> DescriptionOut | None:
    """What a donor's own description among these files says, None when there is none. Raises Unavailable."""
    own = readings.own_description(ctx, files)
    if own is None:
        return None
    path, said = own
    if said is None:
        raise Unavailable("standards.table-not-read-yet", retry_after_seconds=RETRY_SECONDS, path=path)
    findings = [FindingOut(code=f.code, path=f.path, name=f.name) for f in wrong_in(ctx, path, said, files)]
    kept = {name: said[name] for name in DescriptionOut.model_fields if name in said and name != "fields"}
    told = DescriptionOut(revision=revision, path=path, **kept, findings=findings)
    return told.model_copy(update={"fields": len(said.get("fields", ()))})


def wrong_in(ctx: Read, path: str, said: dict[str, Any], files: Any) -> tuple[Finding, ...]:
    """Where a description is wrong."""
    forms = [each for each in readings.readable(files) if each[1] != DESCRIPTION]
    found = readings.found_in(ctx, {(file.sha256, form) for file, form in forms})
    columns = {
        file.path: {each["name"]: each["type"] if each.get("count") else "" for each in table["columns"]}
        for file, form in forms
        if (table := found.get((file.sha256, form))) and "flaw" not in table
    }
    return differences(path, said, files, columns)


def _table(path: str, form: str, found: dict[str, Any] | None) -> TableOut:
    if found is None or "flaw" in found:
        return TableOut(path=path, form=form, state="coming" if found is None else found["flaw"])
    return TableOut(path=path, form=form, state="read", columns=len(found["columns"]), rows=found["rows"])


def _change(
    path: str, old: dict[str, Any] | None, new: dict[str, Any] | None, rows: dict[str, Any] | None, are_neighbours: bool
) -> TableChange:
    if any("flaw" in each for each in (old, new, rows) if each):
        return TableChange(path=path, state="unreadable")
    if old is None or new is None:
        return TableChange(path=path, state="coming" if are_neighbours else "unasked")
    before, after = ({each["name"]: each["type"] for each in table["columns"]} for table in (old, new))
    renamed = [tuple(pair) for pair in rows["renamed"]] if rows else []
    gone, come = ({pair[side] for pair in renamed} for side in (0, 1))
    state = "coming" if are_neighbours else "unasked"
    if rows is not None:
        state = "compared" if rows["rows"] else "too-long"
    return TableChange(
        path=path, state=state, rows_before=old["rows"], rows_after=new["rows"], renamed=renamed,
        added=[name for name in after if name not in before and name not in come],
        removed=[name for name in before if name not in after and name not in gone],
        retyped=[(name, before[name], kind) for name, kind in after.items() if before.get(name, kind) != kind],
        rows=RowsOut(**rows["rows"]) if rows and rows["rows"] else None,
    )  # fmt: skip
