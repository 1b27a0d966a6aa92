"""Kill it: whatever line a process dies at, the town ends as if nobody had died.

Same rows, same evidence, and outside no deed under a key that a clean run would not have used. Each test runs on the
database of the suite, SQLite or PostgreSQL.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

pytestmark = [pytest.mark.long, pytest.mark.postgres]

MAX_CROSSINGS = 200
ERRANDS = 200
KILLS = 15
PATIENCE_SECONDS = 60.0
CLEAN_DEEDS = ["answered", "booked", "closed", "greeted"]
CLEAN_KEYS = ["town.answer:think", "town.errand:send"]
CLEAN_OUTPUT = ["booked", "send", "think", "closed"]


class Town:
    """The zygote's other end, and a view of the database from outside."""

    def __init__(self, url: str, folder: Path) -> None:
        self.outside = folder / "outside"
        self.order = {"url": url, "outside": str(self.outside)}
        self.engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
        self.zygote = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("town.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, do: str, **more: Any) -> dict[str, Any]:
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.write(json.dumps({"do": do, **self.order, **more}) + "\n")
        self.zygote.stdin.flush()
        return json.loads(self.zygote.stdout.readline())

    def rows(self, sql: str, **params: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sqlalchemy.text(sql), params))

    def close(self) -> None:
        assert self.zygote.stdin is not None
        self.zygote.stdin.close()
        self.zygote.wait(10)
        assert self.zygote.stdout is not None
        self.zygote.stdout.close()
        self.engine.dispose()

    def end_of(self, errand: str) -> dict[str, Any]:
        """Everything that a run leaves behind, with the names of things in place of their ids."""
        parcels = dict(map(tuple, self.rows("SELECT id, deed FROM town_parcel WHERE errand = :e", e=errand)))
        seen = self.rows("SELECT kind, parcel FROM town_seen WHERE errand = :e", e=errand)
        ours = self.rows("SELECT id, kind, state, output FROM flow WHERE key = :e", e=errand)
        kinds = {row.id: row.kind for row in ours}
        asked = {key for key in self.asked() if key.partition(":")[0] in kinds}
        output = next(row.output for row in ours if row.kind == "town.errand")
        return {
            "parcels": sorted(parcels.values()),
            "evidence": sorted((kind, parcels.get(parcel, "of nothing")) for kind, parcel in seen),
            "outside": sorted(f"{kinds[key.partition(':')[0]]}:{key.partition(':')[2]}" for key in asked),
            "flows": sorted((row.kind, row.state) for row in ours),
            "output": json.loads(output) if isinstance(output, str) else output,
        }

    def asked(self) -> set[str]:
        return set(self.outside.read_text().split()) if self.outside.exists() else set()


CLEAN = {
    "parcels": CLEAN_DEEDS,
    "evidence": [(f"town.{deed}", deed) for deed in CLEAN_DEEDS],
    "outside": CLEAN_KEYS,
    "flows": [("town.answer", "done"), ("town.errand", "done")],
    "output": CLEAN_OUTPUT,
}


@pytest.fixture
def town(database_url: str, tmp_path: Path) -> Iterator[Town]:
    town = Town(database_url, tmp_path)
    try:
        yield town
    finally:
        town.close()


def died(reply: dict[str, Any]) -> bool:
    assert reply["status"] in (0, signal.SIGKILL), reply
    return reply["status"] == signal.SIGKILL


def test_an_errand_that_nobody_disturbs_ends_clean_and_crosses_every_kind_of_boundary(town):
    town.tell("prepare")
    reply = town.tell("trial", errand="calm", life=0)
    assert not died(reply)
    assert town.end_of("calm") == CLEAN
    crossed = set(reply["crossings"])
    assert {"before book", "inside book", "after book", "inside send", "inside nap:until"} <= crossed
    assert {"inside answer:deadline", "inside handle", "inside say", "claimed kernel.deliver"} <= crossed
    assert "finishing town.errand" in crossed


