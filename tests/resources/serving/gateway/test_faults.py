"""Everything that can go wrong with a model's server, a caller, the books and this process.

After each: the ledger is true, every call has one record, and what is logged is what is charged.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gongqi.kernel.errors import Unavailable
from gongqi.resources.serving import metering
from gongqi.resources.serving.plane import bodies, door, pool, process, spool
from tests.resources.serving.gateway.conftest import (
    CHAT,
    INPUT_NANOS,
    LOOK_SECONDS,
    OUTPUT_NANOS,
    UNIT,
    Gateway,
    eventually,
)


@pytest.fixture(autouse=True)
def healthy(gateway: Gateway) -> None:
    """What one test did to a server is not held against it in the next."""
    gateway.plane.health._states.clear()


# ---- the model's server


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("status=503+after=99999999999999999999999", 502, "serving.upstream-broken"),
        ("refuse", 502, "serving.upstream-unreachable"),
        ("status=500", 502, "serving.upstream-broken"),
        ("status=401", 502, "serving.upstream-broken"),
        ("status=429+after=7", 503, "serving.upstream-busy"),
        ("broken", 502, "serving.upstream-broken"),
        ("redirect", 502, "serving.upstream-broken"),
        ("gzip", 502, "serving.upstream-broken"),
        ("cut=1", 502, "serving.upstream-broken"),
        ("errs", 502, "serving.upstream-broken"),
    ],
)
def test_a_server_that_gives_no_answer_costs_nothing(gateway: Gateway, script: str, status: int, code: str) -> None:
    answer = gateway.call(gateway.scripted(script))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    if "after=7" in script:
        assert answer.headers["retry-after"] == "7"
    record = gateway.settled(answer)
    assert (record["ending"], record["cost_nanos"], record["output_tokens"]) == ("refused", 0, 0)


def test_a_fault_of_the_request_itself_is_passed_on_and_costs_nothing(gateway: Gateway) -> None:
    gateway.route("fussy", "status=400")
    answer = gateway.call("fussy")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "scripted 400")
    assert gateway.settled(answer)["cost_nanos"] == 0


@pytest.mark.parametrize("first", ["refuse", "status=500", "broken", "gzip", "cut=1", "errs"])
def test_a_fallback_answers_and_is_charged_once_at_the_price_of_the_name(gateway: Gateway, first: str) -> None:
    answer = gateway.call(gateway.scripted(first, "words=4"))
    assert answer.status_code == 200
    record = gateway.settled(answer)
    assert (record["attempts"], record["cost_nanos"]) == (2, 7 * INPUT_NANOS + 4 * OUTPUT_NANOS)


@pytest.mark.heavy
def test_a_server_that_fails_again_and_again_rests_and_comes_back(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr("gongqi.resources.serving.plane.health.REST_SECONDS", 2.0)
    gateway.route("sick", "status=503")
    gateway.upstream.seen.clear()
    answers = [gateway.call("sick") for _ in range(8)]
    assert len(gateway.upstream.seen) == 5
    assert answers[-1].json()["error"]["code"] == "serving.upstream-resting"
    time.sleep(2.0)
    gateway.call("sick")
    assert len(gateway.upstream.seen) == 6


@pytest.mark.heavy
def test_a_stalled_server_is_given_up_and_the_connection_closed(gateway: Gateway) -> None:
    given = {"name": "hasty", "base_url": gateway.upstream.url, "private": True, "first_byte_seconds": 1}
    endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    gateway.route("stalls", targets=[{"endpoint": endpoint, "model": "stall"}])
    left = gateway.upstream.left
    answer = gateway.call("stalls")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "serving.upstream-too-slow")
    eventually(lambda: gateway.upstream.left > left)
    assert gateway.settled(answer)["cost_nanos"] == 0


@pytest.mark.parametrize("script", ["words=9+cut=3", "words=9+half=3", "words=9+nodone+cut=3"])
def test_a_stream_that_is_cut_is_charged_for_what_was_delivered(gateway: Gateway, script: str) -> None:
    id, events = gateway.stream(gateway.scripted(script))
    assert events[-1]["error"]["code"] == "serving.broken-off"
    said = [event["choices"][0]["delta"]["content"] for event in events[:-1]]
    assert said == ["", "w0 ", "w1 ", "w2 "], "whole events only"
    record = gateway.settled(id)
    assert (record["ending"], record["input_tokens"], record["output_tokens"]) == ("cut", 0, 3)
    assert record["is_estimated"] and record["cost_nanos"] == 3 * OUTPUT_NANOS


@pytest.mark.heavy
def test_a_stream_that_stalls_is_charged_for_what_was_delivered(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.4)
    id, events = gateway.stream(gateway.scripted("words=9+stallat=4"))
    assert events[-1]["error"]["code"] == "serving.broken-off"
    record = gateway.settled(id)
    assert (record["ending"], record["output_tokens"], record["cost_nanos"]) == ("timed-out", 4, 4 * OUTPUT_NANOS)


@pytest.mark.parametrize("script", ["words=6+dribble", "words=6+crlf", "words=6+slow=0.01", "words=6+close"])
def test_bytes_may_come_as_they_like(gateway: Gateway, script: str) -> None:
    id, events = gateway.stream(gateway.scripted(script))
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1]) == "w0 w1 w2 w3 w4 w5 "
    assert gateway.settled(id)["output_tokens"] == 6
    assert gateway.settled(gateway.call(gateway.scripted(script)))["output_tokens"] == 6


def test_usage_that_is_missing_is_estimated_and_says_so(gateway: Gateway) -> None:
    name = gateway.scripted("words=6+nousage")
    id, _ = gateway.stream(name)
    record = gateway.settled(id)
    assert (record["is_estimated"], record["output_tokens"]) == (True, 6)
    assert 0 < record["input_tokens"] < 100
    whole = gateway.settled(gateway.call(name))
    assert whole["is_estimated"] and whole["output_tokens"] > 0


def test_usage_that_cannot_be_true_is_not_believed(gateway: Gateway) -> None:
    gateway.route("liar", "words=6+absurd")
    capped = gateway.settled(gateway.call("liar", max_tokens=50))
    assert capped["is_capped"] and capped["output_tokens"] == 50 and capped["input_tokens"] < 200
    gateway.route("minus", "words=6+negative")
    estimated = gateway.settled(gateway.call("minus"))
    assert estimated["is_estimated"] and estimated["cost_nanos"] > 0


def test_an_answer_without_end_is_refused(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(pool, "MAX_ANSWER_BYTES", 1000)
    gateway.route("endless", "words=500")
    answer = gateway.call("endless")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "serving.upstream-broken")


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:{port}/v1", "http://localhost:{port}/v1", "http://[::1]:{port}/v1"]
)
def test_an_address_on_this_machine_is_not_reached_unless_operators_said_so(gateway: Gateway, base_url: str) -> None:
    name = f"inside-{abs(hash(base_url))}"
    given = {"name": name, "base_url": base_url.format(port=gateway.upstream.port)}
    endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    gateway.route(name, targets=[{"endpoint": endpoint, "model": "words=1"}])
    gateway.upstream.seen.clear()
    assert gateway.call(name).json()["error"]["code"] == "serving.upstream-broken"
    assert gateway.upstream.seen == []


# ---- the caller


def leave(gateway: Gateway, model: str, after: int) -> str:
    """Read so many events of a stream, then hang up; the call's id."""
    body = {"model": model, "messages": [], "stream": True}
    with gateway.http() as http, http.stream("POST", CHAT, json=body) as answer:
        lines = answer.iter_lines()
        seen = 0
        while seen < after:
            seen += next(lines).startswith("data: ")
        return answer.headers["x-request-id"]


