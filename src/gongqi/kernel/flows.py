"""Flows: durable multi-step work that survives kill -9 at any line.

A flow is a plain function `f(run, **payload)` whose effects go through `run`. Each step has a name; its JSON output is
recorded once and replayed when the function runs again, so after a crash the function is simply called anew and
fast-forwards to where it was.

* `run.write(name, work)` commits the step's rows and its record in one transaction: exactly once.
* `run.call(name, work)` reaches outside (network, files, processes); it may run again after a crash, so the outside is
  handed `(flow, step)` as an idempotency key.
* `run.sleep`, `run.wait`: timers and events. While it waits a flow holds no thread.

One row is the lease, the timer and the queue: a flow is due when `wake_at` has come. Claiming it moves `wake_at` one
lease ahead and raises `attempt`; a heartbeat keeps moving it. Every record checks `owner` and `attempt` in the same
transaction (fencing), so a worker that was paused and overtaken can write nothing any more.

Prior art: Procrastinate's SQL queue, DBOS's recorded steps, Temporal's replay.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from sqlalchemy import ForeignKey, Index, UniqueConstraint, delete, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from gongqi.kernel.db import Base, Json
from gongqi.kernel.errors import Broken, GongqiError, Refused
from gongqi.kernel.events import EventRow
from gongqi.kernel.ids import mint

if TYPE_CHECKING:
    from gongqi.kernel.room import Kernel
    from gongqi.kernel.verbs import Write

LEASE_SECONDS = 30.0  # a crashed worker's flow is taken over after this long
HEARTBEAT_SECONDS = 10.0  # three beats a lease: two may be missed
POLL_SECONDS = 1.0  # how late a timer, or a flow started by another process, may be noticed
BACKOFF_SECONDS = (1, 2, 5, 15, 60, 120, 240, 300)
MAX_FAILURES = len(BACKOFF_SECONDS) + 1  # about twelve minutes of trying
MAX_STEPS = 10_000
DELIVERY = "kernel.deliver"
MAX_DELIVERIES = 32

log = structlog.get_logger("gongqi.flows")

# Called with a name at each boundary that a crash could fall on. The crash tests put a SIGKILL here.
boundary: Callable[[str], None] = lambda _name: None  # noqa: E731


class FlowRow(Base):
    """One flow. `state`: open, done, dead. Payload and outputs are JSON and hold ids rather than personal data."""

    __tablename__ = "flow"
    __table_args__ = (UniqueConstraint("kind", "key"), Index(None, "state", "wake_at"), Index(None, "waits_for"))

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    key: Mapped[str]
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(default="open")
    wake_at: Mapped[datetime]
    owner: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    waits_for: Mapped[str | None]
    woken_by: Mapped[str | None]  # the event that ended a wait: found by its id, however wrong a clock was
    error: Mapped[str | None]
    output: Mapped[Any | None] = mapped_column(Json)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class StepRow(Base):
    """The recorded output of one step: what makes replay skip it."""

    __tablename__ = "flow_step"

    flow_id: Mapped[str] = mapped_column(ForeignKey("flow.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    output: Mapped[Any | None] = mapped_column(Json)
    at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class Flow:
    """A kind of flow. `run(run, **payload)`; the name is part of every idempotency key, so it never changes."""

    kind: str
    run: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Starts flow `kind` once per slot of `every_seconds`, whoever notices first."""

    kind: str
    every_seconds: int


@dataclass(frozen=True, slots=True)
class Again:
    """Returned by an endless flow: forget the steps and run anew after a pause (or when nudged)."""

    after_seconds: float


class _Suspended(BaseException):
    """Leaves the flow function to wait; a BaseException so that domain code cannot swallow it."""

    def __init__(self, until: datetime | None) -> None:
        self.until = until  # None: the step has already parked the flow itself


class _Fenced(BaseException):
    """Another worker owns this flow now; whatever this one was about to record is void."""


def start(ctx: Write, kind: str, *, key: str, payload: Mapping[str, Any], delay_seconds: float = 0) -> str:
    """Start flow `kind` in the caller's transaction. The same (kind, key) starts once for ever; returns the flow's id."""
    existing = ctx.session.scalar(select(FlowRow.id).where(FlowRow.kind == kind, FlowRow.key == key))
    if existing:
        return existing
    row = _new_row(kind, key, payload, ctx.now, delay_seconds)
    ctx.session.add(row)
    ctx.after_commit.add("")
    return row.id


