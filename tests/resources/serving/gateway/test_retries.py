"""A call under a name is made once and charged once, however often it comes."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from gongqi.resources.serving import claims
from gongqi.resources.serving.metering import NANO
from gongqi.resources.serving.models import CallClaim
from gongqi.resources.serving.plane import retries
from tests.house.conftest import wait_for
from tests.resources.serving.gateway.conftest import CHAT, Gateway, eventually

ASKED = [{"role": "user", "content": "你好"}]


@pytest.fixture(scope="module", autouse=True)
def routes(gateway: Gateway) -> None:
    gateway.route("talk", "words=5")


@pytest.fixture(autouse=True)
def healthy(gateway: Gateway) -> None:
    gateway.plane.health._states.clear()


def ask(gateway: Gateway, name: str, model: str = "talk", *, key: str | None = None, **more: Any) -> Any:
    body = {"model": model, "messages": ASKED} | more
    with gateway.http(key) as http:
        return http.post(CHAT, json=body, headers={"idempotency-key": name})


def forget(gateway: Gateway) -> None:
    """As another process, or this one after a restart: nothing is known but what the database knows."""
    gateway.plane.retries = retries.Retries(gateway.plane.control, gateway.plane.now)


@pytest.mark.parametrize("streams", [False, True])
def test_who_comes_again_has_the_same_answer_and_is_charged_once(gateway: Gateway, streams: bool) -> None:
    asked = len(gateway.upstream.seen)
    answers = [ask(gateway, f"again-{streams}", stream=streams) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    [call] = {answer.headers["x-request-id"] for answer in answers}
    assert len(gateway.upstream.seen) == asked + 1
    assert gateway.settled(call)["output_tokens"] == 5


def test_a_name_is_one_keys_and_one_requests(gateway: Gateway) -> None:
    first = ask(gateway, "one")
    other = ask(gateway, "one", temperature=0.5)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "serving.retry-differs")
    forget(gateway)
    other = ask(gateway, "one", temperature=0.5)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "serving.retry-differs")
    stranger = ask(gateway, "one", key=gateway.issue()["secret"])
    assert stranger.status_code == 200 and stranger.headers["x-request-id"] != first.headers["x-request-id"]
    for name in ("", "x" * 256):
        assert ask(gateway, name).json()["error"]["code"] == "kernel.idempotency-key-invalid"


def test_an_answer_that_is_not_there_any_more_is_refused_with_its_number(gateway: Gateway) -> None:
    first = ask(gateway, "gone")
    call = first.headers["x-request-id"]
    gateway.settled(call)
    forget(gateway)
    asked = len(gateway.upstream.seen)
    for _ in range(2):  # from the database, and then from what it said
        again = ask(gateway, "gone")
        error = again.json()["error"]
        assert (again.status_code, error["code"]) == (409, "serving.retry-answered") and call in error["message"]
    assert len(gateway.upstream.seen) == asked


def test_of_calls_that_come_at_once_one_is_made(gateway: Gateway) -> None:
    model = gateway.scripted("late=0.4")
    asked = len(gateway.upstream.seen)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: ask(gateway, "at-once", model), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["error"]["code"] == "serving.retry-under-way"
    assert len(gateway.upstream.seen) == asked + 1
    assert ask(gateway, "at-once", model).status_code == 200


def test_of_two_that_claim_a_name_at_once_the_first_keeps_it(gateway: Gateway) -> None:
    known = retries.Retries(gateway.plane.control, time.monotonic)
    owner = gateway.issue()["id"]
    first, second = (retries.Named(owner, "n", "f", f"gen_claim_{number}", 0.0) for number in range(2))

    async def both() -> list[Any]:
        return await asyncio.gather(known.claim(first), known.claim(second), return_exceptions=True)

    got, refused = asyncio.run(both())
    assert got is None and refused.code == "serving.retry-under-way"
    assert known._known[(owner, "n")] is first


def test_half_an_answer_is_not_given_again() -> None:
    named = retries.Named("mkey", "n", "f", "gen_1", 0.0)

    async def nowhere(_: Any) -> None: ...

    send = named.recording(nowhere)
    begun = {"type": "http.response.body", "body": b"a", "more_body": True}
    for message in ({"type": "http.response.start"}, begun):
        assert not named.is_whole
        asyncio.run(send(message))
    assert not named.is_whole
    asyncio.run(send({"type": "http.response.body", "body": b"b"}))
    assert named.is_whole


def test_another_process_sees_a_call_under_way(gateway: Gateway) -> None:
    claimed = {"key": gateway.issue()["id"], "name": "n", "fingerprint": "f"}
    kernel = gateway.foundation.kernel

    def claim(call: str, later: timedelta = timedelta()) -> Any:
        def at(ctx: Any) -> Any:
            if later:
                ctx.session.get(CallClaim, (claimed["key"], "n")).at -= later
            return claims.claim(ctx, **claimed, call=call)

        return kernel.transact(at, reason="test")

    assert claim("gen_1") is None
    found = claim("gen_2")
    assert (found.call, found.is_over) == ("gen_1", False)
    assert claim("gen_3", timedelta(seconds=claims.LOST_SECONDS)) is None, "it never began"
    assert claim("gen_4").call == "gen_3"
    assert claim("gen_5", timedelta(hours=claims.CLAIM_HOURS)) is None, "its day is over"


def test_what_came_to_nothing_may_be_tried_again(gateway: Gateway) -> None:
    model = gateway.scripted("status=500")
    asked = len(gateway.upstream.seen)
    answers = [ask(gateway, "nothing", model) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 502]
    assert len(gateway.upstream.seen) == asked + 2 and len({each.headers["x-request-id"] for each in answers}) == 2
    poor = gateway.issue(budget_day=0)
    assert ask(gateway, "poor", key=poor["secret"]).status_code == 402
    forget(gateway)
    assert ask(gateway, "poor", key=poor["secret"]).status_code == 402, "not under way for ever"


def test_a_stream_that_broke_off_is_not_made_anew_under_its_name(gateway: Gateway) -> None:
    model = gateway.scripted("words=9+cut=3")
    assert b"broken-off" in ask(gateway, "half", model, stream=True).content
    again = ask(gateway, "half", model, stream=True)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "serving.retry-answered")


def test_without_the_database_nothing_is_made_that_might_have_been(gateway: Gateway, monkeypatch: Any) -> None:
    def away(*_: Any) -> None:
        raise OSError("away")

    monkeypatch.setattr(type(gateway.plane.control), "claim", away)
    asked = len(gateway.upstream.seen)
    answer = ask(gateway, "away")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "serving.retry-unclaimed")
    assert len(gateway.upstream.seen) == asked
    monkeypatch.undo()
    assert ask(gateway, "away").status_code == 200


def test_answers_are_kept_within_a_bound_and_for_a_time(gateway: Gateway, monkeypatch: Any) -> None:
    forget(gateway)
    size = len(ask(gateway, "bound-0").content)
    monkeypatch.setattr(retries, "MAX_BYTES", 3 * size)
    for number in range(1, 5):
        ask(gateway, f"bound-{number}")
    kept = gateway.plane.retries
    eventually(lambda: kept._bytes == sum(named.size for named in [*kept._known.values()]) <= 3 * size)
    assert ask(gateway, "bound-0").json()["error"]["code"] == "serving.retry-answered"
    assert ask(gateway, "bound-4").status_code == 200
    kept.forget_old(gateway.plane.now() + retries.KEEP_SECONDS + 1)
    assert not kept._known and not kept._bytes
    monkeypatch.setattr(retries, "MAX_ANSWER_BYTES", size - 1)
    ask(gateway, "large")
    assert ask(gateway, "large").json()["error"]["code"] == "serving.retry-answered"


@pytest.mark.heavy
def test_an_agent_that_makes_up_a_new_name_for_each_try_is_bounded_by_its_budget(gateway: Gateway) -> None:
    gateway.route("dear", "words=5", price=(NANO // 10, NANO // 10))  # 1.2 units a call
    agent = gateway.issue(budget_day=10)
    answers = []
    for number in range(40):
        answers.append(ask(gateway, f"agent-try-{number}", "dear", key=agent["secret"], max_tokens=5))
    codes = {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200}
    assert codes == {"serving.key-budget-exceeded"}
    made = [answer.headers["x-request-id"] for answer in answers if answer.status_code == 200]
    assert 0 < len(made) < 10 and len(set(made)) == len(made)
    rows = wait_for(lambda: rows if len(rows := gateway.usage(model_key=agent["id"])) >= len(made) else None)
    assert sum(row["cost_nanos"] for row in rows) <= 10 * NANO


def test_claims_whose_day_is_over_are_deleted(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(claims, "CLAIM_HOURS", 0)
    kernel = gateway.foundation.kernel
    assert kernel.transact(claims.forget_old, reason="test") > 0
    assert kernel.transact(claims.forget_old, reason="test") == 0