def test_a_caller_who_leaves_before_the_first_byte_pays_nothing(gateway: Gateway) -> None:
    gateway.route("thinks", "late=5")
    left, before = gateway.upstream.left, len(gateway.usage(route=gateway.routes["thinks"]))
    with gateway.http() as http, pytest.raises(httpx.ReadTimeout):
        http.post(CHAT, json={"model": "thinks", "messages": []}, timeout=0.3)
    eventually(lambda: gateway.upstream.left > left)
    eventually(lambda: len(gateway.usage(route=gateway.routes["thinks"])) > before)
    record = gateway.usage(route=gateway.routes["thinks"])[0]
    assert (record["ending"], record["cost_nanos"]) == ("client-gone", 0)


def test_a_caller_who_leaves_in_the_middle_pays_prompt_and_what_came(gateway: Gateway) -> None:
    gateway.route("long", "words=400+slow=0.02")
    left = gateway.upstream.left
    id = leave(gateway, "long", after=6)
    record = gateway.settled(id)
    eventually(lambda: gateway.upstream.left > left)
    assert record["ending"] == "client-gone" and record["is_estimated"]
    assert 5 <= record["output_tokens"] < 60 and record["input_tokens"] > 0


@pytest.mark.heavy
def test_a_key_revoked_in_the_middle_stops_within_a_second(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOOK_SECONDS", LOOK_SECONDS)
    gateway.route("longer", "words=400+slow=0.02")
    issued = gateway.issue()
    ended: list[float] = []
    got: list[Any] = []

    def listen() -> None:
        got.append(gateway.stream("longer", key=issued["secret"]))
        ended.append(time.monotonic())

    thread = threading.Thread(target=listen)
    thread.start()
    eventually(lambda: any(call._delivered > 3 for call in gateway.plane.calls))
    gateway.owner.verb("serving:key:revoke", model_key=issued["id"])
    revoked = time.monotonic()
    thread.join(10)
    assert ended[0] - revoked < 1.0
    id, events = got[0]
    assert events[-1]["error"]["code"] == "serving.broken-off"
    assert gateway.settled(id)["ending"] == "key-revoked"


# ---- money


@pytest.mark.long
def test_two_hundred_at_once_on_a_budget_for_ten_spend_no_more_than_the_budget(gateway: Gateway) -> None:
    gateway.route("costly", "words=10+late=0.02", price=(0, 10 * metering.NANO))
    key = gateway.issue(budget_day=1000)["secret"]  # each call may cost 100 and does

    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=200)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            base_url=gateway.url, headers=headers, limits=limits, timeout=60, trust_env=False
        ) as http:
            body = {"model": "costly", "messages": [], "max_tokens": 10}
            answers = await asyncio.gather(*(http.post(CHAT, json=body) for _ in range(200)))
        return [answer.status_code for answer in answers]

    statuses = asyncio.run(ask())
    route = gateway.routes["costly"]
    eventually(lambda: gateway.balance("clearing", route) == 100 * statuses.count(200))
    assert set(statuses) <= {200, 402, 429}
    assert 1 <= statuses.count(200) <= 10
    assert sum(row["cost_nanos"] for row in gateway.usage(route=route)) <= 1000 * metering.NANO


