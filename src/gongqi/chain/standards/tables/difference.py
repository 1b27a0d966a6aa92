"""What changed in a table from one file to another, row by row; within a child.

Rows are told apart by a key where there is one: a column of both files, called like one or standing first, whose values
are all there and all different in both. Without a key rows are a bag: what is once more in the new file was added.
Values are compared as text over the columns that both have. Of what differs a few rows are kept as examples.
"""

from __future__ import annotations

import re
from typing import Any

from gongqi.chain.standards.tables.loading import DB, Loaded

EXAMPLES = 10  # rows of each sort
CELLS = 12  # columns of an example
CELL_CHARACTERS = 80
KEYS_TRIED = 8
COLUMNS_COMPARED = 500
_KEY_LIKE = re.compile(r"(?i)(.*[_. -])?(id|key|uuid|guid|index|no|nr|编号|序号|record|code)")


def difference(before: Loaded, after: Loaded) -> dict[str, Any]:
    """Which columns took another name, and which rows differ. `rows` is None where either was not read to its end."""
    renamed = _renamed(before, after)
    found: dict[str, Any] = {"renamed": renamed, "rows": None}
    if not (before.is_whole and after.is_whole):
        return found
    names = dict(renamed)
    places = {column.name: number for number, column in enumerate(after.columns)}
    pairs = [
        (number, places[names.get(column.name, column.name)])
        for number, column in enumerate(before.columns)
        if names.get(column.name, column.name) in places
    ][:COLUMNS_COMPARED]
    if not pairs:
        return found
    key = _key(before, after, pairs)
    found["rows"] = _by_key(before, after, pairs, key) if key is not None else _as_bags(before, after, pairs)
    return found


def _renamed(before: Loaded, after: Loaded) -> list[tuple[str, str]]:
    """(old name, new name) of columns that hold the same values, where only one of each side does."""
    if before.rows != after.rows or not before.rows:
        return []
    old, new = {column.name for column in before.columns}, {column.name for column in after.columns}
    gone = {c.name: _sum(before, n) for n, c in enumerate(before.columns) if c.name not in new}
    come = {c.name: _sum(after, n) for n, c in enumerate(after.columns) if c.name not in old} if gone else {}
    pairs = []
    for name, values in gone.items():
        same = [other for other, its in come.items() if its == values]
        if len(same) == 1 and list(gone.values()).count(values) == 1:
            pairs.append((name, same[0]))
    return pairs


def _sum(loaded: Loaded, number: int) -> Any:
    """The same for two columns that hold the same values in the same rows."""
    query = f"SELECT sum(CAST(hash({loaded.text(number)}, rowid) AS HUGEINT)) FROM {loaded.table}"
    return DB.execute(query).fetchall()


def _key(before: Loaded, after: Loaded, pairs: list[tuple[int, int]]) -> int | None:
    """The place in `pairs` of a column that tells rows apart in both files."""
    likely = [place for place, (old, _) in enumerate(pairs) if _KEY_LIKE.fullmatch(before.columns[old].name)]
    first = [0] if pairs[0] == (0, 0) else []
    for place in [*likely[:KEYS_TRIED], *first]:
        old, new = pairs[place]
        if _is_unique(before, old) and _is_unique(after, new):
            return place
    return None


def _is_unique(loaded: Loaded, number: int) -> bool:
    text = loaded.text(number)
    return DB.execute(f"SELECT count(DISTINCT {text}) = count(*) FROM {loaded.table}").fetchall() == [(True,)]


