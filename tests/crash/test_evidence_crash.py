"""Kill the sequencer at every boundary, and anywhere: nothing acknowledged is lost, doubled or contradicted."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gongqi.books.evidence.models import CheckpointRow, EntryRow
from gongqi.books.evidence.verify import verify_log
from gongqi.kernel.db import Database

pytestmark = [pytest.mark.long, pytest.mark.postgres]
LIVES = count(1)


class Scribes:
    """The zygote of scribes.py and the log its children keep."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self.database = Database(url)
        script = Path(__file__).with_name("scribes.py")
        command = [sys.executable, str(script)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.tell("prepare")["status"] == 0

    def tell(self, do: str, **order: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        order |= {"do": do, "home": str(self.home), "url": self.url}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def trial(self, entries: int, kill_at: int | None = None) -> dict[str, Any]:
        return self.tell("trial", entries=entries, kill_at=kill_at, life=next(LIVES))

    def acknowledged(self) -> list[str]:
        lines = (self.home / "acknowledged").read_text().splitlines(keepends=True)
        return [line.strip() for line in lines if line.endswith("\n")]

    def check_whole(self) -> int:
        """Every acknowledged entry is in the log once, no place is empty, no byte is wrong; returns the log's size."""
        with self.database.reading() as session:
            places = {row.id: row.index for row in session.scalars(select(EntryRow))}
            newest = max(session.scalars(select(CheckpointRow.size)))
        assert set(self.acknowledged()) <= set(places)
        assert sorted(places.values()) == list(range(newest))
        assert list(verify_log(self.home, self.database)) == []
        return newest

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()
        self.database.close()


@pytest.fixture
def scribes(tmp_path: Path, database_url: str) -> Iterator[Scribes]:
    scribes = Scribes(tmp_path, database_url)
    yield scribes
    scribes.close()


def test_a_kill_at_any_boundary_changes_nothing(scribes: Scribes) -> None:
    """Each boundary of the first round of a log, and of rounds that fill a tile and begin the next."""
    scribes.trial(entries=254)
    for kill_at in count(1):
        run = scribes.trial(entries=3, kill_at=kill_at)
        if run["status"] == 0:
            break
        assert run["status"] == signal.SIGKILL
        assert len(run["crossings"]) == kill_at
        assert list(verify_log(scribes.home, scribes.database)) == []  # what readers see in between is sound too
    assert kill_at > 8
    assert "evidence signed" in run["crossings"]
    assert scribes.check_whole() == 254 + 3 * kill_at


def test_a_first_round_killed_at_any_boundary_is_gone_on_with(scribes: Scribes) -> None:
    for kill_at in (2, 3, 4, 5, 6, 7):  # each finds the log as the one before left it
        scribes.trial(entries=1, kill_at=kill_at)
    assert scribes.trial(entries=1)["status"] == 0
    assert scribes.check_whole() == 7


def test_no_checkpoint_that_was_seen_is_ever_replaced(scribes: Scribes) -> None:
    seen: dict[str, str] = {}
    for kill_at in (*range(3, 12), None):
        scribes.trial(entries=2, kill_at=kill_at)
        file = scribes.home / "log" / "checkpoint"
        if file.exists():
            note = file.read_text()
            assert seen.setdefault(note.splitlines()[1], note) == note
    assert scribes.check_whole() == 20


def test_two_servers_killed_at_random_keep_one_log(scribes: Scribes) -> None:
    chance = random.Random(8420)
    for _ in range(3):
        workers = [scribes.tell("work")["pid"] for _ in range(2)]
        for pid in workers:
            time.sleep(chance.uniform(0.2, 0.6))
            scribes.tell("kill", pid=pid)
        assert list(verify_log(scribes.home, scribes.database)) == []
    assert scribes.trial(entries=1)["status"] == 0
    assert scribes.check_whole() > 20
