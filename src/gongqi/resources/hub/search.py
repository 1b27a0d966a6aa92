"""Search: assets by what they are called, what is said about them, and their cards, in both languages.

What bears the words in its names comes first, then what bears them in its names and descriptions, then what bears them
there or in its card; within each, the newest first. Every word must be there. This order needs no weights and no
statistics, is the same on every database, and stays as it is under the reader's feet while pages are turned. Who asks
for what is downloaded most, or was changed last, gets all that fits in that order, as it is at each page.

The database finds rows by terms (terms.py): SQLite in an FTS5 table, PostgreSQL in a GIN index. Labels say beforehand
which assets the reader may hope to see, so that nobody waits for rows that are not for them; the policy then decides
about each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Select,
    Text,
    and_,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    table,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Page, Paged, Read, read
from gongqi.resources.hub.assets import ID, AssetOut, Kind
from gongqi.resources.hub.catalogue import labels_on
from gongqi.resources.hub.models import Asset, Catalogued, Popularity, Ref
from gongqi.resources.hub.policy import hoped_for
from gongqi.resources.hub.rules import MAIN
from gongqi.resources.hub.terms import PLACES, Needle, Phrase, label, needles_of

ASKED = 200  # characters of a question; a line
VALUE = 100  # characters of a label's value
SAMPLE = 200  # assets whose labels are counted beside a search: some 6 ms
_CURSOR = re.compile(r"([0-2])-([0-9]{1,18})")
_SORTED_CURSOR = re.compile(r"s([0-9]{1,18})-([0-9]{1,18})")

Sort = Literal["fit", "downloads", "changed"]
Groups = Sequence[Sequence[Phrase]]

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
    sort: Sort = "fit"


@read("hub:asset:search")
def search_assets(ctx: Read, input: SearchAssets) -> Page[AssetOut]:
    exact = input.model_dump(exclude={"q", "sort", "limit", "cursor"}, exclude_none=True)
    return search(ctx, input, words=input.q, facts=exact.items(), sort=input.sort)


def search(
    ctx: Read, paged: Paged, *, words: str, facts: Iterable[tuple[str, str]], sort: Sort = "fit"
) -> Page[AssetOut]:
    """One page of the assets that bear all of `words` and of which all `facts` (label name, value) hold, and that the
    reader may see. Words without a letter are in nothing."""
    needles = needles_of(words)
    if words.strip() and not needles:
        return Page(items=[])
    labels = [label(name, value) for name, value in facts]
    if sort != "fit":
        return _sorted(ctx, paged, _asked(ctx, len(PLACES) - 1, needles, labels, anywhere=True), sort)
    first, after = _started(paged.cursor)
    found: list[tuple[int, int, Asset]] = []
    for tier in range(first, len(PLACES) if needles else 1):
        question = _asked(ctx, tier, needles, labels)
        for number, asset in _seen(ctx, question, after=after, at_once=paged.limit + 1):
            found.append((tier, number, asset))
            if len(found) > paged.limit:
                shown = found[: paged.limit]
                items = [AssetOut.model_validate(asset) for _, _, asset in shown]
                return Page(items=items, next=f"{shown[-1][0]}-{shown[-1][1]}")
        after = None
    return Page(items=[AssetOut.model_validate(asset) for _, _, asset in found])


@dataclass(frozen=True, slots=True)
class Facets:
    """How often each label is on what fits: by name, (value, count), the most frequent first. `counted` assets were
    looked at, the newest; `is_all` says whether these are all that fit."""

    counts: Mapping[str, Sequence[tuple[str, int]]]
    counted: int
    is_all: bool


def facets(ctx: Read, *, words: str, facts: Iterable[tuple[str, str]]) -> Facets:
    """The labels of what `search` would find, among the first SAMPLE of it: a bounded question, however large the hub."""
    needles, labels = needles_of(words), [label(name, value) for name, value in facts]
    if words.strip() and not needles:
        return Facets({}, 0, True)
    tiers = range(len(PLACES) if needles else 1)
    about = (Asset.id, Asset.kind, Asset.org, Asset.visibility, Asset.gated)  # whole assets would take as long again
    fits = chain.from_iterable(
        _seen(ctx, _asked(ctx, tier, needles, labels), after=None, at_once=SAMPLE + 1, about=about) for tier in tiers
    )
    found = [asset for _, asset in islice(fits, SAMPLE + 1)]
    shown = found[:SAMPLE]
    counts: dict[str, Counter[str]] = {}
    for name, value in labels_on(ctx, shown):
        counts.setdefault(name, Counter())[value] += 1
    ordered = {name: sorted(each.items(), key=lambda pair: (-pair[1], pair[0])) for name, each in counts.items()}
    return Facets(ordered, len(shown), len(found) <= SAMPLE)


def _started(cursor: str | None) -> tuple[int, int | None]:
    if cursor is None:
        return 0, None
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise Refused("kernel.cursor-invalid")
    return int(parts[1]), int(parts[2])


def _asked(ctx: Read, tier: int, needles: Sequence[Needle], labels: Sequence[str], *, anywhere: bool = False) -> Asked:
    """What bears the needles at this place and, unless `anywhere`, not already at the one before."""
    ways = [label(*way) for way in hoped_for(ctx.actor)]
    return Asked(
        here=[needle.at(PLACES[tier]) for needle in needles],
        before=[needle.at(PLACES[tier - 1]) for needle in needles] if tier and not anywhere else [],
        exact=[[Phrase((each,))] for each in labels] + ([[Phrase((way,)) for way in ways]] if ways else []),
    )


def _seen(
    ctx: Read, asked: Asked, *, after: int | None, at_once: int, about: Sequence[Any] = ()
) -> Iterator[tuple[int, Any]]:
    """(number, asset) of what fits and the reader may see, newest first; of each asset all, or the columns `about`."""
    while True:
        hits = ctx.session.execute(_hits(ctx, asked, after=after).limit(at_once)).all()
        query = ctx.visible(Asset, to="hub:asset:read").where(Asset.id.in_([asset for _, asset in hits]))
        rows = ctx.session.execute(query.with_only_columns(*about)) if about else ctx.session.scalars(query)
        visible = {row.id: row for row in rows}
        yield from ((number, visible[asset]) for number, asset in hits if asset in visible)
        if len(hits) < at_once:
            return
        after = hits[-1][0]


def _hits(ctx: Read, asked: Asked, *, after: int | None) -> Select[int, str]:
    """(number, asset) of what fits, newest first."""
    number, _, query = _fitting(ctx, asked)
    if after is not None:
        query = query.where(number < after)
    return query.order_by(number.desc())


def _fitting(ctx: Read, asked: Asked) -> tuple[ColumnElement[int], ColumnElement[str], Select[int, str]]:
    """The number and the asset of what fits, and the question that both stand in."""
    number, asset = Catalogued.number.expression, Catalogued.asset.expression
    if not (asked.here or asked.exact):
        return number, asset, select(number, asset)
    if ctx.kernel.db.is_sqlite:
        number = _fts.c.rowid
        query = select(number, asset).join(Catalogued, Catalogued.number == number)
        return number, asset, query.where(_fts.c.catalogue_terms.op("MATCH")(_FTS5.question(asked)))
    # The planner does not know what it costs to unpack the terms of a row, and would read all rows one by one.
    ctx.session.execute(text("SET LOCAL enable_seqscan = off"))
    question = cast(literal(_TSQUERY.question(asked), Text()), TSQUERY)
    fits = select(number, asset).where(Catalogued.terms.op("@@", return_type=Boolean())(question))
    hits = fits.cte("hits").prefix_with("MATERIALIZED")
    return hits.c.number, hits.c.asset, select(hits.c.number, hits.c.asset)


# --- by how often, or how lately --------------------------------------------------------------------------------------


def _sorted(ctx: Read, paged: Paged, asked: Asked, sort: Sort) -> Page[AssetOut]:
    """What fits, greatest first; what is equal, newest first."""
    after = _sorted_after(paged.cursor)
    found: list[tuple[int, int, Asset]] = []
    while True:
        hits = ctx.session.execute(_ranked(ctx, asked, sort, after=after).limit(paged.limit + 1)).all()
        rows = ctx.session.scalars(
            ctx.visible(Asset, to="hub:asset:read").where(Asset.id.in_([hit[1] for hit in hits]))
        )
        visible = {row.id: row for row in rows}
        found += [(rank, number, visible[asset]) for number, asset, rank in hits if asset in visible]
        if len(found) > paged.limit:
            rank, number, _ = found[paged.limit - 1]
            items = [AssetOut.model_validate(asset) for _, _, asset in found[: paged.limit]]
            return Page(items=items, next=f"s{rank}-{number}")
        if len(hits) <= paged.limit:
            return Page(items=[AssetOut.model_validate(asset) for _, _, asset in found])
        after = (hits[-1][2], hits[-1][0])


def _ranked(ctx: Read, asked: Asked, sort: Sort, *, after: tuple[int, int] | None) -> Select[int, str, int]:
    """(number, asset, rank) of what fits."""
    number, asset, query = _fitting(ctx, asked)
    if sort == "downloads":
        rank = func.coalesce(Popularity.recent, 0)
        query = query.outerjoin(Popularity, Popularity.asset == asset)
    else:
        is_head = and_(Ref.asset == asset, Ref.kind == "branch", Ref.name == MAIN)
        rank = func.coalesce(type_coerce(Ref.at, BigInteger), 0)
        query = query.outerjoin(Ref, is_head)
    if after is not None:
        query = query.where(or_(rank < after[0], and_(rank == after[0], number < after[1])))
    return query.add_columns(rank).order_by(rank.desc(), number.desc())


def _sorted_after(cursor: str | None) -> tuple[int, int] | None:
    if cursor is None:
        return None
    parts = _SORTED_CURSOR.fullmatch(cursor)
    if parts is None:
        raise Refused("kernel.cursor-invalid")
    return int(parts[1]), int(parts[2])


# --- how a full-text index is asked -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What must be there, what must not all be there, and the labels: of each group one phrase will do."""

    here: Groups
    before: Groups
    exact: Groups


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a full-text index is asked. No term holds a quotation mark of either kind."""

    all: str
    any: str
    but: str
    phrase: Callable[[Phrase], str]

    def question(self, asked: Asked) -> str:
        wanted = self._each(asked.here)
        if asked.before:
            wanted = f"({wanted}{self.but}({self._each(asked.before)}))"
        return self.all.join(filter(None, (wanted, self._each(asked.exact))))

    def _each(self, groups: Groups) -> str:
        return self.all.join(f"({self.any.join(map(self.phrase, group))})" for group in groups)


_FTS5 = Dialect(" AND ", " OR ", " NOT ", lambda each: f'"{" ".join(each.terms)}"' + " *" * each.is_begun)
_TSQUERY = Dialect(
    " & ",
    " | ",
    " & !",
    lambda each: "(" + " <-> ".join(f"'{term}'" for term in each.terms) + ":*" * each.is_begun + ")",
)