def start_delivery(ctx: Write, event: str, handler: str) -> None:
    """Start the delivery of a new event to one handler; nobody else can know its id, so it cannot have started."""
    payload = {"event": event, "handler": handler}
    ctx.session.add(_new_row(DELIVERY, f"{event}:{handler}", payload, ctx.now))


def _new_row(kind: str, key: str, payload: Mapping[str, Any], now: datetime, delay_seconds: float = 0) -> FlowRow:
    wake_at = now + timedelta(seconds=delay_seconds)
    return FlowRow(id=mint("flow", now), kind=kind, key=key, payload=dict(payload), wake_at=wake_at, created_at=now)


def wake_waiters(session: Session, waits_for: str, now: datetime, *, event: str) -> None:
    values = {"wake_at": now, "waits_for": None, "woken_by": event}
    session.execute(
        update(FlowRow)
        .where(FlowRow.waits_for == waits_for, FlowRow.state == "open")
        .values(values)
        .execution_options(synchronize_session=False)
    )


class Run:
    """What a flow function holds: its recorded steps, and the only ways to act."""

    def __init__(self, kernel: Kernel, row: FlowRow, steps: dict[str, Any]) -> None:
        self.kernel = kernel
        self.id = row.id
        self.kind = row.kind
        self.created_at = row.created_at
        self.ended = False
        self._owner = row.owner
        self._attempt = row.attempt
        self._steps = steps

    def write(self, name: str, work: Callable[[Write], Any], *, last: bool = False) -> Any:
        """Run `work` in a transaction that also records the step: exactly once. `last` ends the flow with it."""
        if name in self._steps:
            return self._steps[name]
        boundary(f"before {name}")

        def transaction(ctx: Write) -> Any:
            self.fence(ctx.session)
            output = _as_json(work(ctx))
            if last:
                self.set(ctx.session, state="done", output=output, owner=None, error=None, finished_at=ctx.now)
            else:
                self._record(ctx.session, name, output, ctx.now)
            boundary(f"inside {name}")
            return output

        output = self.kernel.transact(transaction, reason=f"{self.id}:{name}")
        self._steps[name] = output
        self.ended = last
        boundary(f"after {name}")
        return output

    def call(self, name: str, work: Callable[[str], Any]) -> Any:
        """Run `work(idempotency_key)`, which may touch the outside, then record its output: at least once."""
        if name in self._steps:
            return self._steps[name]
        boundary(f"before {name}")
        output = _as_json(work(f"{self.id}:{name}"))
        boundary(f"inside {name}")

        def transaction(session: Session) -> None:
            self.fence(session)
            self._record(session, name, output, self.kernel.clock.now())

        self.kernel.db.write(transaction)
        self._steps[name] = output
        boundary(f"after {name}")
        return output

    def sleep(self, name: str, seconds: float) -> None:
        """Continue after `seconds`, counted from the first time this line was reached."""
        now = self.kernel.clock.now()
        until = self.call(f"{name}:until", lambda _key: (now + timedelta(seconds=seconds)).isoformat())
        if self.kernel.clock.now() < datetime.fromisoformat(until):
            raise _Suspended(datetime.fromisoformat(until))

    def wait(self, name: str, event_kind: str, subject: str, *, timeout_seconds: float) -> dict[str, Any] | None:
        """The payload of the first event of this kind about `subject` since the flow began; None at the time-out."""
        if name in self._steps:
            return self._steps[name]
        now = self.kernel.clock.now()
        deadline = datetime.fromisoformat(
            self.call(f"{name}:deadline", lambda _key: (now + timedelta(seconds=timeout_seconds)).isoformat())
        )

        def look(session: Session) -> tuple[bool, Any]:
            self.fence(session)
            woken_by = select(FlowRow.woken_by).where(FlowRow.id == self.id).scalar_subquery()
            event = session.scalar(
                select(EventRow)
                .where(EventRow.kind == event_kind, EventRow.subject == subject)
                .where(or_(EventRow.emitted_at >= self.created_at, EventRow.id == woken_by))
                .order_by(EventRow.emitted_at, EventRow.id)
                .limit(1)
            )
            if event is None and self.kernel.clock.now() < deadline:
                self.set(session, waits_for=f"{event_kind} {subject}", wake_at=deadline, owner=None)
                return False, None
            payload = event.payload if event else None
            self._record(session, name, payload, self.kernel.clock.now())
            return True, payload

        arrived, payload = self.kernel.db.write(look)
        if not arrived:
            raise _Suspended(None)
        self._steps[name] = payload
        return payload

    def fence(self, session: Session) -> None:
        """Renew the lease in this transaction, or stop: someone else has taken the flow over."""
        lease = self.kernel.clock.now() + timedelta(seconds=LEASE_SECONDS)
        held = session.execute(
            update(FlowRow)
            .where(FlowRow.id == self.id, FlowRow.owner == self._owner, FlowRow.attempt == self._attempt)
            .where(FlowRow.state == "open")
            .values(wake_at=lease)
            .execution_options(synchronize_session=False)
        )
        if held.rowcount != 1:  # type: ignore[attr-defined]
            raise _Fenced

    def set(self, session: Session, **values: Any) -> None:
        changed = update(FlowRow).where(FlowRow.id == self.id).values(values)
        session.execute(changed.execution_options(synchronize_session=False))

    def _record(self, session: Session, name: str, output: Any, now: datetime) -> None:
        if len(self._steps) >= MAX_STEPS:
            raise Broken("kernel.flow-too-long", flow=self.id, limit=MAX_STEPS)
        session.add(StepRow(flow_id=self.id, name=name, output=output, at=now))


