"""`gongqi up`, killed and started again: the chain is walked once, whole, whatever happens on the way."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gongqi.doors.cli.client import Client

pytestmark = pytest.mark.long

WALK_SECONDS = 240.0
CALLS = 6
RELEASES = 5  # two of the data, two of the model, one of the evaluation set
LAST_WORD = "Press Ctrl-C to stop."
QUICK_SECONDS = 20.0  # of a start on a busy machine; alone it takes two


def client_of(home: Path, port: int) -> Client:
    return Client(f"http://127.0.0.1:{port}", (home / "operator.token").read_text("ascii").strip())


def standing(home: Path, port: int) -> dict[str, int]:
    """What a walk leaves, and that nothing of it is there twice."""
    operator = client_of(home, port)

    def every(name: str, **params: Any) -> list[dict[str, Any]]:
        return list(operator.every(name, limit=200, **params))

    releases = every("hub:release:list")
    assert {each["state"] for each in releases} == {"published"}
    assert max(Counter((each["asset"], each["name"]) for each in releases).values()) == 1
    calls = every("serving:call:list")
    assert {each["state"] for each in calls} == {"settled"}
    splits = every("credits:split:list")
    assert sorted(each["call"] for each in splits) == sorted(each["id"] for each in calls)
    outcomes = every("scenarios:outcome:list")
    assert max(Counter(each["record"] for each in outcomes).values()) == 1
    assert {each["returned_in"] is None for each in outcomes} == {False}
    (budget,) = every("serving:budget:list")
    assert budget["spent"] == sum(each["fee"] for each in calls) == sum(each["fee"] for each in splits)
    for case in every("ethics:case:list"):
        votes = operator.read("ethics:case:get", case["id"])["votes"]
        assert len({each["voter"] for each in votes}) == len(votes) == 2
    assert operator.read("ledger:book:check")["true"]
    return {
        "releases": len(releases),
        "calls": len(calls),
        "outcomes": len(outcomes),
        **{
            name: len(every(name))
            for name in (
                "hub:asset:list", "upstream:donation:list", "serving:deployment:list", "scenarios:return:list",
                "members:party:list", "ethics:case:list", "credits:policy:list",
            )
        },
    }  # fmt: skip


EXPECTED = {
    "releases": RELEASES,
    "calls": CALLS,
    "outcomes": 318,
    "hub:asset:list": 3,
    "upstream:donation:list": 2,
    "serving:deployment:list": 1,
    "scenarios:return:list": 1,
    "members:party:list": 11,
    "ethics:case:list": RELEASES,
    "credits:policy:list": 1,
}


def walk_on(command: Callable[..., Any], home: Path, port: int, *, terminal: bool = False) -> Any:
    up = command("up", terminal=terminal)
    up.says(LAST_WORD, WALK_SECONDS)
    assert standing(home, port) == EXPECTED
    return up


def leave(up: Any) -> None:
    up.interrupt()
    assert up.ends(10) == 0
    assert up.lines[-1] == "Stopped."


def books_hold(command: Callable[..., Any]) -> None:
    for arguments in (("verify", "log"), ("ledger", "check"), ("blobs", "check")):
        checked = command(*arguments)
        assert checked.ends() == 0, (checked.lines, checked.errors)
        assert checked.lines[-1].startswith("✓")


@pytest.mark.timeout(400)
def test_up_walks_the_chain_once_through_two_kills(command, tmp_path: Path, port: int) -> None:
    """Killed early and late; the second start after the end is quick and walks nothing again."""
    home = tmp_path / "home"
    for step in (" 4 ", "13 "):
        up = command("up")
        up.says(f"- {step}", WALK_SECONDS)
        up.kill()
    up = walk_on(command, home, port)
    assert not any("\x1b" in line for line in up.lines), "colours go to terminals only"
    steps = [line for line in up.lines if line.startswith("- ")]
    assert [int(line[2:4]) for line in steps] == list(range(1, len(steps) + 1))
    leave(up)
    books_hold(command)

    started = time.monotonic()
    again = command("up", terminal=True)
    again.says(LAST_WORD, QUICK_SECONDS)
    assert time.monotonic() - started < QUICK_SECONDS
    assert not any("Walking" in line for line in again.lines)
    assert standing(home, port) == EXPECTED
    leave(again)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_up_walks_the_chain_once_through_six_kills_at_random_moments(
    command, tmp_path: Path, port: int, seed: int
) -> None:
    """Now the server alone, now all that it has started: a tour left alone must not walk beside its heir."""
    chance = random.Random(seed)
    home = tmp_path / "home"
    for number in range(6):
        up = command("up")
        up.says("Serving on", WALK_SECONDS)
        time.sleep(chance.uniform(0.2, 12.0))
        if number % 2:
            up.process.kill()
            up.process.wait(10)
        else:
            up.kill()
    leave(walk_on(command, home, port))
    books_hold(command)
