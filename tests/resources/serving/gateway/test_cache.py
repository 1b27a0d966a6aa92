"""Answers that are given again: to whom, how, for how long, at what price; and what is never kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from gongqi.resources.serving.plane.cache import Cache
from tests.house.conftest import wait_for
from tests.resources.serving.gateway.conftest import CHAT, Gateway, eventually

pytestmark = pytest.mark.heavy

ASKED = [{"role": "user", "content": "你好"}]
HOUR = {"cache-control": "max-age=3600"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module", autouse=True)
def routes(gateway: Gateway) -> None:
    gateway.route("talk", "words=5")


@pytest.fixture(scope="module")
def keys(gateway: Gateway) -> dict[str, str]:
    return {cache: gateway.issue(cache=cache)["secret"] for cache in ("off", "asked", "always")}


@pytest.fixture(autouse=True)
def empty(gateway: Gateway) -> Iterator[None]:
    """Nothing is kept, and no server rests."""
    gateway.plane.health._states.clear()
    gateway.plane.cache = Cache(gateway.plane.now)
    gateway.plane.swap(gateway.plane.snapshot)
    yield
    eventually(lambda: not gateway.plane.calls)
    assert gateway.plane.cache.coming == 0, "what was remembered of answers under way is given back"


def ask(gateway: Gateway, key: str, model: str = "talk", headers: dict[str, str] | None = None, **more: Any) -> Any:
    path = more.pop("path", CHAT)
    body = {"model": model, "messages": ASKED} | more
    with gateway.http(key) as http:
        return http.post(path, json=body, headers=headers or {})


def status(answer: httpx.Response) -> str:
    return answer.headers.get("cache-status", "")


@pytest.mark.parametrize("streams", [False, True])
def test_the_same_call_has_the_same_answer_at_no_cost(gateway: Gateway, keys: dict[str, str], streams: bool) -> None:
    asked = len(gateway.upstream.seen)
    first, again = (ask(gateway, keys["asked"], headers=HOUR, stream=streams) for _ in range(2))
    assert len(gateway.upstream.seen) == asked + 1
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content and again.headers["content-type"] == first.headers["content-type"]
    assert status(first) == "gongqi; fwd=miss" and "age" not in first.headers
    assert status(again).startswith("gongqi; hit; ttl=3") and again.headers["age"] == "0"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    paid, free = gateway.settled(first), gateway.settled(again)
    assert paid["cost_nanos"] > 0 and paid["repeats"] is None
    assert (free["cost_nanos"], free["input_tokens"], free["output_tokens"], free["attempts"]) == (0, 0, 0, 0)
    assert (free["repeats"], free["ending"]) == (paid["id"], "complete")
    with gateway.http(keys["asked"]) as http:
        told = http.get("/v1/usage", params={"id": free["id"]}, headers={"accept-language": "en"}).json()["data"][0]
    assert told["repeats"] == paid["id"] and told["cost"] == "0.00 CNY" and "nothing is charged" in told["rule"]


def test_who_does_not_ask_for_it_takes_no_part(gateway: Gateway, keys: dict[str, str]) -> None:
    for key, headers in (("off", HOUR), ("asked", {}), ("always", {"cache-control": "no-store"})):
        asked = len(gateway.upstream.seen)
        answers = [ask(gateway, keys[key], headers=headers, temperature=0) for _ in range(2)]
        assert len(gateway.upstream.seen) == asked + 2
        assert [status(answer) for answer in answers] == ["", ""]
    assert gateway.plane.cache.size == 0


def test_a_key_that_always_keeps_keeps_what_leaves_nothing_to_chance(gateway: Gateway, keys: dict[str, str]) -> None:
    asks: list[tuple[dict[str, Any], bool]] = [
        ({"temperature": 0}, True), ({"seed": 7}, True), ({"temperature": 0.7}, False), ({}, False),
    ]  # fmt: skip
    for more, is_kept in asks:
        answers = [ask(gateway, keys["always"], **more) for _ in range(2)]
        assert ("hit" in status(answers[1])) == is_kept, more
    asked = [ask(gateway, keys["always"], headers=HOUR, temperature=1) for _ in range(2)]
    assert "hit" in status(asked[1]), "the call says that it does not mind"


def test_the_words_of_the_call_are_heeded(gateway: Gateway, keys: dict[str, str]) -> None:
    first = ask(gateway, keys["asked"], headers=HOUR)
    fresh = ask(gateway, keys["asked"], headers={"cache-control": "max-age=3600, no-cache"})
    assert status(fresh) == "gongqi; fwd=request"
    again = ask(gateway, keys["asked"], headers=HOUR)
    assert gateway.settled(again)["repeats"] == fresh.headers["x-request-id"] != first.headers["x-request-id"]
    [entry] = next(iter(gateway.plane.cache._tenants.values())).entries.values()
    entry.at -= 10
    assert status(ask(gateway, keys["asked"], headers={"cache-control": "max-age=5"})) == "gongqi; fwd=request"
    assert ask(gateway, keys["asked"], headers={"cache-control": 'Max-Age="60"'}).headers["age"] in ("0", "1")
    [entry] = next(iter(gateway.plane.cache._tenants.values())).entries.values()
    entry.until = entry.at
    gone = status(ask(gateway, keys["asked"], headers=HOUR))
    assert gone in ("gongqi; fwd=stale", "gongqi; fwd=miss"), "whether or not the clock has taken it away yet"
    with gateway.http(keys["asked"]) as http:
        twice = [*HOUR.items(), ("cache-control", "no-store")]
        lines = http.post(CHAT, json={"model": "talk", "messages": ASKED}, headers=twice)
    assert status(lines) == "", "each line is heeded"
    for mistaken in ("max-age=x", "max-age", "max-age=-1", "max-age=0", ",,="):
        assert status(ask(gateway, keys["asked"], headers={"cache-control": mistaken})) == ""


def test_no_organisation_gets_what_another_asked(gateway: Gateway, keys: dict[str, str]) -> None:
    there = gateway.foundation.organisation("south")
    owner = gateway.foundation.person("south-owner", there, "owner")
    gateway.operator.verb("ledger:credit:grant", owner=there, unit="CNY-fen", amount=1000)
    key = owner.verb("serving:key:issue", org=there, label="south", cache="always")["secret"]
    gateway.seen()
    ask(gateway, keys["always"], temperature=0)
    asked = len(gateway.upstream.seen)
    assert status(ask(gateway, key, temperature=0)) == "gongqi; fwd=miss"
    assert len(gateway.upstream.seen) == asked + 1
    assert len(gateway.plane.cache._tenants) == 2
    cache = gateway.plane.cache  # and if places were ever the same, the record says whose it is
    [mine], [theirs] = (each.entries.values() for each in cache._tenants.values())
    mine.org, theirs.org = theirs.org, mine.org
    assert status(ask(gateway, keys["always"], temperature=0)) == "gongqi; fwd=miss"


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("status=500", {}), ("status=400", {}), ("broken", {}), ("words=5+cut=3", {"stream": True}),
        ("words=5+half=3", {"stream": True}), ("words=5+nodone", {"stream": True}), ("talk", {"tools": [TOOL]}),
        ("status=200", {}), ("words=5+fails", {"stream": True}),
        ("talk", {"functions": [TOOL["function"]]}),
    ],
)  # fmt: skip
def test_what_did_not_go_well_or_does_something_is_not_kept(
    gateway: Gateway, keys: dict[str, str], model: str, more: dict[str, Any]
) -> None:
    name = model if model == "talk" else gateway.scripted(model)
    for _ in range(2):
        gateway.plane.health._states.clear()
        assert "hit" not in status(ask(gateway, keys["asked"], name, headers=HOUR, **more))
    assert gateway.plane.cache.size == 0


def test_what_a_stand_in_says_is_given_and_not_kept(gateway: Gateway, keys: dict[str, str]) -> None:
    name = gateway.scripted("status=503", "words=3")
    for _ in range(2):
        answer = ask(gateway, keys["asked"], name, headers=HOUR)
        assert answer.status_code == 200 and status(answer) == "gongqi; fwd=miss"


def test_an_answer_that_is_too_long_is_given_and_not_kept(gateway: Gateway, keys: dict[str, str]) -> None:
    name = gateway.scripted("words=300000")
    gateway.route(name, "words=300000", context_tokens=100_000, output_tokens=500_000)
    for _ in range(2):
        assert status(ask(gateway, keys["asked"], name, headers=HOUR)) == "gongqi; fwd=miss"
    assert gateway.plane.cache.size == 0


def test_a_caller_that_leaves_leaves_nothing(gateway: Gateway, keys: dict[str, str]) -> None:
    name = gateway.scripted("words=50+slow=0.05")
    body = {"model": name, "messages": ASKED, "stream": True}
    with gateway.http(keys["asked"]) as http, http.stream("POST", CHAT, json=body, headers=HOUR) as answer:
        next(answer.iter_lines())
    eventually(lambda: not gateway.plane.calls)
    assert gateway.plane.cache.size == gateway.plane.cache.coming == 0


def test_a_call_under_a_name_and_a_response_that_goes_on_are_made(gateway: Gateway, keys: dict[str, str]) -> None:
    named = [ask(gateway, keys["asked"], headers=HOUR | {"idempotency-key": f"n{n}"}) for n in range(2)]
    assert [status(answer) for answer in named] == ["", ""]
    with gateway.http(keys["asked"]) as http:
        kept = [http.post("/v1/responses", json={"model": "talk", "input": "a", "store": True}, headers=HOUR)]
        more = {"model": "talk", "input": "b", "previous_response_id": kept[0].json()["id"]}
        kept += [http.post("/v1/responses", json=more, headers=HOUR) for _ in range(2)]
        assert [status(answer) for answer in kept] == ["", "", ""]
        plain = [http.post("/v1/responses", json={"model": "talk", "input": "a"}, headers=HOUR) for _ in range(2)]
        assert "hit" in status(plain[1]) and plain[0].json() == plain[1].json()
        said = {"model": "talk", "max_tokens": 9, "messages": ASKED}
        counted = [http.post("/v1/messages/count_tokens", json=said, headers=HOUR) for _ in range(2)]
        assert [status(answer) for answer in counted] == ["", ""], "it costs nothing anyway"
        first = http.post("/v1/messages", json=said, headers=HOUR)
        other = http.post("/v1/messages", json=said, headers=HOUR | {"anthropic-beta": "x"})
        again = http.post("/v1/messages", json=said, headers=HOUR)
        assert [status(each).split(";")[1] for each in (first, other, again)] == [" fwd=miss", " fwd=miss", " hit"]


def test_forgotten_at_once_and_also_what_is_on_its_way(gateway: Gateway, keys: dict[str, str]) -> None:
    ask(gateway, keys["asked"], headers=HOUR)
    late = gateway.scripted("words=2+late=1.5")
    under_way = threading.Thread(target=lambda: ask(gateway, keys["asked"], late, headers=HOUR))
    under_way.start()
    eventually(lambda: bool(gateway.plane.calls))
    made = gateway.owner.verb("serving:cache:forget", org=gateway.org)
    assert made["org"] == gateway.org
    gateway.seen()
    assert gateway.plane.cache.size == 0
    under_way.join()
    assert gateway.plane.cache.size == 0, "what was on its way is not kept either"
    assert status(ask(gateway, keys["asked"], headers=HOUR)) == "gongqi; fwd=miss"
    assert "hit" in status(ask(gateway, keys["asked"], headers=HOUR)), "and from then on it is kept again"


def test_a_revoked_key_gets_nothing_and_the_last_takes_all_along(gateway: Gateway, keys: dict[str, str]) -> None:
    there = gateway.foundation.organisation("east")
    owner = gateway.foundation.person("east-owner", there, "owner")
    gateway.operator.verb("ledger:credit:grant", owner=there, unit="CNY-fen", amount=1000)
    made = owner.verb("serving:key:issue", org=there, label="east", cache="asked")
    gateway.seen()
    ask(gateway, made["secret"], headers=HOUR)
    assert there in gateway.plane.cache._tenants
    owner.verb("serving:key:revoke", model_key=made["id"])
    gateway.seen()
    assert ask(gateway, made["secret"], headers=HOUR).status_code == 401
    assert there not in gateway.plane.cache._tenants


def test_a_key_that_is_revoked_while_its_request_comes_gets_nothing_that_is_kept(gateway: Gateway) -> None:
    made = gateway.issue(cache="asked")
    body = orjson.dumps({"model": "talk", "messages": ASKED})
    ask(gateway, made["secret"], headers=HOUR)

    def slowly() -> Iterator[bytes]:
        yield body[:5]
        eventually(lambda: gateway.plane.bodies.coming > 0)
        gateway.owner.verb("serving:key:revoke", model_key=made["id"])
        gateway.seen()
        yield body[5:]

    with gateway.http(made["secret"]) as http:
        headers = HOUR | {"content-type": "application/json", "content-length": str(len(body))}
        assert http.post(CHAT, content=body, headers=headers).headers["cache-status"].startswith("gongqi; hit")
        assert http.post(CHAT, content=slowly(), headers=headers).status_code == 401


def test_a_model_that_is_defined_anew_is_asked_anew(gateway: Gateway, keys: dict[str, str]) -> None:
    gateway.route("changing", "words=1")
    assert [status(ask(gateway, keys["asked"], "changing", headers=HOUR)).split(";")[1] for _ in range(2)] == [
        " fwd=miss", " hit",
    ]  # fmt: skip
    gateway.route("changing", "words=2", price=None)
    answer = ask(gateway, keys["asked"], "changing", headers=HOUR)
    assert status(answer) == "gongqi; fwd=miss" and answer.json()["choices"][0]["message"]["content"] == "w0 w1 "
    gateway.route("changing", "words=2", price=None, licence="Apache-2.0")
    assert status(ask(gateway, keys["asked"], "changing", headers=HOUR)) == "gongqi; fwd=miss", (
        "at the same address, too"
    )
    assert "hit" in status(ask(gateway, keys["asked"], "changing", headers=HOUR))


def test_a_hit_counts_as_a_call_and_needs_no_money(gateway: Gateway) -> None:
    key = gateway.issue(cache="asked", requests_per_minute=3, budget_day=1)["secret"]
    ask(gateway, key, headers=HOUR)
    answers = [ask(gateway, key, headers=HOUR) for _ in range(4)]
    codes = [answer.status_code for answer in answers]
    assert codes[:2] == [200, 200] and 429 in codes
    gateway.route("dear", "words=5", price=(10**9, 10**9))
    poor = gateway.issue(cache="asked", budget_day=600)["secret"]
    paid = ask(gateway, poor, "dear", headers=HOUR, max_tokens=500)
    assert paid.status_code == 200, paid.text
    wait_for(lambda: True if gateway.settled(paid) else None)
    refused = ask(gateway, poor, "dear", headers=HOUR, max_tokens=512)
    assert refused.status_code == 402
    assert "hit" in status(ask(gateway, poor, "dear", headers=HOUR, max_tokens=500))


def test_what_is_kept_and_given_again_is_told_to_who_watches(gateway: Gateway, keys: dict[str, str]) -> None:
    for _ in range(3):
        ask(gateway, keys["asked"], headers=HOUR)

    def look() -> bool:
        told = gateway.operator.http.get("/metrics").text
        lines = [line for line in told.splitlines() if line.startswith("gongqi_gateway_cache")]
        values = {
            line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines if "talk" in line or "bytes" in line
        }
        return values.get("gongqi_gateway_cached_answers_total", 0) >= 2 and values["gongqi_gateway_cache_bytes"] > 0

    eventually(look)