def _as_json(output: Any) -> Any:
    """The output as a replay will see it, so that no flow depends on whether it was interrupted."""
    return orjson.loads(orjson.dumps(output))


class Worker:
    """Threads that claim due flows and run them; one per server process, as many processes as one likes."""

    def __init__(self, kernel: Kernel, *, threads: int = 2) -> None:
        self.kernel = kernel
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._nudged: set[str] = set()
        self._missed: set[str] = set()  # kinds nudged while they may have been running
        self._lock = threading.Lock()
        self._running: dict[str, Run] = {}
        self._slots: dict[str, int] = {}
        self._threads = [
            threading.Thread(target=self._loop, name=f"flows-{number}", daemon=True) for number in range(threads)
        ] + [threading.Thread(target=self._beat, name="flows-heartbeat", daemon=True)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Stop claiming and let running steps end; what does not end in time is taken over after its lease."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout_seconds)

    def nudge(self, kinds: set[str]) -> None:
        """New work was committed; `kinds` name sleeping endless flows to run now ('' means: just look)."""
        with self._lock:
            self._nudged |= kinds - {""}
        self._wake.set()

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
                self._wake.wait(POLL_SECONDS)
                self._wake.clear()

    def _once(self) -> bool:
        self._tick_schedules()
        with self._lock:
            nudged, self._nudged = self._nudged, set()
            self._missed |= nudged
        now = self.kernel.clock.now()
        if nudged:
            self.kernel.db.write(
                lambda session: session.execute(
                    update(FlowRow)
                    .where(FlowRow.kind.in_(nudged), FlowRow.state == "open", FlowRow.owner.is_(None))
                    .values(wake_at=now)
                )
            )
        due = select(FlowRow.id).where(FlowRow.state == "open", FlowRow.wake_at <= now).limit(1)
        with self.kernel.db.reading() as session:
            if session.scalar(due) is None:
                return False
        claimed = self.kernel.db.write(self._claim, isolation="READ COMMITTED")
        runs = [Run(self.kernel, row, steps) for row, steps in claimed]
        with self._lock:
            self._running |= {run.id: run for run in runs}
        try:
            for run, (row, _steps) in zip(runs, claimed, strict=True):
                self._advance(run, row)
                with self._lock:
                    del self._running[run.id]
        finally:  # should the database fail us half-way, the heartbeat must let go of the rest
            with self._lock:
                for run in runs:
                    self._running.pop(run.id, None)
        return bool(claimed)

    def _claim(self, session: Session) -> list[tuple[FlowRow, dict[str, Any]]]:
        """Take the flow that is due first; when that is a delivery, which is short, take a batch of them."""
        now = self.kernel.clock.now()
        due = (
            select(FlowRow)
            .where(FlowRow.state == "open", FlowRow.wake_at <= now)
            .order_by(FlowRow.wake_at)
            .with_for_update(skip_locked=True)
        )
        rows = list(session.scalars(due.limit(1)))
        if rows and rows[0].kind == DELIVERY:
            others = due.where(FlowRow.kind == DELIVERY, FlowRow.id != rows[0].id)
            rows += session.scalars(others.limit(MAX_DELIVERIES - 1))
        steps: dict[str, dict[str, Any]] = {row.id: {} for row in rows}
        for step in session.scalars(select(StepRow).where(StepRow.flow_id.in_(steps))):
            steps[step.flow_id][step.name] = step.output
        for row in rows:
            row.owner, row.attempt, row.waits_for = self.name, row.attempt + 1, None
            row.wake_at = now + timedelta(seconds=LEASE_SECONDS)
        session.flush()
        session.expunge_all()
        return [(row, steps[row.id]) for row in rows]

    def _advance(self, run: Run, row: FlowRow) -> None:
        with self._lock:
            self._missed.discard(row.kind)
        try:
            boundary(f"claimed {row.kind}")
            flow = self.kernel.house.flows.get(row.kind)
            if flow is None:
                raise Broken("kernel.flow-unknown", kind=row.kind)
            output = flow.run(run, **row.payload)
        except _Fenced:
            log.info("flow was taken over", flow=row.id, kind=row.kind)
        except _Suspended as suspended:
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
                boundary(f"finishing {row.kind}")
                now = self.kernel.clock.now()
                self._close(run, state="done", output=output, owner=None, error=None, finished_at=now)

    def _beat(self) -> None:
        while not self._stopping.wait(HEARTBEAT_SECONDS):
            with self._lock:
                running = list(self._running.values())
            for run in running:
                try:
                    self.kernel.db.write(run.fence)
                except _Fenced:
                    continue  # it has just ended; or it was taken over, which its own next record will find
                except Exception as error:  # a missed beat is what the lease allows for
                    log.warning("flow heartbeat failed", flow=run.id, error=repr(error))

    def _close(self, run: Run, *, again: bool = False, **values: Any) -> None:
        def transaction(session: Session) -> None:
            run.fence(session)
            if again:
                session.execute(delete(StepRow).where(StepRow.flow_id == run.id))
            run.set(session, **values)

        try:
            self.kernel.db.write(transaction)
        except _Fenced:
            log.info("flow was taken over", flow=run.id, kind=run.kind)

    def _repeat_missed_nudge(self, kind: str) -> None:
        """A nudge that came while the flow ran could not move it; now that it rests, it can."""
        with self._lock:
            missed = kind in self._missed
            if missed:
                self._nudged.add(kind)
        if missed:
            self._wake.set()

    def _failure(self, row: FlowRow, error: Exception) -> dict[str, Any]:
        """A refusal will not get better by itself: dead letter. Anything else is tried again, later and later."""
        now = self.kernel.clock.now()
        failures = row.failures + 1
        code = error.code if isinstance(error, GongqiError) else type(error).__name__
        values: dict[str, Any] = {"owner": None, "failures": failures, "error": f"{code}: {error}"[:2000]}
        if isinstance(error, Refused) or failures >= MAX_FAILURES:
            return values | {"state": "dead", "finished_at": now}
        pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]
        return values | {"wake_at": now + timedelta(seconds=pause)}

    def _tick_schedules(self) -> None:
        now = self.kernel.clock.now()
        for schedule in self.kernel.house.schedules:
            slot = int(now.timestamp()) // schedule.every_seconds
            if self._slots.get(schedule.kind) == slot:
                continue
            key = f"{schedule.kind}@{slot}"

            def begin(session: Session, schedule: Schedule = schedule, key: str = key) -> None:
                if not session.scalar(select(FlowRow.id).where(FlowRow.kind == schedule.kind, FlowRow.key == key)):
                    session.add(_new_row(schedule.kind, key, {}, now))

            self.kernel.db.write(begin)
            self._slots[schedule.kind] = slot


def revive(ctx: Write, flow_id: str) -> None:
    """Put a dead flow back in the queue; its recorded steps stand."""
    row = ctx.session.get(FlowRow, flow_id)
    if row is None or row.state != "dead":
        raise Refused("kernel.flow-not-dead", flow=flow_id)
    row.state, row.failures, row.wake_at, row.finished_at, row.error = "open", 0, ctx.now, None, None
    ctx.after_commit.add("")