def test_an_organisation_without_funds_is_refused_and_one_in_another_unit_too(gateway: Gateway) -> None:
    gateway.route("fortune", "words=1", price=(metering.MAX_NANOS, metering.MAX_NANOS))
    answer = gateway.call("fortune", n=8)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "serving.funds-too-low")
    route = gateway.route("credits", "words=1", price=None)
    gateway.operator.verb("billing:price:publish", route=route, unit="credit", input_nanos=1, output_nanos=1)
    gateway.seen()
    answer = gateway.call("credits")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "serving.unit-differs")


@pytest.mark.heavy
def test_what_is_leased_is_held_and_comes_back_when_it_is_not_used(gateway: Gateway, monkeypatch: Any) -> None:
    gateway.route("brief", "words=1")
    gateway.settled(gateway.call("brief"))
    assert gateway.balance("held") > 0
    monkeypatch.setattr("gongqi.resources.serving.plane.purse.IDLE_SECONDS", 0.0)
    eventually(lambda: gateway.balance("held") == 0)


# ---- the books and this process


@pytest.mark.heavy
def test_while_the_database_is_away_calls_are_served_from_what_is_leased(gateway: Gateway, monkeypatch: Any) -> None:
    gateway.route("steady", "words=3")
    gateway.settled(gateway.call("steady"))

    def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("kernel.database-unreachable", reason="pulled")

    database = type(gateway.foundation.kernel.db)
    with monkeypatch.context() as outage:
        outage.setattr(database, "write", away)
        outage.setattr(database, "reading", away)
        answers = [gateway.call("steady") for _ in range(10)]
        time.sleep(1.2)  # the settlement tries, too
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        assert gateway.settled(answer)["output_tokens"] == 3


