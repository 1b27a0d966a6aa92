"""Downloads are tallied in memory and brought home every few seconds, so that no download waits for a row.

`note` is all that a door calls. Each process brings its tally home by a chore (`bring_home`), many downloads in one
transaction; marks make two processes, or one before and after a restart, count a client once (counting.py says what
counts). A process that is killed loses what it has not brought home, some seconds of downloads. Marks of past days are
forgotten, and days that are no longer recent are added up, by a flow of every hour.

`Popularity` is the sum of `Downloads` over an asset's revisions, kept beside them so that assets can be sorted by it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field
from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from gongqi.kernel.questions import Question
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, Input, Output, Read, Write, read
from gongqi.resources.hub.assets import ID
from gongqi.resources.hub.counting import client_of, day_of, first_recent, is_download, mark_of
from gongqi.resources.hub.models import Asset, DownloadMark, Downloads, Popularity, Revision
from gongqi.resources.hub.tickets import seal_of

if TYPE_CHECKING:
    from starlette.requests import Request

BRING_HOME_SECONDS = 3.0
MAX_HELD = 50_000  # downloads that wait to be brought home; those beyond are not counted
MAX_SEEN = 200_000  # marks that need not be brought home again; some 20 MB
SHOWN_REVISIONS = 100
BATCH = 1_000  # rows in one statement or turn
BEFORE = 0  # the day that stands for all that are no longer recent


class Tally:
    """What this process has given out and not yet brought home: mark → (day, asset, revision)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._day = 0
        self._seen: set[bytes] = set()
        self._held: dict[bytes, tuple[int, str, str]] = {}

    def add(self, day: int, mark: bytes, asset: str, revision: str) -> None:
        with self._lock:
            if day != self._day or len(self._seen) >= MAX_SEEN:
                self._day, self._seen = day, set()
            if mark in self._seen or len(self._held) >= MAX_HELD:
                return
            self._seen.add(mark)
            self._held[mark] = (day, asset, revision)

    def take(self) -> dict[bytes, tuple[int, str, str]]:
        with self._lock:
            held, self._held = self._held, {}
            return held

    def give_back(self, held: Mapping[bytes, tuple[int, str, str]]) -> None:
        with self._lock:
            self._held = {**held, **self._held}


def note(request: Request, caller: Caller, asset: str, revision: str) -> None:
    """Bytes of this revision are being given out."""
    if not is_download(method=request.method, agent=request.headers.get("user-agent", "")):
        return
    kernel: Kernel = request.state.kernel
    actor = None if caller.actor.is_anonymous else caller.actor.id
    day, client = day_of(kernel.clock.now()), client_of(actor=actor, address=caller.address)
    mark = mark_of(seal_of(kernel).over, client=client, asset=asset, day=day)
    kernel.parts.setdefault(Tally, Tally()).add(day, mark, asset, revision)


def bring_home(kernel: Kernel) -> None:
    """Count what this process holds. What cannot be written now is held until it can."""
    tally: Tally | None = kernel.parts.get(Tally)
    held = tally.take() if tally else {}
    if tally and held:
        try:
            kernel.transact(lambda ctx: count(ctx, held), reason="hub.tally")
        except BaseException:
            tally.give_back(held)
            raise


def count(ctx: Write, held: Mapping[bytes, tuple[int, str, str]]) -> None:
    """Add those whose mark is not known yet."""
    dialect: Any = sqlite if ctx.kernel.db.is_sqlite else postgresql
    marking = dialect.insert(DownloadMark).on_conflict_do_nothing().returning(DownloadMark.mark)
    rows = [{"mark": mark, "day": day} for mark, (day, _, _) in sorted(held.items())]
    fresh: Iterable[bytes] = ctx.session.scalars(marking, rows).all()
    counts = Counter(held[mark] for mark in fresh)
    for (day, asset, revision), number in sorted(counts.items()):
        of_day = ctx.session.get(Downloads, (revision, day))
        if of_day is None:
            ctx.add(Downloads(revision=revision, day=day, count=number))
        else:
            of_day.count += number
        in_all = ctx.session.get(Popularity, asset)
        if in_all is None:
            ctx.add(Popularity(asset=asset, recent=number, total=number))
        else:
            in_all.recent += number
            in_all.total += number
        ctx.session.flush()


# --- as days go by ---------------------------------------------------------------------------------------------------


def forget(ctx: Write) -> None:
    """Let go of the marks of past days; those of yesterday may still be on their way home."""
    ctx.session.execute(delete(DownloadMark).where(DownloadMark.day < day_of(ctx.now) - 1))


def fold(ctx: Write) -> bool:
    """Add up some of the days that are no longer recent; whether there may be more."""
    first = first_recent(day_of(ctx.now))
    old = select(Downloads).where(Downloads.day > BEFORE, Downloads.day < first).order_by(Downloads.day).limit(BATCH)
    rows = ctx.session.scalars(old).all()
    for row in rows:
        before = ctx.session.get(Downloads, (row.revision, BEFORE))
        if before is None:
            ctx.add(Downloads(revision=row.revision, day=BEFORE, count=row.count))
        else:
            before.count += row.count
        asset = ctx.session.get_one(Revision, row.revision).asset
        ctx.session.get_one(Popularity, asset).recent -= row.count
        ctx.session.delete(row)
        ctx.session.flush()
    return len(rows) == BATCH


# --- what is told ----------------------------------------------------------------------------------------------------


class GetDownloads(Input):
    asset: str = Field(max_length=ID)


class RevisionDownloads(Output):
    revision: str
    number: int
    recent: int
    total: int


class DownloadsOut(Output):
    """`recent`: in the last 30 days. `revisions`: the newest that were taken at all."""

    asset: str
    recent: int
    total: int
    revisions: list[RevisionDownloads]


@read("hub:download:get")
def get_downloads(ctx: Read, input: GetDownloads) -> DownloadsOut:
    asset = ctx.find(Asset, input.asset, to="hub:asset:read")
    recent = func.sum(Downloads.count).filter(Downloads.day >= first_recent(day_of(ctx.now)))
    query = (
        select(Revision.id, Revision.number, func.coalesce(recent, 0), func.sum(Downloads.count))
        .join(Downloads, Downloads.revision == Revision.id)
        .where(Revision.asset == asset.id)
        .group_by(Revision.id, Revision.number)
        .order_by(Revision.number.desc())
        .limit(SHOWN_REVISIONS)
    )
    each = [
        RevisionDownloads(revision=id, number=number, recent=int(recent), total=int(total))
        for id, number, recent, total in ctx.session.execute(query)
    ]
    in_recent, in_all = downloads_of(ctx, [asset.id])[asset.id]
    return DownloadsOut(asset=asset.id, recent=in_recent, total=in_all, revisions=each)


def downloads_of(ctx: Read, assets: Collection[str]) -> dict[str, tuple[int, int]]:
    """By asset, how often it was downloaded recently and in all. The caller has authorised."""
    rows = ctx.session.execute(
        select(Popularity.asset, Popularity.recent, Popularity.total).where(Popularity.asset.in_(assets))
    )
    known = {asset: (recent, total) for asset, recent, total in rows}
    return {asset: known.get(asset, (0, 0)) for asset in assets}


def downloads_of_one(ctx: Read, asset: str) -> tuple[int, int]:
    """As `downloads_of`, where one asset is described and the answer is waited for."""
    row = _POPULARITY.first(ctx.session, asset=asset)
    return (row.recent, row.total) if row else (0, 0)


_POPULARITY = Question(select(Popularity.recent, Popularity.total).where(Popularity.asset == bindparam("asset")))
