"""Settlement: what the data planes wrote down becomes usage records and money, each call exactly once.

A batch is a stretch of a spool file. In one transaction: the mark of that spool moves behind the stretch, the records
become rows, their costs go on tabs, the whole units of the tabs are charged in the ledger, leases that are given back
end. So whatever is killed, a stretch is settled wholly or not at all; and a call's id is its key, so that even a record
that is there twice is settled once.

A spool is a file on one machine, and a flow may run on any. So this is not a flow: of the processes that serve on one
home, one settles the spools of all, on a thread, for as long as it holds the lock of the settlement; when it dies
another takes its place. That a data plane is dead is told by the lock of its spool. What it had under way is then ended
by the last record of each call, which says what holds in that event (`plane.call`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import orjson
import structlog
from sqlalchemy import ARRAY, String, any_, bindparam, func, select

from gongqi.kernel.db import insert_rows
from gongqi.kernel.errors import Broken
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Write
from gongqi.resources.serving import metering
from gongqi.resources.serving.leases import charge_lease, end_leases, end_leases_of, periods
from gongqi.resources.serving.models import KeySpend, Lease, SpoolMark, Usage
from gongqi.resources.serving.months import SUMS, add_sums
from gongqi.resources.serving.plane import spool
from gongqi.resources.serving.traces import Traces

SPOOL = "spool"  # folder in the home
BATCH_BYTES = 2 << 20  # some 5,000 records: a tenth of a second of the only writer
SETTLE_SECONDS = 1.0  # how far the books may lag behind a quiet data plane
TAKE_OVER_SECONDS = 5.0  # between two looks whether whoever settles is gone
RETRY_SECONDS = 2.0
_COLUMNS = [column.name for column in Usage.__table__.columns]
RECORD_FIELDS = _COLUMNS.index("masked") + 1  # what the plane writes; who pays, and the evidence, the settlement adds
ORG, KEY, ROUTE, ENDING, UNIT, COST, LEASE = map(
    _COLUMNS.index, ("org", "key", "route", "ending", "unit", "cost_nanos", "lease")
)
_LATER = (  # what records do not say that were written before 0024 (`tier`), 0037 (`repeats`), 0041 (`masked`)
    metering.GENERAL, None, 0,
)  # fmt: skip
TOKENS = slice(_COLUMNS.index("input_tokens"), _COLUMNS.index("output_tokens") + 1)

Record = list[Any]
log = structlog.get_logger("gongqi.serving.settlement")

_listed = func.json_each(bindparam("ids", type_=String)).table_valued("value")
_KNOWN = {
    "sqlite": select(Usage.id).where(Usage.id.in_(select(_listed.c.value))),
    "postgresql": select(Usage.id).where(Usage.id == any_(bindparam("ids", type_=ARRAY(String)))),
}


def settle_batch(ctx: Write, *, plane: str, segment: int, start: int, end: int, records: Sequence[Record]) -> int:
    """Settle a stretch of a spool; returns how many calls were new. Raises Broken when it is not the next stretch."""
    mark = ctx.session.get(SpoolMark, plane)
    if mark is None:
        mark = ctx.add(SpoolMark(plane=plane, segment=0, offset=0, at=ctx.now))
    is_next = (mark.segment, mark.offset) == (segment, start) or (start == 0 and mark.segment < segment)
    if not is_next:
        raise Broken("serving.spool-mark-differs", plane=plane, segment=segment, offset=start)
    mark.segment, mark.offset, mark.at = segment, end, ctx.now
    fresh = _fresh(ctx, [record[1:] for record in records if record[0] == "e"])
    if fresh:
        _book(ctx, f"{plane}-{segment}-{start}", fresh)
    given_back = [record[1] for record in records if record[0] == "l"]
    if given_back:
        end_leases(ctx, list(ctx.session.scalars(select(Lease).where(Lease.id.in_(given_back)))))
    return len(fresh)


def _fresh(ctx: Write, records: list[Record]) -> list[Record]:
    """Those not settled yet, each id once."""
    sound = {record[0]: record for each in records if len(record := _completed(each)) == RECORD_FIELDS}
    if len(sound) < len(records):
        log.error("records are double or malformed", count=len(records) - len(sound))
    connection = ctx.session.connection()
    dialect = connection.dialect.name
    ids = list(sound)
    known = connection.execute(_KNOWN[dialect], {"ids": orjson.dumps(ids).decode() if dialect == "sqlite" else ids})
    for (id,) in known.all():
        del sound[id]
    return list(sound.values())


def _completed(record: Record) -> Record:
    """With what a spool did not say that was written before a revision."""
    missing = RECORD_FIELDS - len(record)
    return [*record, *_LATER[-missing:]] if 0 < missing <= len(_LATER) else record


def _book(ctx: Write, subject: str, records: list[Record]) -> None:
    digest = hashlib.sha256(orjson.dumps(records)).hexdigest()
    evidence = ctx.record(subject, kind="serving.usage-settled", calls=len(records), records_sha256=digest)
    leases = _locked(ctx, {record[LEASE] for record in records})
    funds = _locked(ctx, {lease.aid for lease in leases.values()})
    due: dict[str, Counter[str]] = {}
    calls: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    rows = []
    months: dict[tuple[str, str, str], list[int]] = {}
    for record in records:
        lease, own, aid, fund = leases.get(record[LEASE]), record[COST], 0, None
        if lease is not None and own:
            if lease.aid is not None:
                fund = funds[lease.aid].org
                own, aid = metering.shares(own, lease.paid_percent)
                due.setdefault(lease.aid, Counter())[record[ROUTE]] += aid
                calls[lease.aid] += 1
            due.setdefault(lease.id, Counter())[record[ROUTE]] += own
            calls[lease.id] += 1
            spent[record[KEY]] += own
        rows.append((*record, aid, fund, evidence))
        sums = months.setdefault((record[ORG], record[ROUTE], record[UNIT]), [0] * len(SUMS))
        answered = 0 if record[ENDING] == metering.REFUSED else 1
        for place, value in enumerate((answered, *record[TOKENS], record[COST], aid)):
            sums[place] += value
    insert_rows(ctx.session.connection(), Usage, rows)
    for id, lease in sorted((leases | funds).items()):
        if id in due:
            charge_lease(ctx, lease, due[id], evidence=evidence, calls=calls[id])
    for (org, route, unit), added in months.items():
        add_sums(ctx, org, route, unit, added)
    for key, nanos in spent.items():
        for period in periods(ctx):
            row = ctx.session.get(KeySpend, (key, period)) or ctx.add(KeySpend(key=key, period=period, nanos=0))
            row.nanos += nanos
    ctx.session.flush()


def _locked(ctx: Write, ids: set[str | None]) -> dict[str, Lease]:
    wanted = sorted(id for id in ids if id is not None)
    query = select(Lease).where(Lease.id.in_(wanted)).order_by(Lease.id).with_for_update()
    return {lease.id: lease for lease in ctx.session.scalars(query)} if wanted else {}


class Settler:
    """The thread that settles all spools of a home, unless another process does."""

    def __init__(self, kernel: Kernel, root: Path, traces: Traces | None = None) -> None:
        self._kernel = kernel
        self._traces = traces
        self._root = root
        self._lock: IO[str] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="gateway-settlement", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        self._stopping.set()
        self._thread.join(timeout_seconds)

    def finish(self) -> None:
        """After the plane has closed its spool: settle what is left. What cannot be settled now is at the next start."""
        if not self._is_ours():
            return
        try:
            settle_all(self._kernel, self._root, self._traces)
        except Exception as error:  # the database may be away; the spool stays
            log.warning("settlement is left to the next start", error=repr(error))
        finally:
            assert self._lock is not None, "it is ours"
            self._lock.close()

    def _is_ours(self) -> bool:
        """Whether this process is the one that settles; it is from then on until its end."""
        if self._lock is None:
            try:
                self._lock = spool.hold(self._root.with_suffix(".lock"))
            except BlockingIOError:
                return False
        return True

    def _loop(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                if self._is_ours():
                    settle_all(self._kernel, self._root, self._traces)
                    pause = SETTLE_SECONDS
                else:
                    pause = TAKE_OVER_SECONDS
            except Exception as error:  # a thread has nobody above it; what failed is still in the spool
                log.warning("settlement failed and will be tried again", error=repr(error))
                pause = RETRY_SECONDS


def settle_all(kernel: Kernel, root: Path, traces: Traces | None = None) -> None:
    """Settle what is in the spools of the living, and settle and remove those of the dead. One that cannot be settled
    does not keep the others from it; it is raised when they are."""
    failures: list[Exception] = []
    for folder in spool.folders(root):
        try:
            settle(kernel, folder, traces)
        except Exception as error:  # said by whoever asked
            failures.append(error)
    if failures:
        raise ExceptionGroup("spools that cannot be settled", failures)


def settle(kernel: Kernel, folder: Path, traces: Traces | None = None) -> None:
    try:
        lock = spool.hold(folder / "lock")
    except BlockingIOError:
        drain(kernel, folder, traces)
        return
    with lock:
        end_what_was_under_way(folder)
        drain(kernel, folder, traces)
        kernel.transact(lambda ctx: end_leases_of(ctx, folder.name), reason=f"gateway:{folder.name}")
        shutil.rmtree(folder)


def drain(kernel: Kernel, folder: Path, traces: Traces | None = None) -> None:
    """Settle what is in this spool now. What comes meanwhile waits for the next time: settled as it comes, call by call,
    it would keep the books busy with itself."""
    plane = folder.name
    mark = kernel.look(lambda ctx: ctx.session.get(SpoolMark, plane))
    segment, offset = (mark.segment, mark.offset) if mark else (0, 0)
    for number, path in spool.segments(folder):
        if number < segment:
            continue
        if number > segment:
            offset = 0
        while True:
            records, end = spool.read_from(path, offset, BATCH_BYTES)
            if end == offset:
                break
            batch = {"plane": plane, "segment": number, "start": offset, "end": end, "records": records}
            kernel.transact(lambda ctx, batch=batch: settle_batch(ctx, **batch), reason=f"gateway:{plane}:{number}")
            if traces is not None:
                traces.tell(kernel, records)
            is_all = end - offset < BATCH_BYTES - spool.MAX_LINE_BYTES
            segment, offset = number, end
            if is_all:
                break


def end_what_was_under_way(folder: Path) -> int:
    """Write an end for every call that has none: its last record, which says what holds if the process dies after it."""
    last: dict[str, Record] = {}
    number = 0
    for number, path in spool.segments(folder):  # noqa: B007 - the last number is used below
        offset = 0
        while True:
            records, end = spool.read_from(path, offset, BATCH_BYTES)
            if end == offset:
                break
            offset = end
            for record in records:
                if record[0] == "e":
                    last.pop(record[1], None)
                elif record[0] in ("s", "p"):
                    last[record[1]] = record
    if last:
        made = folder / "recovered.tmp"
        with made.open("wb") as file:
            file.writelines(spool.line_of(["e", *record[1:]]) for record in last.values())
            file.flush()
            os.fsync(file.fileno())
        made.rename(folder / f"{number + 1:08d}.log")
        spool.sync_folder(folder)
    return len(last)
