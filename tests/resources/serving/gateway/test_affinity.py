"""What servers remember of prompts: met again by who asked, paid as cached, and told to nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.resources.serving.gateway.conftest import CHAT, Gateway

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def healthy(gateway: Gateway) -> None:
    gateway.plane.health._states.clear()


def talk(*turns: str) -> list[dict[str, str]]:
    told = [{"role": "system", "content": "be kind"}]
    return told + [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]


def server_of(gateway: Gateway, model: str, path: str = CHAT, **more: Any) -> str:
    answer = gateway.call(model, path=path, **more)
    assert answer.status_code == 200, answer.text
    return gateway.upstream.seen[-1]["model"]


def twins(gateway: Gateway, name: str, *scripts: str, **more: Any) -> None:
    targets = [{"endpoint": gateway.endpoint, "model": script} for script in scripts]
    gateway.route(name, targets=targets, **more)


def test_a_conversation_stays_with_its_server_and_others_go_elsewhere(gateway: Gateway) -> None:
    twins(gateway, "twins", "words=1", "words=2", has_affinity=True)
    met = set()
    for number in range(12):
        turns = [f"question {number}", "answer", "another"]
        seen = {server_of(gateway, "twins", messages=talk(*turns[:count])) for count in (1, 2, 3, 1)}
        assert len(seen) == 1
        met |= seen
    assert met == {"words=1", "words=2"}
    named = {server_of(gateway, "twins", messages=talk(f"{n}"), prompt_cache_key="mine") for n in range(8)}
    assert len(named) == 1, "who names the prompt has said what belongs together"
    for more in (
        {"path": "/v1/responses", "input": "hello", "messages": None},
        {"path": "/v1/completions", "prompt": "a"},
    ):
        assert len({server_of(gateway, "twins", **more) for _ in range(4)}) == 1


def test_without_affinity_the_same_prompt_goes_to_all(gateway: Gateway) -> None:
    twins(gateway, "free", "words=1", "words=2")
    assert {server_of(gateway, "free", messages=talk("same")) for _ in range(30)} == {"words=1", "words=2"}


def test_when_its_server_fails_the_next_answers(gateway: Gateway) -> None:
    twins(gateway, "half", "status=500", "words=2", has_affinity=True)
    assert all(server_of(gateway, "half", messages=talk(f"{n}")) == "words=2" for n in range(6))


def test_each_organisation_has_a_salt_of_its_own_whatever_it_says(gateway: Gateway) -> None:
    given = {"name": "salted", "base_url": gateway.upstream.url, "private": True, "cache_salt": True}
    endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    gateway.route("salted", targets=[{"endpoint": endpoint, "model": "words=1"}])
    gateway.route("plain", "words=1")
    there = gateway.foundation.organisation("west")
    owner = gateway.foundation.person("west-owner", there, "owner")
    gateway.operator.verb("ledger:credit:grant", owner=there, unit="CNY-fen", amount=1000)
    key = owner.verb("serving:key:issue", org=there, label="west")["secret"]
    gateway.seen()
    salts = []
    asks: list[dict[str, Any]] = [{}, {"key": key}, {"cache_salt": "guessed"}, {"stream": True}]
    for more in asks:
        assert gateway.call("salted", **more).status_code == 200
        salts.append(gateway.upstream.seen[-1]["cache_salt"])
    assert salts[0] == salts[2] == salts[3] != salts[1] and len(salts[0]) == 64
    gateway.call("plain")
    assert "cache_salt" not in gateway.upstream.seen[-1]


def test_what_was_cached_is_charged_as_cached_in_every_api(gateway: Gateway) -> None:
    gateway.spoken_route("anthropic", "far", "words=5+cached")
    gateway.spoken_route("openai-responses", "near", "words=5+cached")
    hello = [{"role": "user", "content": "hi"}]
    asks: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"messages": hello, "prompt_cache_key": "k"}),
        ("/v1/messages", {"messages": hello, "max_tokens": 9}),
        ("/v1/responses", {"input": "hi", "prompt_cache_key": "k"}),
    ]
    for model, cached in (("far", 5), ("near", 3)):
        for path, body in asks:
            for stream in (False, True):
                with gateway.http() as http:
                    answer = http.post(path, json={"model": model, "stream": stream} | body)
                assert answer.status_code == 200, answer.text
                record = gateway.settled(answer)
                assert record["cached_tokens"] == cached, (model, path, stream)
                if model == "near" and path != "/v1/messages":
                    assert gateway.upstream.seen[-1]["prompt_cache_key"] == "k"


def test_marks_of_a_prompt_cache_pass_to_servers_of_the_same_api(gateway: Gateway) -> None:
    gateway.spoken_route("anthropic", "claude", "words=1")
    marked = [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}]
    with gateway.http() as http:
        answer = http.post("/v1/messages", json={"model": "claude", "max_tokens": 9, "messages": marked})
    assert answer.status_code == 200 and gateway.upstream.seen[-1]["messages"] == marked
