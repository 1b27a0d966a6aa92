"""Workers: the threads that claim due flows, run them, beat for them and close them (see `flows` for the idea), and do
the chores of their process."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from gongqi.kernel import flows
from gongqi.kernel.db import UtcTime
from gongqi.kernel.errors import Broken, GongqiError, Refused
from gongqi.kernel.flows import Again, Fenced, FlowRow, Run, StepRow, Suspended, new_row

if TYPE_CHECKING:
    from gongqi.kernel.room import Kernel

# Built once: making a statement costs more than running it, and these run at every look.
_NOW = bindparam("now", type_=UtcTime)
_DUE = select(FlowRow.id).where(FlowRow.state == "open", FlowRow.wake_at <= _NOW).limit(1)
_SLEEPS = (
    FlowRow.kind.in_(bindparam("kinds", expanding=True)),
    FlowRow.state == "open",
    FlowRow.owner.is_(None),
    FlowRow.wake_at > _NOW,
)
_ASLEEP = select(FlowRow.id).where(*_SLEEPS).limit(1)
_IN_TURN = (
    select(FlowRow)
    .where(FlowRow.state == "open", FlowRow.wake_at <= _NOW)
    .order_by(FlowRow.wake_at)
    .with_for_update(skip_locked=True)
)
_FIRST = _IN_TURN.limit(1)
_OTHER_DELIVERIES = _IN_TURN.where(
    FlowRow.kind == flows.DELIVERY, FlowRow.id != bindparam("first"), FlowRow.owner.is_(None)
).limit(flows.MAX_DELIVERIES - 1)
_STEPS = select(StepRow).where(StepRow.flow_id.in_(bindparam("flows", expanding=True)))
_BEGUN = select(FlowRow.key).where(
    FlowRow.kind.in_(bindparam("kinds", expanding=True)), FlowRow.key.in_(bindparam("keys", expanding=True))
)
_ROUSE = update(FlowRow).where(*_SLEEPS).values(wake_at=_NOW).execution_options(synchronize_session=False)

PACE_SECONDS = 0.05  # between two looks for work while nudges keep coming

log = structlog.get_logger("gongqi.flows")


class Worker:
    """Threads that claim due flows and run them; one per server process, as many processes as one likes."""

    def __init__(self, kernel: Kernel, *, threads: int = 2) -> None:
        self.kernel = kernel
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._bell = threading.Condition()
        self._rung = False
        self._looked_at = 0.0
        self._stopping = threading.Event()
        self._nudged: set[str] = set()
        self._missed: set[str] = set()  # kinds nudged while they may have been running
        self._lock = threading.Lock()
        self._running: set[Run] = set()  # runs, not flows: one that was overtaken is still here when it is claimed anew
        self._slots: dict[str, int] = {}
        self._threads = [
            threading.Thread(target=self._loop, name=f"flows-{number}", daemon=True) for number in range(threads)
        ] + [
            threading.Thread(target=self._beat, name="flows-heartbeat", daemon=True),
            threading.Thread(target=self._do_chores, name="chores", daemon=True),
        ]

    def start(self) -> None:
        self.release_dead()
        for thread in self._threads:
            thread.start()

    def release_dead(self) -> int:
        """Make due at once what workers of this machine held when they died, so that a restart need not wait out their
        leases. Returns how many flows. Should a process merely look dead, fencing keeps it from writing."""
        with self.kernel.db.reading() as session:
            owners = set(session.scalars(select(FlowRow.owner).where(FlowRow.owner.is_not(None)).distinct()))
        dead = [owner for owner in owners if owner and _is_dead(owner)]
        if not dead:
            return 0
        now = self.kernel.clock.now()
        held = update(FlowRow).where(FlowRow.owner.in_(dead), FlowRow.state == "open").values(wake_at=now)
        return self.kernel.db.write(lambda session: session.execute(held).rowcount)  # type: ignore[attr-defined]

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Stop claiming and let running steps end; what does not end in time is taken over after its lease."""
        self._stopping.set()
        with self._bell:
            self._bell.notify_all()
        for thread in self._threads:
            thread.join(timeout_seconds)

    def nudge(self, kinds: set[str]) -> None:
        """New work was committed; `kinds` name sleeping endless flows to run now ('' means: just look)."""
        with self._lock:
            self._nudged |= kinds - {""}
        self._ring()

    def run_until_idle(self, *, limit: int = 10_000) -> int:
        """Run everything that is due now on the calling thread; returns how many claims that took."""
        for count in range(limit):
            if not self._once():
                return count
        return limit

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                worked = self._once()
            except Exception as error:  # the flow loop: one of the two places that may catch everything
                log.error("flow loop failed", error=repr(error))
                worked = False
            if not worked:
                self._rest()

    def _ring(self) -> None:
        """Have one thread look for work: a resting one, or the next that comes to rest."""
        with self._bell:
            self._rung = True
            self._bell.notify()

    def _rest(self) -> None:
        """Until the bell rings or the poll is due. While it keeps ringing, looks keep a distance: each costs about as
        much as the verb that rang."""
        with self._bell:
            if not self._rung and not self._stopping.is_set():
                self._bell.wait(flows.POLL_SECONDS)
            self._rung = False
        self._stopping.wait(max(0.0, self._looked_at + PACE_SECONDS - time.monotonic()))

    def _once(self) -> bool:
        self._looked_at = time.monotonic()
        self._tick_schedules()
        with self._lock:
            nudged, self._nudged = self._nudged, set()
            self._missed |= nudged
        now = self.kernel.clock.now()
        if not self._is_anything_due(nudged, now):
            return False
        self._ring()  # for what else may be due while this thread is at work
        claimed = self.kernel.db.write(self._claim, isolation="READ COMMITTED")
        runs = [Run(self.kernel, row, steps) for row, steps in claimed]
        with self._lock:
            self._running.update(runs)
        try:
            for run, (row, _steps) in zip(runs, claimed, strict=True):
                self._advance(run, row)
                with self._lock:
                    self._running.discard(run)
        finally:  # should the database fail us half-way, the heartbeat must let go of the rest
            with self._lock:
                self._running.difference_update(runs)
        return bool(claimed)

    def _is_anything_due(self, nudged: set[str], now: datetime) -> bool:
        """Looks first, for most nudges find their flow awake already; makes sleeping flows of these kinds due now."""
        with self.kernel.db.reading() as session:
            known = {"now": now, "kinds": list(nudged)}
            if not nudged or session.scalar(_ASLEEP, known) is None:
                return session.scalar(_DUE, known) is not None
        self.kernel.db.write(lambda session: session.execute(_ROUSE, known))
        return True

    def _claim(self, session: Session) -> list[tuple[FlowRow, dict[str, Any]]]:
        """Take the flow that is due first; when that is a delivery, which is short, take a batch of them."""
        now = self.kernel.clock.now()
        rows = list(session.scalars(_FIRST, {"now": now}))
        if rows and rows[0].kind == flows.DELIVERY and rows[0].owner is None:
            # One whose worker died is taken alone: were it the cause, it would take the others down with it.
            rows += session.scalars(_OTHER_DELIVERIES, {"now": now, "first": rows[0].id})
        steps: dict[str, dict[str, Any]] = {row.id: {} for row in rows}
        for step in session.scalars(_STEPS, {"flows": list(steps)}):
            steps[step.flow_id][step.name] = step.output
        for row in rows:
            if row.owner is not None:  # its lease ran out: that worker died, or was stopped for very long
                row.failures += 1
            row.owner, row.attempt, row.waits_for = self.name, row.attempt + 1, None
            row.wake_at = now + timedelta(seconds=flows.LEASE_SECONDS)
        session.flush()
        session.expunge_all()
        return [(row, steps[row.id]) for row in rows]

    def _advance(self, run: Run, row: FlowRow) -> None:
        with self._lock:
            self._missed.discard(row.kind)
        try:
            if row.failures >= flows.MAX_CRASHES:
                raise Broken("kernel.flow-kills", flow=row.id, times=row.failures)
            flows.boundary(f"claimed {row.kind}")
            flow = self.kernel.house.flows.get(row.kind)
            if flow is None:
                raise Broken("kernel.flow-unknown", kind=row.kind)
            output = flow.run(run, **row.payload)
        except Fenced:
            log.info("flow was taken over", flow=row.id, kind=row.kind)
        except Suspended as suspended:
            if suspended.until:
                self._close(run, owner=None, wake_at=suspended.until, failures=0)
        except Exception as error:  # the flow loop: any failure becomes a retry or a dead letter
            log.warning("flow step failed", flow=row.id, kind=row.kind, error=repr(error), exc_info=error)
            self._close(run, **self._failure(row, error))
        else:
            if isinstance(output, Again):
                wake_at = self.kernel.clock.now() + timedelta(seconds=output.after_seconds)
                self._close(run, again=True, owner=None, wake_at=wake_at, failures=0, error=None)
                self._repeat_missed_nudge(row.kind)
            elif not run.ended:
                flows.boundary(f"finishing {row.kind}")
                now = self.kernel.clock.now()
                self._close(run, state="done", output=output, owner=None, error=None, finished_at=now)

    def _beat(self) -> None:
        while not self._stopping.wait(flows.HEARTBEAT_SECONDS):
            with self._lock:
                running = list(self._running)
            for run in running:
                try:
                    self.kernel.db.write(run.fence)
                except Fenced:
                    continue  # it has just ended; or it was taken over, which its own next record will find
                except Exception as error:  # a missed beat is what the lease allows for
                    log.warning("flow heartbeat failed", flow=run.id, error=repr(error))

    def _do_chores(self) -> None:
        """Each chore when it is due, and all once more at the end."""
        due = {chore: time.monotonic() + chore.every_seconds for chore in self.kernel.house.chores}
        while due:
            stopping = self._stopping.wait(max(0.0, min(due.values()) - time.monotonic()))
            for chore in [chore for chore, at in due.items() if stopping or at <= time.monotonic()]:
                try:
                    chore.run(self.kernel)
                except Exception as error:  # its next turn is its second try
                    log.warning("chore failed", chore=chore.name, error=repr(error), exc_info=error)
                due[chore] = time.monotonic() + chore.every_seconds
            if stopping:
                return

    def _close(self, run: Run, *, again: bool = False, **values: Any) -> None:
        def transaction(session: Session) -> None:
            run.fence(session)
            if again:
                session.execute(delete(StepRow).where(StepRow.flow_id == run.id))
            run.set(session, **values)

        try:
            self.kernel.db.write(transaction)
        except Fenced:
            log.info("flow was taken over", flow=run.id, kind=run.kind)

    def _repeat_missed_nudge(self, kind: str) -> None:
        """A nudge that came while the flow ran could not move it; now that it rests, it can."""
        with self._lock:
            missed = kind in self._missed
            if missed:
                self._nudged.add(kind)
        if missed:
            self._ring()

    def _failure(self, row: FlowRow, error: Exception) -> dict[str, Any]:
        """A refusal will not get better by itself: dead letter. Anything else is tried again, later and later."""
        now = self.kernel.clock.now()
        failures = row.failures + 1
        code = error.code if isinstance(error, GongqiError) else type(error).__name__
        values: dict[str, Any] = {"owner": None, "failures": failures, "error": f"{code}: {error}"[:2000]}
        if isinstance(error, Refused) or failures >= flows.MAX_FAILURES:
            return values | {"state": "dead", "finished_at": now}
        pause = flows.BACKOFF_SECONDS[min(failures, len(flows.BACKOFF_SECONDS)) - 1]
        return values | {"wake_at": now + timedelta(seconds=pause)}

    def _tick_schedules(self) -> None:
        """Start what has a new slot; all at once, for after a restart that is everything."""
        now = self.kernel.clock.now()
        slots = {each.kind: int(now.timestamp()) // each.every_seconds for each in self.kernel.house.schedules}
        new = {f"{kind}@{slot}": kind for kind, slot in slots.items() if self._slots.get(kind) != slot}

        def begin(session: Session) -> None:
            begun = set(session.scalars(_BEGUN, {"kinds": list(new.values()), "keys": list(new)}))
            session.add_all(new_row(kind, key, {}, now) for key, kind in new.items() if key not in begun)

        if new:
            self.kernel.db.write(begin)
            self._slots = slots


def _is_dead(owner: str) -> bool:
    """Whether a worker's name `host:pid:…` is of this machine and its process is gone."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # to be refused, it must be there
    return False
