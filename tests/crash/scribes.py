"""Scribes who keep the evidence log and are made to be killed: real kernels in processes of their own.

Run as a script, it is a zygote: it imports once, then forks a process for each line of JSON it is told. `trial`
appends entries, then runs the sequencer on a clock later than any lease of its predecessor and dies at the `kill_at`-th
boundary; `work` appends without end while a server's worker sequences; `kill` sends SIGKILL to one and buries it. An
entry is told to the file `acknowledged` only after its commit.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from children import serve
from sqlalchemy import select

from gongqi.books.evidence import service
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.room import ROOM
from gongqi.kernel import flows
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import Clock, FixedClock, SystemClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.flows import FlowRow
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.worker import Worker

RESTART_SECONDS = 3600
MAX_ROUNDS = 2000
HOUSE = House.build([ROOM], Vocabulary({}))


def kernel_on(order: dict[str, Any], clock: Clock | None = None) -> Kernel:
    settings = Settings.from_environment({"GONGQI_HOME": order["home"], "GONGQI_DATABASE_URL": order["url"]})
    database = Database(settings.database_url)
    blobs = FolderBlobs(settings.home / "blobs")
    kernel = Kernel(settings, HOUSE, database, blobs, record=service.append, clock=clock)
    kernel.parts[SigningKeys] = SigningKeys.load_or_generate(settings.home / "keys")
    return kernel


def prepare(order: dict[str, Any]) -> None:
    kernel = kernel_on(order)
    Base.metadata.create_all(kernel.db.writer)
    kernel.transact(service.ensure, reason="start")


def append(kernel: Kernel, number: int) -> None:
    entry = kernel.transact(
        lambda ctx: ctx.record(f"thing_{number}", kind="test.done", private={"n": number}, n=number), reason="append"
    )
    with (kernel.settings.home / "acknowledged").open("a") as file:
        file.write(f"{entry}\n")


def trial(order: dict[str, Any], tell: Callable[[str], None]) -> None:
    clock = FixedClock(SystemClock().now())
    clock.advance(seconds=RESTART_SECONDS * order["life"])
    kernel = kernel_on(order, clock)
    for number in range(order["entries"]):
        append(kernel, number)
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
            if session.scalar(select(FlowRow.owner)) is None and session.scalar(select(FlowRow.wake_at)) > clock.now():
                return
        time.sleep(0.005)  # PostgreSQL has not yet noticed that our predecessor is dead
    raise SystemExit("the sequencer does not rest")


def work(order: dict[str, Any]) -> None:
    flows.LEASE_SECONDS, flows.HEARTBEAT_SECONDS, flows.POLL_SECONDS = 1.0, 0.2, 0.05
    kernel = kernel_on(order)
    worker = Worker(kernel, threads=1)
    kernel.nudge = worker.nudge
    worker.start()
    for number in itertools.count():
        try:
            append(kernel, number)
        except Unavailable:
            time.sleep(0.01)


if __name__ == "__main__":
    serve(prepare, trial, work)