def test_a_key_without_a_lease_is_told_to_wait_while_the_database_is_away(gateway: Gateway, monkeypatch: Any) -> None:
    gateway.route("wanted", "words=3")
    key = gateway.issue()["secret"]
    control = type(gateway.plane.control)

    def away(*_: Any) -> Any:
        raise OSError("gone")

    with monkeypatch.context() as outage:
        outage.setattr(control, "lease", away)
        answer = gateway.call("wanted", key=key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "serving.lease-unavailable")
    assert "retry-after" in answer.headers
    assert gateway.call("wanted", key=key).status_code == 200


def test_a_full_spool_refuses_before_anything_is_forwarded(gateway: Gateway, monkeypatch: Any) -> None:
    gateway.route("bounded", "words=3")
    gateway.call("bounded")
    monkeypatch.setattr(gateway.plane.spool, "limit_bytes", 0)
    gateway.upstream.seen.clear()
    answer = gateway.call("bounded")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "serving.spool-full")
    assert gateway.upstream.seen == []


@pytest.mark.heavy
def test_a_disk_that_refuses_stops_new_calls_and_loses_none_that_were_answered(
    gateway: Gateway, monkeypatch: Any
) -> None:
    gateway.route("unlucky", "words=3+late=0.3")
    gateway.settled(gateway.call("unlucky"))

    def refuse(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(gateway.call, "unlucky")
        eventually(lambda: bool(gateway.plane.calls))
        with monkeypatch.context() as disk:
            disk.setattr(spool.os, "write", refuse)
            answered = under_way.result()
            assert answered.status_code == 200
            assert gateway.call("unlucky").json()["error"]["code"] == "serving.spool-full"
    assert gateway.settled(answered)["output_tokens"] == 3
    assert gateway.call("unlucky").status_code == 200


def test_more_calls_than_the_plane_takes_are_refused(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(door, "MAX_CALLS", 0)
    answer = gateway.call("anything")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "serving.plane-full")


def test_a_body_that_does_not_come_is_not_waited_for(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)

    def slowly() -> Any:
        yield b'{"model":'
        time.sleep(0.6)
        yield b'"x"}'

    with gateway.http() as http:
        answer = http.post(CHAT, content=slowly())
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "serving.request-too-slow")


def test_a_settlement_is_not_done_twice_nor_out_of_turn(gateway: Gateway) -> None:
    from gongqi.kernel.errors import Broken
    from gongqi.resources.serving.settlement import settle_batch

    kernel = gateway.foundation.kernel
    record = [
        "e",
        "gen_twice",
        gateway.org,
        "k",
        "p",
        "r",
        None,
        "complete",
        1,
        1,
        None,
        1,
        1,
        0,
        1,
        False,
        False,
        "pr",
        1,
    ]
    record += [UNIT, 0, 0, 0, 0, None, 1]
    given: dict[str, Any] = {"plane": "plane_test", "segment": 1, "start": 0, "end": 10, "records": [record, record]}
    assert kernel.transact(lambda ctx: settle_batch(ctx, **given), reason="test") == 1
    with pytest.raises(Broken, match="spool-mark-differs"):
        kernel.transact(lambda ctx: settle_batch(ctx, **given), reason="test")
    further: dict[str, Any] = given | {"start": 20, "end": 30}
    with pytest.raises(Broken, match="spool-mark-differs"):
        kernel.transact(lambda ctx: settle_batch(ctx, **further), reason="test")
    later: dict[str, Any] = given | {"start": 10, "end": 20}
    assert kernel.transact(lambda ctx: settle_batch(ctx, **later), reason="test") == 0
