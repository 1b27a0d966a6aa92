"""kill -9 in the middle of a load: what was acknowledged is there, and the book is true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from gongqi.books.ledger import replay, rules
from gongqi.books.ledger.models import Transaction
from gongqi.kernel.db import Database

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


@pytest.mark.crash
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
