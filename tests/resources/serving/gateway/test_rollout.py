"""A roll-out through the gateway: who answers, what a failing new server does to callers, and that money is as before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gongqi.kernel.words import LANGUAGES
from gongqi.resources.serving.climbing import BRAKE_FAULTS, HUNDRED
from gongqi.resources.serving.plane.duties import Cited, Duty
from gongqi.resources.serving.plane.terms import within_law
from tests.house.conftest import wait_for

from .conftest import CHAT, Gateway, eventually

pytestmark = [pytest.mark.long, pytest.mark.postgres]


class Trial:
    """A model that answers with five words, and another server, one with nine unless said otherwise."""

    def __init__(self, gateway: Gateway, name: str, new: str = "words=9", old: str = "words=5", **more: Any) -> None:
        self.gateway = gateway
        self.name = name
        self.route = gateway.route(name, old)
        given = {"hold_seconds": 1, "calls": 1_000_000} | more
        self.id = gateway.operator.verb(
            "serving:rollout:begin", route=self.route, endpoint=gateway.endpoint, model=new, **given
        )["id"]
        gateway.seen()

    def do(self, verb: str) -> dict[str, Any]:
        made = self.gateway.operator.verb(f"serving:rollout:{verb}", rollout=self.id)
        self.gateway.seen()
        return made

    def get(self) -> dict[str, Any]:
        return self.gateway.operator.read("serving:rollout:get", self.id)

    def ends(self, state: str) -> dict[str, Any]:
        wait_for(lambda: True if self.get()["state"] == state else None)
        self.gateway.seen()
        return self.get()

    def call(self, http: httpx.Client, **more: Any) -> httpx.Response:
        body = {"model": self.name, "messages": [{"role": "user", "content": "你好"}]} | more
        return http.post(CHAT, json=body)

    def words(self, count: int) -> Counter[int]:
        """How many words each of so many calls was answered with; 0 for one that was not."""
        with self.gateway.http() as http:
            answers = [self.call(http) for _ in range(count)]
        return Counter(
            answer.json()["usage"]["completion_tokens"] if answer.status_code == 200 else 0 for answer in answers
        )


@pytest.fixture
def trial(gateway: Gateway) -> Iterator[Any]:
    """Begins roll-outs, and rolls back what is still open."""
    begun: list[Trial] = []

    def begin(*given: Any, **more: Any) -> Trial:
        begun.append(Trial(gateway, *given, **more))
        return begun[-1]

    yield begin
    for each in begun:
        if each.get()["state"] in ("climbing", "held"):
            each.do("rollback")


def test_of_each_hundred_calls_the_new_server_has_its_share(gateway: Gateway, trial: Any) -> None:
    shared = trial("shared", steps=[25, HUNDRED])
    assert shared.words(HUNDRED) == {5: 75, 9: 25}
    eventually(lambda: (shared.get()["old"][0], shared.get()["new"][0]) == (75, 25))
    shared.do("rollback")
    assert shared.words(20) == {5: 20}


def test_it_climbs_to_the_whole_and_takes_the_place_of_the_old(gateway: Gateway, trial: Any) -> None:
    climbs = trial("climbs", steps=[50, HUNDRED], calls=10)
    answered: Counter[int] = Counter()
    while climbs.get()["state"] != "complete":
        answered += climbs.words(10)
    assert set(answered) == {5, 9}
    gateway.seen()
    assert climbs.words(10) == {9: 10}
    [target] = gateway.operator.read("serving:route:targets", route=climbs.route)["targets"]
    assert (target["endpoint"], target["model"]) == (gateway.endpoint, "words=9")


@pytest.mark.parametrize("new", ["status=500", "refuse", "status=404", "status=400", "broken"])
def test_a_new_server_that_does_not_answer_is_felt_by_nobody_and_comes_back(
    gateway: Gateway, trial: Any, new: str
) -> None:
    fails = trial(f"fails-{new.replace('=', '-')}", new, steps=[50, HUNDRED])
    seen: Counter[int] = Counter()
    deadline = time.monotonic() + 30
    while fails.get()["state"] == "climbing" and time.monotonic() < deadline:
        seen += fails.words(10)
    back = fails.get()
    assert (back["state"], set(seen)) == ("rolled-back", {5}), "the old one answered every call"
    assert back["reason"] in ("faults", "stopped") and back["old"][1] == 0
    assert back["new"][0] == back["new"][1] <= BRAKE_FAULTS
    gateway.settled(gateway.call(fails.name))
    gateway.laws_hold()


def test_a_request_that_both_turn_down_is_held_against_neither(gateway: Gateway, trial: Any) -> None:
    both = trial("both-say-no", "status=400+new", "status=400", steps=[50, HUNDRED])
    with gateway.http() as http:
        assert {both.call(http).status_code for _ in range(20)} == {400}
    time.sleep(2.5)  # a report, and a look
    got = both.get()
    assert (got["state"], got["old"], got["new"]) == ("climbing", [0, 0, 0], [0, 0, 0])


def test_what_the_new_server_turns_down_late_the_old_one_answers_though_the_snapshot_has_changed(
    gateway: Gateway, trial: Any
) -> None:
    late = trial("turned-down-late", "status=400+late=1", steps=[HUNDRED])
    with ThreadPoolExecutor(1) as elsewhere:
        answer = elsewhere.submit(gateway.call, late.name)
        eventually(lambda: bool(gateway.plane.calls))
        gateway.plane.swap(gateway.plane.control.snapshot())  # as every few seconds
        assert answer.result().status_code == 200
    eventually(lambda: late.get()["new"] == [1, 1, 1])


def test_answers_that_break_off_stop_at_the_brake_though_nobody_looks(
    gateway: Gateway, trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_plane: str, _told: Any) -> None:
        raise OSError("no database")

    monkeypatch.setattr(gateway.plane.control, "report", away)
    torn = trial("torn-apart", "words=9+cut=3", steps=[HUNDRED])
    harmed = sum(gateway.stream(torn.name)[1][-1] != "[DONE]" for _ in range(BRAKE_FAULTS + 10))
    assert harmed == BRAKE_FAULTS
    monkeypatch.undo()
    assert torn.ends("rolled-back")["reason"] in ("faults", "stopped")
    gateway.laws_hold()


def test_a_slow_server_comes_back_where_slowness_was_bounded(gateway: Gateway, trial: Any) -> None:
    slow = trial("slow-one", "words=9+late=0.2", steps=[50, HUNDRED], slow_ms=100)
    while slow.get()["state"] == "climbing":
        slow.words(10)
    assert slow.get()["reason"] == "slow" and slow.get()["new"][1] == 0


def test_a_retry_by_its_name_is_answered_once_though_the_share_moved(gateway: Gateway, trial: Any) -> None:
    named = trial("named", steps=[1, HUNDRED])
    with gateway.http() as http:
        http.headers["idempotency-key"] = "order-1"
        first = named.call(http)
        named.do("complete")
        again = named.call(http)
    assert first.json() == again.json() and first.headers["x-request-id"] == again.headers["x-request-id"]
    gateway.settled(first)
    assert len([row for row in gateway.usage() if row["route"] == named.route]) == 1


def test_a_call_that_fell_back_is_charged_once_for_what_answered(gateway: Gateway, trial: Any) -> None:
    fallen = trial("fallen", "status=500", steps=[HUNDRED])
    record = gateway.settled(gateway.call(fallen.name))
    assert (record["attempts"], record["output_tokens"], record["ending"]) == (2, 5, "complete")
    assert len([row for row in gateway.usage() if row["route"] == fallen.route]) == 1


def test_while_the_old_servers_rest_the_new_one_answers_its_share(gateway: Gateway, trial: Any) -> None:
    alone = trial("left-alone", "words=9", "status=503+after=60", steps=[HUNDRED])
    alone.do("rollback")
    assert gateway.call(alone.name).status_code == 502
    again = gateway.operator.verb(
        "serving:rollout:begin", route=alone.route, endpoint=gateway.endpoint, model="words=9", steps=[HUNDRED]
    )["id"]
    gateway.seen()
    assert alone.words(3) == {9: 3}
    gateway.operator.verb("serving:rollout:rollback", rollout=again)


def test_a_new_server_in_a_region_that_the_law_denies_a_key_is_not_tried(gateway: Gateway, trial: Any) -> None:
    trial("not-over-there", steps=[HUNDRED])
    route = gateway.plane.snapshot.routes["not-over-there"]
    route = replace(route, rollout=replace(route.rollout, target=replace(route.rollout.target, region="US")))
    cited = Cited("r", "s", "1", "a", "2026-01-01")
    assert within_law(route, {"US": Duty(denied=cited)}) == replace(route, rollout=None)
    assert within_law(route, {"US": Duty(), "CN": Duty(denied=cited)}) is route


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_of_the_model_shows_operators_how_it_climbs_and_nobody_else(
    gateway: Gateway, trial: Any, language: str
) -> None:
    shown = trial(f"shown-{language.lower()}", steps=[25, HUNDRED])
    shown.words(HUNDRED)
    eventually(lambda: (shown.get()["old"][0], shown.get()["new"][0]) == (75, 25))
    words = gateway.foundation.kernel.house.words
    runner = gateway.foundation.person(f"runner-{language.lower()}", "*", "operator")

    def page(who: Any) -> str:
        cookies, headers = {"gongqi_session": who.secret}, {"accept-language": language}
        return httpx.get(
            f"{gateway.url}/serving/model/{shown.route}", cookies=cookies, headers=headers, trust_env=False
        ).text

    told = page(runner)
    for name in ("serving.rollout.lede", "serving.rollout.state.climbing", "serving.rollout.faults"):
        assert words.text(name, language) in told
    assert "<strong>25%</strong> → 100%" in told and "0 / 75 (0.0%)" in told
    for verb in ("hold", "complete", "rollback"):
        assert f'action="/do/serving/rollout/{verb}"' in told
    hidden = page(gateway.owner)
    assert "/do/serving/rollout" not in hidden and words.text("serving.rollout.lede", language) not in hidden
    shown.do("rollback")
    told = page(runner)
    assert words.text("serving.rollout.reason.asked", language) in told and "/do/serving/rollout/begin?" in told