def _by_key(before: Loaded, after: Loaded, pairs: list[tuple[int, int]], place: int) -> dict[str, Any]:
    # `key` differs where a row is on one side only; `changed` lists the columns in which both sides differ.
    old, new = pairs[place]
    rest = [pair for number, pair in enumerate(pairs) if number != place]
    a, b = _side(before, [old, *(one for one, _ in rest)]), _side(after, [new, *(other for _, other in rest)])
    joined = f"{a} AS a FULL JOIN {b} AS b ON a.v0 = b.v0"
    differing = " OR ".join(f"a.v{n} IS DISTINCT FROM b.v{n}" for n in range(1, len(pairs))) or "false"
    both = "a.v0 IS NOT NULL AND b.v0 IS NOT NULL"
    each = "".join(f", count(*) FILTER ({both} AND a.v{n} IS DISTINCT FROM b.v{n})" for n in range(1, len(pairs)))
    [counts] = DB.execute(
        f"SELECT count(*) FILTER (a.v0 IS NULL), count(*) FILTER (b.v0 IS NULL), "
        f"count(*) FILTER ({both} AND ({differing})){each} FROM {joined}"
    ).fetchall()
    names = [after.columns[other].name for _, other in (pairs[place], *rest)]
    shown = range(min(len(names), CELLS))
    examples = {
        "added": _rows(f"{joined} WHERE a.v0 IS NULL ORDER BY b.v0", [f"b.v{n}" for n in shown]),
        "removed": _rows(f"{joined} WHERE b.v0 IS NULL ORDER BY a.v0", [f"a.v{n}" for n in shown]),
        "changed": _changes(f"{joined} WHERE {both} AND ({differing}) ORDER BY a.v0", names),
    }
    return {
        "key": names[0], "added": counts[0], "removed": counts[1], "changed": counts[2], "columns": names[: len(shown)],
        "by_column": [[name, count] for name, count in zip(names[1:], counts[3:], strict=True) if count], **_named(examples),
    }  # fmt: skip


def _as_bags(before: Loaded, after: Loaded, pairs: list[tuple[int, int]]) -> dict[str, Any]:
    a, b = _side(before, [old for old, _ in pairs]), _side(after, [new for _, new in pairs])
    names = [after.columns[new].name for _, new in pairs]
    shown = [f"v{number}" for number in range(min(len(names), CELLS))]
    gone, come = (f"(SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other})" for one, other in ((a, b), (b, a)))
    [(removed,)] = DB.execute(f"SELECT count(*) FROM {gone}").fetchall()
    [(added,)] = DB.execute(f"SELECT count(*) FROM {come}").fetchall()
    examples = {"added": _rows(come, shown), "removed": _rows(gone, shown), "changed": []}
    return {
        "key": None, "added": added, "removed": removed, "changed": None, "columns": names[: len(shown)], "by_column": [],
        **_named(examples),
    }  # fmt: skip


def _side(loaded: Loaded, numbers: list[int]) -> str:
    taken = ", ".join(f"{loaded.text(number)} AS v{place}" for place, number in enumerate(numbers))
    return f"(SELECT {taken} FROM {loaded.table})"


def _rows(source: str, cells: list[str]) -> list[list[str | None]]:
    taken = ", ".join(f"left({cell}, {CELL_CHARACTERS + 1})" for cell in cells)
    return [list(row) for row in DB.execute(f"SELECT {taken} FROM {source} LIMIT {EXAMPLES}").fetchall()]


def _changes(source: str, names: list[str]) -> list[list[Any]]:
    """[key, [[column, before, after], …]] of a few rows."""
    if len(names) == 1:
        return []
    pairs = ", ".join(
        f"left(a.v{n}, {CELL_CHARACTERS + 1}), left(b.v{n}, {CELL_CHARACTERS + 1}), a.v{n} IS DISTINCT FROM b.v{n}"
        for n in range(1, len(names))
    )
    found = []
    for row in DB.execute(
        f"SELECT left(a.v0, {CELL_CHARACTERS + 1}), {pairs} FROM {source} LIMIT {EXAMPLES}"
    ).fetchall():
        cells = [[name, row[3 * n + 1], row[3 * n + 2]] for n, name in enumerate(names[1:]) if row[3 * n + 3]]
        found.append([row[0], cells[:CELLS]])
    return found


def _named(examples: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}_rows": rows for name, rows in examples.items()}
