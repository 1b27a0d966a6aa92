"""A town whose errands are interrupted: a real kernel in processes of its own, made to be killed.

Run as a script, it is a zygote: it imports once, then forks a process for each line of JSON it is told, so that a crash
costs milliseconds. `trial` runs one errand on a clock that jumps to whatever is due next, and dies at the `kill_at`-th
boundary; `work` is a server's worker on the real clock; `kill` sends SIGKILL to one and buries it.

The errand uses everything a flow has: rows with evidence, an event with a delivery, a call outside, a timer, another
flow, a wait. The outside is a file of the keys it was asked with; like any good outside it acts once per key.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from children import serve
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel import flows
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.events import Event, Handler
from gongqi.kernel.flows import Flow, FlowRow, Run
from gongqi.kernel.room import House, Kernel, Room
from gongqi.kernel.verbs import Entry, Write
from gongqi.kernel.worker import Worker

RESTART_SECONDS = 3600  # the clock of a restarted trial is later than any lease of its predecessor
MAX_ROUNDS = 2000
OUTSIDE: list[Path] = []


class Parcel(Base):
    """What an errand leaves in the town: one row per deed."""

    __tablename__ = "town_parcel"

    id: Mapped[str] = mapped_column(primary_key=True)
    errand: Mapped[str] = mapped_column(index=True)
    deed: Mapped[str]


class Seen(Base):
    """The town's evidence."""

    __tablename__ = "town_seen"

    id: Mapped[str] = mapped_column(primary_key=True)
    errand: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    parcel: Mapped[str]


@dataclass(frozen=True, slots=True)
class Booked(Event):
    kind: ClassVar[str] = "town.booked.v1"
    errand: str

    @property
    def subject(self) -> str:
        return self.errand


@dataclass(frozen=True, slots=True)
class Answered(Event):
    kind: ClassVar[str] = "town.answered.v1"
    errand: str
    words: str

    @property
    def subject(self) -> str:
        return self.errand


def see(ctx: Write, entry: Entry) -> None:
    ctx.add(Seen(id=entry.id, errand=entry.subject, kind=entry.kind, parcel=entry.facts["parcel"]))


def leave(ctx: Write, errand: str, deed: str) -> str:
    parcel = ctx.add(Parcel(id=ctx.new_id("parcel"), errand=errand, deed=deed))
    ctx.record(errand, kind=f"town.{deed}", parcel=parcel.id)
    return deed


def ask_outside(key: str) -> str:
    """One line a call, written at once; the reader counts each key as one deed."""
    handle = os.open(OUTSIDE[0], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{key}\n".encode())
    os.close(handle)
    return key.partition(":")[2]


def errand(run: Run, errand: str) -> list[Any]:
    def book(ctx: Write) -> str:
        ctx.emit(Booked(errand=errand))
        ctx.start_flow("town.answer", key=errand, delay_seconds=0.2, errand=errand)
        return leave(ctx, errand, "booked")

    booked = run.write("book", book)
    sent = run.call("send", ask_outside)
    run.sleep("nap", 0.1)
    answer = run.wait("answer", Answered.kind, errand, timeout_seconds=1_000_000)
    closed = run.write("close", lambda ctx: leave(ctx, errand, "closed"))
    return [booked, sent, answer and answer["words"], closed]


def answer(run: Run, errand: str) -> None:
    words = run.call("think", ask_outside)

    def say(ctx: Write) -> None:
        leave(ctx, errand, "answered")
        ctx.emit(Answered(errand=errand, words=words))

    run.write("say", say, last=True)


def slow(run: Run, errand: str) -> None:
    """Stands in its step until somebody makes the file `go`."""

    def stand(key: str) -> None:
        ask_outside(key)
        OUTSIDE[0].with_name("entered").touch()
        while not OUTSIDE[0].with_name("go").exists():
            time.sleep(0.01)

    run.call("stand", stand)
    run.write("put", lambda ctx: leave(ctx, errand, "put"))


HOUSE = House.build(
    [
        Room(
            "town",
            Path(__file__).parent / "no-words-needed",
            handlers=(Handler(Booked, "town.greet", lambda ctx, event: leave(ctx, event.errand, "greeted") and None),),
            flows=(Flow("town.errand", errand), Flow("town.answer", answer), Flow("town.slow", slow)),
        )
    ],
    Vocabulary({}),
)


def kernel_on(order: dict[str, Any], clock: FixedClock | None = None) -> Kernel:
    OUTSIDE[:] = [Path(order["outside"])]
    settings = Settings.from_environment({"GONGQI_HOME": str(OUTSIDE[0].parent), "GONGQI_DATABASE_URL": order["url"]})
    database = Database(settings.database_url)
    return Kernel(settings, HOUSE, database, FolderBlobs(settings.home / "blobs"), record=see, clock=clock)


def prepare(order: dict[str, Any]) -> None:
    kernel = kernel_on(order)
    Base.metadata.create_all(kernel.db.writer)
    for kind, name in order.get("start", ()):
        kernel.transact(lambda ctx, kind=kind, name=name: ctx.start_flow(kind, key=name, errand=name), reason="start")


def trial(order: dict[str, Any], tell: Callable[[str], None]) -> None:
    """Drive one errand to its end, or die at the `kill_at`-th boundary."""
    clock = FixedClock()
    clock.advance(seconds=RESTART_SECONDS * order["life"])
    kernel = kernel_on(order, clock)
    name = order["errand"]
    kernel.transact(lambda ctx: ctx.start_flow("town.errand", key=name, errand=name), reason="start")
    crossing = itertools.count(1)

    def boundary(at: str) -> None:
        tell(at)
        if next(crossing) == order.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    flows.boundary = boundary
    worker = Worker(kernel, threads=0)
    for _ in range(MAX_ROUNDS):
        worker.run_until_idle()
        with kernel.db.reading() as session:
            due = session.scalar(select(func.min(FlowRow.wake_at)).where(FlowRow.state == "open"))
        if due is None:
            return
        if due <= clock.now():
            time.sleep(0.005)  # PostgreSQL has not yet noticed that our predecessor is dead
        else:
            clock.advance(seconds=(due - clock.now()).total_seconds())
    raise SystemExit("the errand does not end")


def work(order: dict[str, Any]) -> None:
    flows.LEASE_SECONDS, flows.HEARTBEAT_SECONDS, flows.POLL_SECONDS = 1.0, 0.2, 0.05
    kernel = kernel_on(order)
    worker = Worker(kernel, threads=2)
    kernel.nudge = worker.nudge
    worker.start()
    signal.pause()


if __name__ == "__main__":
    serve(prepare, trial, work)
