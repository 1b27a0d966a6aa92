"""The law of feedback: all that was taken is in exactly one revision, or waits, or was removed with its reason.

The machine calls, says, says anew, withdraws, lets days pass, changes the terms, gathers, and has the worker die at any
boundary of a flow and come back.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gongqi.kernel import flows
from gongqi.kernel.errors import Refused
from tests.sim.talk import Talk

pytestmark = pytest.mark.heavy

REASONS = {"replaced", "agreement-ended", "days-over", "withdrawn", "secret", "personal"}
TEXTS = st.sampled_from(["晴", "no", "li.lei@example.org", "ghp_" + "a1B2" * 9])
acts = st.one_of(
    st.tuples(st.just("say"), st.integers(0, 3), st.sampled_from(["rating", "correction", "outcome"]), TEXTS),
    st.tuples(st.just("withdraw"), st.integers(0, 3)),
    st.tuples(st.just("days"), st.integers(1, 6)),
    st.tuples(st.just("terms"), st.sampled_from(["first", "second"])),
    st.tuples(st.just("gather"), st.none() | st.integers(0, 12)),
)


class Death(BaseException):
    """Takes a worker out of a flow as SIGKILL does: nothing after it is done."""


def die_after(crossings: int) -> Any:
    left = [crossings]

    def boundary(_name: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Death

    return boundary


@pytest.fixture
def talk(build: Any, clock: Any) -> Talk:
    return Talk(importlib.import_module("tests.sim.market").open_market(build, "chain.scenarios", clock=clock))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(acts, min_size=6, max_size=16))
def test_feedback_is_in_one_revision_or_waits_or_was_removed_for_a_reason(talk: Talk, acts: list[Any]) -> None:
    clock, market = talk.market.kernel.clock, talk.market
    name = f"talk-{next(talk.numbers)}"
    route = talk.route(name, purpose="first", retention_days=10)
    calls = talk.called(route, count=4)
    taken: list[str] = []
    revisions: dict[str, str] = {}
    for act, *given_ in acts:
        try:
            if act == "say":
                call, kind, text = given_
                said = {kind: "up" if kind == "rating" else text}
                taken.append(talk.say(route, calls[call], **said)["id"])
            elif act == "withdraw" and taken:
                market.do(market.operator, "serving:feedback:withdraw", feedback=taken[given_[0] % len(taken)])
            elif act == "days":
                clock.advance(days=given_[0])
                market.work(sweep=True)
            elif act == "terms":
                route = talk.route(name, purpose=given_[0], retention_days=10)
            elif act == "gather":
                market.do(market.operator, "scenarios:feedback:gather", route=route.id)
                work(talk, die_at=given_[0])
        except Refused:
            continue  # what may not be is not done; the law holds all the same
        holds(talk, route.id, taken, revisions)
    work(talk, die_at=None)
    holds(talk, route.id, taken, revisions)


def work(talk: Talk, die_at: int | None) -> None:
    """Until all is done, though the first worker dies."""
    if die_at is not None:
        flows.boundary = die_after(die_at)
        try:
            talk.market.work()
        except Death:
            pass
        finally:
            flows.boundary = lambda _name: None
        talk.market.kernel.clock.advance(seconds=flows.LEASE_SECONDS + 1)
    talk.market.work()


def holds(talk: Talk, route: str, taken: list[str], revisions: dict[str, str]) -> None:
    rows = {row.id: row for row in talk.feedback(route=route)}
    assert sorted(rows) == sorted(taken), "nothing that was taken is forgotten, and nothing is there that was not"
    gatherings = {g.id: g for g in talk.market.ask(talk.market.operator, "scenarios:gathering:list", route=route).items}
    returned: Counter[str] = Counter()
    for row in rows.values():
        assert (row.state == "removed") == (row.reason is not None)
        assert row.reason is None or row.reason in REASONS
        if row.state == "returned":
            gathering = gatherings[row.batch]
            assert gathering.state == "done" and gathering.agreement == row.agreement
            assert revisions.setdefault(row.id, gathering.revision) == gathering.revision, "in one, for good"
            returned[gathering.id] += 1
        if row.state in ("returned", "removed"):
            assert talk.market.ask(talk.market.operator, "serving:feedback:get", feedback=row.id).content is None
    for gathering in gatherings.values():
        assert gathering.count == returned[gathering.id] and gathering.state in ("done", "empty")
        assert gathering.claimed == gathering.count + sum(gathering.set_aside.values())
        if gathering.revision:
            files = talk.market.ask(talk.market.operator, "hub:revision:get", revision=gathering.revision).files
            [file] = [each for each in files if each.path == gathering.path]
            content = talk.market.kernel.blobs.read(file.sha256, limit_bytes=1 << 20)
            assert content.count(b"\n") == gathering.count, "a line for each"
