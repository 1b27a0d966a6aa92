"""Search: assets by what they are called, what is said about them, and their cards, in both languages.

What bears the words in its names comes first, then what bears them in its names and descriptions, then what bears them
anywhere; within each, the newest first. Every word must be there. This order needs no weights and no statistics, is the
same on every database, and stays as it is under the reader's feet while pages are turned.

The database finds rows by terms (terms.py): SQLite in an FTS5 table, PostgreSQL in a GIN index. Labels say beforehand
which assets the reader may hope to see, so that nobody waits for rows that are not for them; the rule of the policy
still decides about each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import Field
from sqlalchemy import Boolean, ColumnElement, Select, Text, and_, cast, column, literal, not_, table
from sqlalchemy.dialects.postgresql import TSQUERY

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Page, Paged, Read, read
from gongqi.resources.hub.assets import ID, AssetOut, Kind
from gongqi.resources.hub.models import Asset, Catalogued
from gongqi.resources.hub.policy import hoped_for
from gongqi.resources.hub.terms import Needle, label, needles_of

ASKED = 200  # characters of a question; a line
VALUE = 100  # characters of a label's value
COLUMNS = ("names", "about", "card")  # each holds the one before it
_CURSOR = re.compile(r"([0-2])-([0-9]{1,18})")

_fts = table("catalogue_terms", column("rowid"), column("catalogue_terms"))


class SearchAssets(Paged):
    """`q` is any words in any language; the others are exact. What is left out does not matter."""

    q: str = Field("", max_length=ASKED)
    kind: Kind | None = None
    org: str | None = Field(None, max_length=ID)
    license: str | None = Field(None, max_length=VALUE)
    openness: str | None = Field(None, max_length=VALUE)
    task: str | None = Field(None, max_length=VALUE)
    language: str | None = Field(None, max_length=VALUE)
    library: str | None = Field(None, max_length=VALUE)
    tag: str | None = Field(None, max_length=VALUE)


@read("hub:asset:search")
def search_assets(ctx: Read, input: SearchAssets) -> Page[AssetOut]:
    exact = input.model_dump(exclude={"q", "limit", "cursor"}, exclude_none=True)
    return search(ctx, input, words=input.q, facts=exact.items())


def search(ctx: Read, paged: Paged, *, words: str, facts: Iterable[tuple[str, str]]) -> Page[AssetOut]:
    """One page of the assets that bear all of `words` and of which all `facts` (label name, value) hold, and that the
    reader may see. Words without a letter are in nothing."""
    needles = needles_of(words)
    if words.strip() and not needles:
        return Page(items=[])
    labels = [label(name, value) for name, value in facts]
    first, after = _started(paged.cursor)
    found: list[tuple[int, int, Asset]] = []
    for tier in range(first, len(COLUMNS) if needles else 1):
        query = _tier(ctx, tier, needles, labels, after=after).limit(paged.limit + 1 - len(found))
        found += [(tier, number, asset) for asset, number in ctx.session.execute(query)]
        after = None
        if len(found) > paged.limit:
            break
    shown = found[: paged.limit]
    more = f"{shown[-1][0]}-{shown[-1][1]}" if len(found) > paged.limit else None
    return Page(items=[AssetOut.model_validate(asset) for _, _, asset in shown], next=more)


def _started(cursor: str | None) -> tuple[int, int | None]:
    if cursor is None:
        return 0, None
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise Refused("kernel.cursor-invalid")
    return int(parts[1]), int(parts[2])


def _tier(
    ctx: Read, tier: int, needles: Sequence[Needle], labels: Sequence[str], *, after: int | None
) -> Select[tuple[Asset, int]]:
    """What bears the needles in this column and not already in the one before."""
    ways = [label(*way) for way in hoped_for(ctx.actor)]
    query = ctx.visible(Asset, to="hub:asset:read").join(Catalogued, Catalogued.asset == Asset.id)
    number: ColumnElement[int] = Catalogued.number
    if needles or labels or ways:
        if ctx.kernel.db.is_sqlite:
            number = _fts.c.rowid
            query = query.join(_fts, number == Catalogued.number)
            query = query.where(_fts.c.catalogue_terms.op("MATCH")(_on_sqlite(tier, needles, labels, ways)))
        else:
            query = query.where(_on_postgresql(tier, needles, labels, ways))
    if after is not None:
        query = query.where(number < after)
    return query.add_columns(number).order_by(number.desc())


def _on_sqlite(tier: int, needles: Sequence[Needle], labels: Sequence[str], ways: Sequence[str]) -> str:
    """A question in the language of FTS5; no term can hold a quotation mark."""
    parts = []
    if needles:
        words = " AND ".join(f'"{" ".join(each.terms)}"' + " *" * each.is_begun for each in needles)
        here = [f"{{{name}}} : ({words})" for name in COLUMNS[max(0, tier - 1) : tier + 1]]
        parts.append(" NOT ".join(f"({each})" for each in reversed(here)))
    for either in (*([each] for each in labels), *([ways] if ways else ())):
        parts.append("{labels} : (" + " OR ".join(f'"{each}"' for each in either) + ")")
    return " AND ".join(f"({part})" for part in parts)


def _on_postgresql(
    tier: int, needles: Sequence[Needle], labels: Sequence[str], ways: Sequence[str]
) -> ColumnElement[bool]:
    """The same as conditions on the columns that the GIN index covers."""
    clauses = []
    if needles:
        words = " & ".join("(" + " <-> ".join(f"'{t}'" for t in each.terms) + ":*" * each.is_begun + ")" for each in needles)
        clauses.append(_holds(COLUMNS[tier], words))
        clauses += [not_(_holds(name, words)) for name in COLUMNS[:tier][-1:]]
    for either in (*([each] for each in labels), *([ways] if ways else ())):
        clauses.append(_holds("labels", " | ".join(f"'{each}'" for each in either)))
    return and_(*clauses)


def _holds(column_name: str, question: str) -> ColumnElement[bool]:
    return getattr(Catalogued, column_name).op("@@", return_type=Boolean())(cast(literal(question, Text()), TSQUERY))
