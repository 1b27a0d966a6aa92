"""Where the chunks of xorbs are: in which files, from which byte on.

A Xet client remembers what it has sent, and the next time it only names it. So what was brought stays known after it has
become plain files: a xorb's chunks are listed when it comes, its bytes are held until extents of files cover them, and
from then on the files are where they are read. All this is within one space, the asset that they were brought to: what
is named there can never reach the bytes of another.

Invariants
- A xorb that is known is whole: each of its chunks is in an extent, or the xorb is held as it came.
- An extent lies in a blob that has a row; when the row goes, so do its extents (quotas.py), and xorbs that they covered.
- A space that loses a xorb gets another generation, which is part of its address: the client's memory goes by address,
  so it forgets what we have lost.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import undefer

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read, Write
from gongqi.resources.hub.models import Asset, Extent, ReceivedXorb, XorbSpace
from gongqi.resources.hub.xet.chunks import Chunks
from gongqi.resources.hub.xet.hashes import parse_hash
from gongqi.resources.hub.xet.xorbs import Xorb

FIRST = 1  # generation
HELD_DAYS = 3  # a client names its xorbs when it has sent the last one: longer than 64 GiB take on a slow line
BATCH = 500  # xorbs lost in one transaction

Span = tuple[str, int, int]
"""A xorb and the chunks [start, end) in it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Chunks [start, end) are in this blob from `offset` on."""

    start: int
    end: int
    sha256: str
    offset: int


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A known xorb, the file that holds it as it came, and the blobs that hold parts of it as they are."""

    xorb: Xorb
    held: str | None
    places: tuple[Place, ...]


def generation_of(ctx: Read, space: str) -> int:
    row = ctx.session.get(XorbSpace, space)
    return row.generation if row else FIRST


def open_space(ctx: Read, space: str, generation: int) -> Asset:
    """The asset of a space to which the actor may bring bytes.

    Raises Refused: access.*, hub.xet-space-renewed when its address is another by now.
    """
    asset = ctx.find(Asset, space, to="hub:blob:add")
    if generation != generation_of(ctx, space):
        raise renewed()
    return asset


def renewed(detail: str | None = None) -> Refused:
    return Refused("hub.xet-space-renewed", detail=detail)


def held_bytes(ctx: Read, org: str) -> int:
    """What the xorbs that are held for an organisation take on disk; they count towards its quota until they go."""
    total = select(func.sum(ReceivedXorb.size)).join(Asset, Asset.id == ReceivedXorb.space)
    return int(ctx.session.scalar(total.where(ReceivedXorb.held > "", Asset.org == org)) or 0)


def find(ctx: Read, space: str, name: str) -> Whereabouts | None:
    whole = [undefer(column) for column in (ReceivedXorb.hashes, ReceivedXorb.ends, ReceivedXorb.places)]
    row = ctx.session.get(ReceivedXorb, (space, name), options=whole)
    if row is None:
        return None
    known = select(Extent).where(Extent.space == space, Extent.xorb == name).order_by(Extent.start, Extent.end.desc())
    places = tuple(Place(each.start, each.end, each.sha256, each.offset) for each in ctx.session.scalars(known))
    chunks = Chunks(row.hashes, _numbers(row.ends))
    return Whereabouts(Xorb(parse_hash(name), chunks, _numbers(row.places)), row.held, places)


def is_known(ctx: Read, space: str, name: str) -> bool:
    return ctx.session.get(ReceivedXorb, (space, name)) is not None


def spans_in(ctx: Read, space: str, sha256: str) -> set[Span]:
    """What of the space's xorbs is known to be in this blob."""
    query = select(Extent.xorb, Extent.start, Extent.end).where(Extent.sha256 == sha256, Extent.space == space)
    return {(xorb, start, end) for xorb, start, end in ctx.session.execute(query)}


def note(ctx: Write, space: str, sha256: str, offsets: dict[Span, int]) -> list[str]:
    """Note where spans of xorbs begin in a blob; returns the held files that are not needed any more.

    Raises Refused hub.xet-space-renewed when one of the xorbs was lost since it was looked up.
    """
    rows = [ctx.session.get(ReceivedXorb, (space, name)) for name in sorted({name for name, _, _ in offsets})]
    if None in rows:
        raise renewed("a xorb was lost while a file was made of it")
    known = spans_in(ctx, space, sha256)
    fresh = [
        {"space": space, "xorb": xorb, "start": start, "end": end, "sha256": sha256, "offset": offset}
        for (xorb, start, end), offset in offsets.items()
        if (xorb, start, end) not in known
    ]
    if fresh:
        ctx.session.execute(insert(Extent), fresh)
    freed = []
    for row in filter(None, rows):
        if row.held and _is_covered(ctx, row):
            freed.append(row.held)
            row.held = None
    ctx.session.flush()
    return freed


def forget(ctx: Write, sha256: str) -> None:
    """Nothing is read from this blob any more; xorbs that are not whole without it are lost."""
    query = select(Extent.space, Extent.xorb).where(Extent.sha256 == sha256).distinct()
    touched = ctx.session.execute(query).all()
    ctx.session.execute(delete(Extent).where(Extent.sha256 == sha256))
    lost: defaultdict[str, list[str]] = defaultdict(list)
    for space, name in touched:
        row = ctx.session.get_one(ReceivedXorb, (space, name))
        if not row.held and not _is_covered(ctx, row):
            lost[space].append(name)
    for space, names in lost.items():
        lose(ctx, space, names)


def expire(ctx: Write, *, now: datetime) -> int:
    """Lose some xorbs that have been held for too long; returns how many."""
    old = (ReceivedXorb.held > "", ReceivedXorb.at < now - timedelta(days=HELD_DAYS))
    lost: defaultdict[str, list[str]] = defaultdict(list)
    for space, name in ctx.session.execute(select(ReceivedXorb.space, ReceivedXorb.name).where(*old).limit(BATCH)):
        lost[space].append(name)
    for space, names in lost.items():
        lose(ctx, space, names)
    return sum(map(len, lost.values()))


def lose(ctx: Write, space: str, names: Collection[str]) -> None:
    """Know these xorbs no more, and let the space's clients forget what they have sent."""
    for name in names:
        ctx.session.execute(delete(Extent).where(Extent.space == space, Extent.xorb == name))
        ctx.session.execute(delete(ReceivedXorb).where(ReceivedXorb.space == space, ReceivedXorb.name == name))
    row = ctx.session.get(XorbSpace, space) or ctx.add(XorbSpace(asset=space, generation=FIRST))
    row.generation += 1
    ctx.session.flush()


def is_held(ctx: Read, file: str) -> bool:
    return ctx.session.scalar(select(ReceivedXorb.name).where(ReceivedXorb.held == file).limit(1)) is not None


def _is_covered(ctx: Read, row: ReceivedXorb) -> bool:
    spans = select(Extent.start, Extent.end).where(Extent.space == row.space, Extent.xorb == row.name)
    return next(holes(((start, end) for start, end in ctx.session.execute(spans)), row.chunks), None) is None


def holes(spans: Iterable[tuple[int, int]], count: int) -> Iterator[tuple[int, int]]:
    """What spans [start, end) leave out of [0, count), as spans."""
    reached = 0
    for start, end in sorted(spans):
        if start > reached:
            yield reached, start
        reached = max(reached, end)
    if reached < count:
        yield reached, count


def _numbers(packed: bytes) -> array[int]:
    numbers = array("Q")
    numbers.frombytes(packed)
    return numbers
