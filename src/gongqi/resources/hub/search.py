"""Search: assets by what they are called, what is said about them, and their cards, in both languages.

What bears the words in its names comes first, then what bears them in its names and descriptions, then what bears them
there or in its card; within each, the newest first. Every word must be there. This order needs no weights and no
statistics, is the same on every database, and stays as it is under the reader's feet while pages are turned.

The database finds rows by terms (terms.py): SQLite in an FTS5 table, PostgreSQL in a GIN index. Labels say beforehand
which assets the reader may hope to see, so that nobody waits for rows that are not for them; the rule of the policy
still decides about each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from sqlalchemy import Boolean, Select, Text, cast, column, literal, table
from sqlalchemy.dialects.postgresql import TSQUERY

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Page, Paged, Read, read
from gongqi.resources.hub.assets import ID, AssetOut, Kind
from gongqi.resources.hub.models import Asset, Catalogued
from gongqi.resources.hub.policy import hoped_for
from gongqi.resources.hub.terms import PLACES, Needle, Phrase, label, needles_of

ASKED = 200  # characters of a question; a line
VALUE = 100  # characters of a label's value
_CURSOR = re.compile(r"([0-2])-([0-9]{1,18})")

Asked = Sequence[Sequence[Phrase]]  # of each, one

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
    for tier in range(first, len(PLACES) if needles else 1):
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
) -> Select[Asset, int]:
    """What bears the needles at this place and not already at the one before, newest first."""
    query = ctx.visible(Asset, to="hub:asset:read").join(Catalogued, Catalogued.asset == Asset.id)
    number: Any = Catalogued.number
    here, before, exact = _asked(ctx, tier, needles, labels)
    if ctx.kernel.db.is_sqlite and (here or exact):
        number = _fts.c.rowid
        query = query.join(_fts, number == Catalogued.number)
        query = query.where(_fts.c.catalogue_terms.op("MATCH")(_FTS5.question(here, before, exact)))
    elif here or exact:
        question = cast(literal(_TSQUERY.question(here, before, exact), Text()), TSQUERY)
        query = query.where(Catalogued.terms.op("@@", return_type=Boolean())(question))
    if after is not None:
        query = query.where(number < after)
    return query.add_columns(number).order_by(number.desc())


def _asked(ctx: Read, tier: int, needles: Sequence[Needle], labels: Sequence[str]) -> tuple[Asked, Asked, Asked]:
    """What must be there, what must not all be there, and the labels."""
    here = [needle.at(PLACES[tier]) for needle in needles]
    before = [needle.at(PLACES[tier - 1]) for needle in needles] if tier else []
    ways = [label(*way) for way in hoped_for(ctx.actor)]
    exact = [[Phrase((each,))] for each in labels] + ([[Phrase((way,)) for way in ways]] if ways else [])
    return here, before, exact


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a full-text index is asked. No term holds a quotation mark of either kind."""

    all: str
    any: str
    but: str
    phrase: Callable[[Phrase], str]

    def question(self, here: Asked, before: Asked, exact: Asked) -> str:
        wanted = f"({self._each(here)}{self.but}({self._each(before)}))" if before else self._each(here)
        return self.all.join(filter(None, (wanted, self._each(exact))))

    def _each(self, asked: Asked) -> str:
        return self.all.join(f"({self.any.join(map(self.phrase, either))})" for either in asked)


_FTS5 = Dialect(" AND ", " OR ", " NOT ", lambda each: f'"{" ".join(each.terms)}"' + " *" * each.is_begun)
_TSQUERY = Dialect(
    " & ",
    " | ",
    " & !",
    lambda each: "(" + " <-> ".join(f"'{term}'" for term in each.terms) + ":*" * each.is_begun + ")",
)
