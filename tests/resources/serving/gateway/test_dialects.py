"""Which API may be asked of which server, that each refuses in its own words, and what in each is no answer."""

from __future__ import annotations

import pytest

from tests.resources.serving.gateway.conftest import CHAT, Gateway

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def healthy(gateway: Gateway) -> None:
    gateway.plane.health._states.clear()


def test_an_api_that_no_server_of_the_model_can_be_spoken_to_in_is_refused(gateway: Gateway) -> None:
    given = {"name": "claude", "base_url": gateway.upstream.url, "private": True, "speaks": "anthropic"}
    endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    gateway.route("talks-there", targets=[{"endpoint": endpoint, "model": "words=1"}])
    asked = len(gateway.upstream.seen)
    answer = gateway.call("talks-there", path="/v1/completions", prompt="a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "serving.api-unspoken")
    assert len(gateway.upstream.seen) == asked, "nothing was forwarded"


SPOKEN = {"openai": CHAT, "openai-responses": "/v1/responses", "anthropic": "/v1/messages"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("speaks", "path"), [*SPOKEN.items(), ("openai", "/v1/messages"), ("anthropic", CHAT)])
def test_an_error_under_the_status_200_is_the_servers_failure_and_costs_nothing(
    gateway: Gateway, speaks: str, path: str, stream: bool
) -> None:
    told = {"max_tokens": 50, "messages": [{"role": "user", "content": "?"}]}
    body = {"input": "?"} if path == "/v1/responses" else told
    gateway.spoken_route(speaks, f"errs-{speaks}", "errs")
    with gateway.http() as http:
        answer = http.post(path, json={"model": f"errs-{speaks}", "stream": stream} | body)
    assert answer.status_code == 502 and "serving.upstream-broken" in answer.text and "scripted" not in answer.text
    assert (record := gateway.settled(answer))["ending"] == "refused" and record["cost_nanos"] == 0
    endpoint = gateway.endpoints[speaks]
    targets = [{"endpoint": endpoint, "model": script, "rank": at} for at, script in enumerate(("errs", "words=4"))]
    gateway.route(f"errs-then-{speaks}", targets=targets)
    with gateway.http() as http:
        answer = http.post(path, json={"model": f"errs-then-{speaks}", "stream": stream} | body)
    assert answer.status_code == 200 and "w3" in answer.text and "scripted" not in answer.text
    record = gateway.settled(answer)
    assert (record["attempts"], record["output_tokens"], record["ending"]) == (2, 4, "complete")


def test_a_stream_that_ends_before_it_has_said_anything_is_no_answer(gateway: Gateway) -> None:
    id, events = gateway.stream(gateway.scripted("nothing", "words=4"))
    assert events[-1] == "[DONE]" and gateway.settled(id)["attempts"] == 2
    answer = gateway.call(gateway.scripted("nothing"), stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "serving.upstream-broken")
    assert gateway.settled(answer)["cost_nanos"] == 0