@pytest.mark.parametrize(("deaths", "stride"), [(1, 1), (3, 4)])
def test_killed_at_every_boundary_the_end_is_the_same(town, deaths, stride):
    """With three deaths the restarted process is killed again a little further on, twice, before one may finish; every
    fourth boundary is enough for that, to be quick."""
    town.tell("prepare")
    for crossing in range(1, MAX_CROSSINGS, stride):
        errand = f"errand-{crossing}"
        reply = town.tell("trial", errand=errand, life=0, kill_at=crossing)
        if not died(reply):
            assert crossing > 30  # the loop went through a whole errand
            break
        for life in range(1, deaths):
            town.tell("trial", errand=errand, life=life, kill_at=1 + (crossing + life) % 4)
        assert not died(town.tell("trial", errand=errand, life=deaths))
        assert town.end_of(errand) == CLEAN, f"killed at crossing {crossing}, {reply['crossings'][-1]!r}"
    else:
        pytest.fail("the errand has no end")
    assert town.rows("SELECT id FROM flow WHERE state <> 'done'") == []


def test_workers_killed_at_random_lose_nothing_and_do_nothing_twice(town):
    errands = [f"errand-{number}" for number in range(ERRANDS)]
    town.tell("prepare", start=[("town.errand", errand) for errand in errands])
    dice = random.Random(20260101)
    workers = [town.tell("work")["pid"] for _ in range(2)]
    for _ in range(KILLS):
        time.sleep(dice.uniform(0.02, 0.5))
        victim = dice.randrange(2)
        town.tell("kill", pid=workers[victim])
        workers[victim] = town.tell("work")["pid"]
    await_rows(town, "SELECT id FROM flow WHERE state = 'open' LIMIT 1", 0)
    for pid in workers:
        town.tell("kill", pid=pid)

    deeds = Counter(map(tuple, town.rows("SELECT errand, deed FROM town_parcel")))
    assert deeds == Counter((errand, deed) for errand in errands for deed in CLEAN_DEEDS)
    evidence = Counter(map(tuple, town.rows("SELECT errand, kind FROM town_seen")))
    assert evidence == Counter((errand, f"town.{deed}") for errand in errands for deed in CLEAN_DEEDS)
    flows = {row.id: row.kind for row in town.rows("SELECT id, kind FROM flow")}
    outside = Counter(f"{flows[key.partition(':')[0]]}:{key.partition(':')[2]}" for key in town.asked())
    assert outside == dict.fromkeys(CLEAN_KEYS, ERRANDS)
    assert town.rows("SELECT id, error FROM flow WHERE state <> 'done'") == []
    assert town.rows("SELECT count(*) FROM town_parcel p JOIN town_seen s ON s.parcel = p.id")[0][0] == 4 * ERRANDS


def test_a_worker_stopped_past_its_lease_and_overtaken_writes_nothing_when_it_wakes(town):
    town.tell("prepare", start=[("town.slow", "one")])
    sleeper = town.tell("work")["pid"]
    await_true(town.outside.with_name("entered").exists)
    os.kill(sleeper, signal.SIGSTOP)
    town.outside.with_name("go").touch()
    other = town.tell("work")["pid"]
    await_rows(town, "SELECT id FROM flow WHERE state = 'done'", 1)
    before = town.rows("SELECT * FROM flow_step ORDER BY name")
    os.kill(sleeper, signal.SIGCONT)
    town.tell("kill", pid=other)

    town.tell("prepare", start=[("town.slow", "two")])  # the one who woke still works, on what is still to do
    await_rows(town, "SELECT id FROM flow WHERE state = 'done'", 2)
    town.tell("kill", pid=sleeper)
    assert town.rows("SELECT deed FROM town_parcel WHERE errand = 'one'") == [("put",)]
    assert town.rows("SELECT kind FROM town_seen WHERE errand = 'one'") == [("town.put",)]
    first = "SELECT s.* FROM flow_step s JOIN flow f ON f.id = s.flow_id WHERE f.key = 'one' ORDER BY s.name"
    assert town.rows(first) == before
    assert len(town.asked()) == 2
    assert town.rows("SELECT attempt FROM flow WHERE key = 'one'") == [(2,)]


def await_rows(town: Town, sql: str, count: int) -> None:
    await_true(lambda: len(town.rows(sql)) == count)


def await_true(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the town does not come to rest"
        time.sleep(0.05)
