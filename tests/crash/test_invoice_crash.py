"""kill -9 while credit notes are issued: numbers have no gap, and what they say is what the ledger gave back."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gongqi.economy.billing.models import Invoice
from tests.economy.billing.conftest import Office
from tests.sim.desk import open_desk

pytestmark = [pytest.mark.long, pytest.mark.postgres]

CHARGED = 500
ROUNDS = 3
HEARD = 12  # credit notes of a round before it is killed

# Credits one unit at a time from three threads, saying each number once it is committed.
LOAD = """
import os, sys, threading
from pathlib import Path
from gongqi import app
from gongqi.kernel.access import SYSTEM
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, execute

home, url, invoice = sys.argv[1:]
told = Settings.from_environment({"GONGQI_HOME": home, "GONGQI_DATABASE_URL": url})
kernel = Kernel(told, app.house(), Database(url), FolderBlobs(Path(home) / "blobs"), record=lambda ctx, entry: None)
credit = kernel.house.verbs["billing:invoice:credit"]
asked = credit.input(invoice=invoice, reason="crash", lines=[{"position": 1, "amount": 1}])

def issue():
    while True:
        try:
            os.write(1, (execute(kernel, credit, Caller(SYSTEM), asked).number + "\\n").encode())
        except Unavailable:
            pass

for _ in range(3):
    threading.Thread(target=issue).start()
"""


def test_credit_notes_that_were_told_are_there_and_numbers_have_no_gap(
    tmp_path: Path, new_database: Callable[..., Any]
) -> None:
    with new_database(tmp_path) as url, open_desk(tmp_path, url) as desk:
        office = Office(desk)
        office.address(office.home)
        org, was, _ = office.charged(CHARGED)
        issued, before = office.issue(org, was), desk.balance(org)
        heard: list[str] = []
        for _ in range(ROUNDS):
            command = [sys.executable, "-c", LOAD, str(tmp_path), url, issued.id]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
                assert load.stdout is not None
                heard += [load.stdout.readline().strip() for _ in range(HEARD)]
                load.send_signal(signal.SIGKILL)
                heard += [line.strip() for line in load.stdout.read().split("\n")[:-1]]
        rows = desk.rows(
            select(Invoice).where(Invoice.corrects == issued.id).order_by(Invoice.series, Invoice.position)
        )
        assert len(heard) >= ROUNDS * HEARD and set(heard) <= {row.number for row in rows}
        for series in {row.series for row in rows}:
            positions = [row.position for row in rows if row.series == series]
            assert positions == list(range(1, len(positions) + 1))
        assert [row.part for row in sorted(rows, key=lambda row: row.part)] == list(range(1, len(rows) + 1))
        assert desk.balance(org) == before + len(rows), "each says what the ledger gave back"
        assert desk.ask("ledger:book:check").findings == []
