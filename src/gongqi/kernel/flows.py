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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from sqlalchemy import ForeignKey, Index, UniqueConstraint, bindparam, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from gongqi.kernel.db import Base, Json
from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.events import EventRow
from gongqi.kernel.ids import mint

if TYPE_CHECKING:
    from gongqi.kernel.room import Kernel
    from gongqi.kernel.verbs import Write

LEASE_SECONDS = 30.0  # a crashed worker's flow is taken over after this long
HEARTBEAT_SECONDS = 10.0  # three beats a lease: two may be missed
POLL_SECONDS = 1.0  # how late a timer, or a flow started by another process, may be noticed
MAX_CRASHES = 50  # deaths of the process that held it: more than restarts explain, so the flow is the likely cause
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


# Built once: making a statement costs more than running it, and these run at every step and event.
_RENEW = (
    update(FlowRow)
    .where(FlowRow.id == bindparam("flow"), FlowRow.owner == bindparam("holder"), FlowRow.attempt == bindparam("turn"))
    .where(FlowRow.state == "open")
    .values(wake_at=bindparam("lease"))
    .execution_options(synchronize_session=False)
)
_WAKE = (
    update(FlowRow)
    .where(FlowRow.waits_for == bindparam("waited_for"), FlowRow.state == "open")
    .values(wake_at=bindparam("now"), waits_for=None, woken_by=bindparam("event"))
    .execution_options(synchronize_session=False)
)


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


class Suspended(BaseException):
    """Leaves the flow function to wait; a BaseException so that domain code cannot swallow it."""

    def __init__(self, until: datetime | None) -> None:
        self.until = until  # None: the step has already parked the flow itself


class Fenced(BaseException):
    """Another worker owns this flow now; whatever this one was about to record is void."""


def start(ctx: Write, kind: str, *, key: str, payload: Mapping[str, Any], delay_seconds: float = 0) -> str:
    """Start flow `kind` in the caller's transaction. The same (kind, key) starts once for ever; returns the flow's id."""
    existing = ctx.session.scalar(select(FlowRow.id).where(FlowRow.kind == kind, FlowRow.key == key))
    if existing:
        return existing
    row = new_row(kind, key, payload, ctx.now, delay_seconds)
    ctx.session.add(row)
    ctx.after_commit.add("")
    return row.id


def start_delivery(ctx: Write, event: str, handler: str) -> None:
    """Start the delivery of a new event to one handler; nobody else can know its id, so it cannot have started."""
    payload = {"event": event, "handler": handler}
    ctx.session.add(new_row(DELIVERY, f"{event}:{handler}", payload, ctx.now))


def new_row(kind: str, key: str, payload: Mapping[str, Any], now: datetime, delay_seconds: float = 0) -> FlowRow:
    wake_at = now + timedelta(seconds=delay_seconds)
    return FlowRow(id=mint("flow", now), kind=kind, key=key, payload=dict(payload), wake_at=wake_at, created_at=now)


def bring_forward(session: Session, now: datetime, *, seconds: float) -> int:
    """Make what waits longer than until `now` wait that much less: the clock was set back by so much while nobody ran.

    What waits for a date is looked at early and goes on waiting. Returns how many flows.
    """
    waiting = (FlowRow.state == "open", FlowRow.wake_at > now)
    rows = session.execute(select(FlowRow.id, FlowRow.wake_at).where(*waiting)).all()
    for id, wake_at in rows:
        earlier = max(wake_at - timedelta(seconds=seconds), now)
        session.execute(update(FlowRow).where(FlowRow.id == id).values(wake_at=earlier))
    return len(rows)


def wake_waiters(session: Session, waits_for: str, now: datetime, *, event: str) -> None:
    session.execute(_WAKE, {"waited_for": waits_for, "now": now, "event": event})


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
            raise Suspended(datetime.fromisoformat(until))

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
            raise Suspended(None)
        self._steps[name] = payload
        return payload

    def fence(self, session: Session) -> None:
        """Renew the lease in this transaction, or stop: someone else has taken the flow over."""
        lease = self.kernel.clock.now() + timedelta(seconds=LEASE_SECONDS)
        claim = {"flow": self.id, "holder": self._owner, "turn": self._attempt}
        held = session.execute(_RENEW, claim | {"lease": lease})
        if held.rowcount != 1:  # type: ignore[attr-defined]
            raise Fenced

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


def revive(ctx: Write, flow_id: str) -> None:
    """Put a dead flow back in the queue; its recorded steps stand."""
    row = ctx.session.get(FlowRow, flow_id)
    if row is None or row.state != "dead":
        raise Refused("kernel.flow-not-dead", flow=flow_id)
    row.state, row.failures, row.wake_at, row.finished_at, row.error = "open", 0, ctx.now, None, None
    ctx.after_commit.add("")
