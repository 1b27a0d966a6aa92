"""kill -9 in the middle of a load: what was acknowledged is there, and the book is true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gongqi.books.ledger import replay, rules
from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.models import Transaction
from gongqi.books.ledger.room import ROOM
from gongqi.books.ledger.service import Line
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.db import Database
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.worker import Worker

# Posts, batches, reserves and settles as fast as it can, writing a key to standard output once it is committed.
LOAD = """
import itertools, os, sys, threading
from datetime import timedelta
from pathlib import Path
from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.room import ROOM
from gongqi.books.ledger.service import Draft, Line
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.room import House, Kernel

home, url = sys.argv[1:]
settings = Settings.from_environment({"GONGQI_HOME": home, "GONGQI_DATABASE_URL": url})
kernel = Kernel(settings, House.build([ROOM], Vocabulary({})), Database(url), FolderBlobs(Path(home) / "blobs"),
                record=lambda ctx, entry: None)

def do(work):
    while True:
        try:
            return kernel.transact(work, reason="crash")
        except Unavailable:
            pass

def begin(ctx):
    issuer = ledger.account(ctx, "foundation", "credit", "issued", floor=None)
    a, b = ledger.account(ctx, "org_a", "credit"), ledger.account(ctx, "org_b", "credit")
    ledger.post(ctx, key="begin", kind="test.begin", subject="s", postings=(Line(issuer, -10**9), Line(a, 10**9)))
    return a, b

a, b = do(begin)

def load(thread):
    for number in itertools.count():
        name = f"{thread}-{number}"
        def work(ctx):
            drafts = [Draft(f"{name}-{n}", "test.move", "s", (Line(a, -2), Line(b, 2))) for n in range(number % 4 + 1)]
            ledger.post_many(ctx, drafts)
            later = ctx.now + timedelta(minutes=1)
            hold = ledger.reserve(ctx, key=f"{name}-h", payer=a, amount=5, subject="s", expires_at=later)
            if number % 2:
                ledger.settle(ctx, hold=hold.id, lines=[Line(b, 3)])
            return [draft.key for draft in drafts] + [f"{name}-h"]
        os.write(1, "".join(f"{key}\\n" for key in do(work)).encode())

for thread in range(4):
    threading.Thread(target=load, args=(thread,)).start()
"""


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.parametrize("acknowledged", [1, 60, 400])
def test_what_was_acknowledged_survives_kill_9_and_the_book_is_true(
    database: Database, database_url: str, tmp_path: Path, acknowledged: int
) -> None:
    said = tmp_path / "said"
    errors = tmp_path / "errors"
    with said.open("wb") as out, errors.open("wb") as err:
        command = [sys.executable, "-c", LOAD, str(tmp_path), database_url]
        child = subprocess.Popen(command, stdout=out, stderr=err)
        try:
            deadline = time.monotonic() + 60
            while said.read_bytes().count(b"\n") < acknowledged:
                assert child.poll() is None and time.monotonic() < deadline, errors.read_text()
                time.sleep(0.002)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
    keys = said.read_bytes().decode().split("\n")[:-1]  # a last line without its end was not said
    assert len(keys) >= acknowledged
    with database.reading() as session:
        there = set(session.scalars(select(Transaction.id)))
        assert [key for key in keys if rules.transaction_id(key) not in there] == []
        assert replay.check(session) == []


# Sweeps overdue holds two at a time and kills itself at the boundary named.
SWEEP = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from gongqi.books.ledger import flows as sweep, service as ledger
from gongqi.books.ledger.room import ROOM
from gongqi.kernel import flows, worker
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.room import House, Kernel

home, url, now, last = sys.argv[1:]
settings = Settings.from_environment({"GONGQI_HOME": home, "GONGQI_DATABASE_URL": url})
kernel = Kernel(settings, House.build([ROOM], Vocabulary({})), Database(url), FolderBlobs(Path(home) / "blobs"),
                record=lambda ctx, entry: None, clock=FixedClock(datetime.fromisoformat(now)))
sweep.MAX_EXPIRING = 2
sweep.expire_holds = lambda ctx: ledger.expire_holds(ctx, limit=2)
flows.boundary = lambda name: name == last and os.kill(os.getpid(), signal.SIGKILL)
worker.Worker(kernel).run_until_idle()
"""


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.parametrize("boundary", ["before batch-0", "inside batch-0", "after batch-0", "inside batch-1"])
def test_a_sweep_killed_anywhere_is_finished_by_the_next_and_ends_each_hold_once(
    build: Callable[..., Kernel], clock: Any, database_url: str, tmp_path: Path, boundary: str
) -> None:
    kernel = build(House.build([ROOM], Vocabulary({})), clock=clock)

    def begin(ctx: Any) -> str:
        issuer = ledger.account(ctx, "foundation", "credit", "issued", floor=None)
        payer = ledger.account(ctx, "org_a", "credit")
        ledger.post(ctx, key="begin", kind="test.begin", subject="s", postings=(Line(issuer, -50), Line(payer, 50)))
        later = ctx.now + timedelta(minutes=1)
        for number in range(5):
            ledger.reserve(ctx, key=f"h{number}", payer=payer, amount=10, subject="s", expires_at=later)
        return payer

    payer = kernel.transact(begin, reason="test")
    clock.advance(minutes=2)
    command = [sys.executable, "-c", SWEEP, str(tmp_path), database_url, clock.now().isoformat(), boundary]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    clock.advance(minutes=2)  # past the lease of the one that died
    Worker(kernel).run_until_idle()
    assert kernel.look(lambda ctx: ledger.balance(ctx, payer)) == 50
    with kernel.db.reading() as session:
        assert replay.check(session) == []
        ends = session.scalars(select(Transaction.kind).where(Transaction.kind == "ledger.expire")).all()
    assert len(ends) == 5
