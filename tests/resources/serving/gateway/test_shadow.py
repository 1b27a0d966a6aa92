"""Shadow traffic: another server hears the same calls, and callers notice nothing of it: no word, no wait, no charge."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gongqi.doors.cli.client import Problem
from gongqi.resources.serving.plane import shadow
from tests.house.conftest import wait_for
from tests.resources.serving.gateway.conftest import Gateway, eventually

pytestmark = pytest.mark.heavy


class Mirrored:
    """A model that answers with five words, and its shadow, one with nine unless said otherwise."""

    def __init__(self, gateway: Gateway, name: str, script: str = "words=9", percent: int = 100, **more: Any) -> None:
        self.gateway = gateway
        self.name = name
        self.script = f"{script}+by={name}"  # a word of its own, to be told apart at the server
        self.route = gateway.route(name, "words=5")
        given = {"endpoint": gateway.endpoint, "model": self.script, "percent": percent} | more
        self.id = gateway.operator.verb("serving:shadow:begin", route=self.route, **given)["id"]
        gateway.seen()

    def get(self) -> dict[str, Any]:
        return self.gateway.operator.read("serving:shadow:get", self.id)

    def end(self) -> None:
        if self.get()["state"] == "mirroring":
            self.gateway.operator.verb("serving:shadow:end", shadow=self.id)
            self.gateway.seen()

    def told(self, **figures: int) -> dict[str, Any]:
        """Its figures, once they are these."""
        return wait_for(lambda: got if figures.items() <= (got := self.get()).items() else None)

    @property
    def heard(self) -> list[dict[str, Any]]:
        return [body for body in self.gateway.upstream.seen if body["model"] == self.script]


@pytest.fixture
def mirrored(gateway: Gateway) -> Iterator[Any]:
    begun: list[Mirrored] = []

    def begin(*given: Any, **more: Any) -> Mirrored:
        begun.append(Mirrored(gateway, *given, **more))
        return begun[-1]

    yield begin
    for each in begun:
        each.end()


def test_the_shadow_hears_what_was_asked_and_nobody_hears_the_shadow(gateway: Gateway, mirrored: Any) -> None:
    made = mirrored("mirrored")
    answers = [gateway.call("mirrored") for _ in range(3)]
    assert [answer.json()["usage"]["completion_tokens"] for answer in answers] == [5, 5, 5]
    got = made.told(answered=3, failed=0, dropped=0, output_tokens=15, shadow_output_tokens=27, shadow_input_tokens=21)
    assert got["mean_us"] > 0 and got["shadow_mean_us"] > 0 and 0 <= got["slower"] <= 3
    assert [body["messages"] for body in made.heard] == [[{"role": "user", "content": "你好"}]] * 3


def test_a_stream_is_read_to_its_end_and_thrown_away(gateway: Gateway, mirrored: Any) -> None:
    made = mirrored("streamed", "words=20+slow=0.01")
    _, events = gateway.stream("streamed")
    assert events[-1] == "[DONE]"
    assert made.told(answered=1)["shadow_output_tokens"] == 20
    assert made.heard[0]["stream"] is True


def test_a_shadow_makes_no_record_and_no_charge(gateway: Gateway, mirrored: Any) -> None:
    made = mirrored("free-of-charge")
    for _ in range(5):
        gateway.call("free-of-charge")
    made.told(answered=5)
    wait_for(lambda: True if len(rows(gateway, made)) == 5 else None)
    time.sleep(1.5)  # were there more, they would be settled
    assert {row["output_tokens"] for row in rows(gateway, made)} == {5}
    gateway.laws_hold()


def rows(gateway: Gateway, made: Mirrored) -> list[dict[str, Any]]:
    return [row for row in gateway.usage() if row["route"] == made.route]


@pytest.mark.parametrize(
    ("script", "failed"), [("status=500", 16), ("refuse", 16), ("broken", 8), ("words=9+cut=3", 16)]
)
def test_a_shadow_that_fails_is_counted_and_its_server_is_not_left_alone(
    gateway: Gateway, mirrored: Any, script: str, failed: int
) -> None:
    made = mirrored(f"ill-{script[:3]}", script)
    for _ in range(8):
        assert gateway.call(made.name).status_code == 200
        gateway.stream(made.name)
    got = made.told(failed=failed, answered=16 - failed)
    assert (got["mean_us"] is None) == (failed == 16)
    assert (gateway.endpoint, made.script) not in gateway.plane.health.resting(gateway.plane.now())


def test_nobody_waits_for_a_shadow_and_what_finds_no_room_is_dropped(
    gateway: Gateway, mirrored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "PARALLEL", 2)
    made = mirrored("stalled", "stall")
    began = time.monotonic()
    for _ in range(6):
        gateway.call("stalled")
    assert time.monotonic() - began < 5
    made.told(dropped=4)
    assert len(gateway.plane.shadows._under_way) == 2
    made.end()
    eventually(lambda: not gateway.plane.shadows._under_way)
    assert gateway.plane.shadows._bytes == 0, "one that is over is given up"
    monkeypatch.setattr(shadow, "MAX_BYTES", 10)
    large = mirrored("too-many-bytes")
    gateway.call("too-many-bytes")
    large.told(dropped=1, answered=0)


def test_one_that_takes_too_long_or_says_too_much_is_given_up(
    gateway: Gateway, mirrored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "SECONDS", 0.3)
    monkeypatch.setattr(shadow, "MAX_ANSWER_BYTES", 2000)
    monkeypatch.setattr(shadow, "MAX_STREAM_BYTES", 2000)
    late, long = mirrored("too-late", "stall"), mirrored("too-long", "words=1000")
    gateway.call("too-late")
    gateway.call("too-long")
    gateway.stream("too-long")
    late.told(failed=1)
    long.told(failed=2)


def test_of_each_hundred_answered_calls_its_share_is_mirrored(gateway: Gateway, mirrored: Any) -> None:
    made = mirrored("a-fifth", percent=20)
    for _ in range(100):
        gateway.call("a-fifth")
    made.told(answered=20)


def test_a_call_that_got_no_answer_is_not_made_again(gateway: Gateway, mirrored: Any) -> None:
    made = mirrored("unanswered")
    gateway.route("unanswered", "status=500")
    assert gateway.call("unanswered").status_code == 502
    gateway.route("unanswered", "words=5")
    gateway.plane.health._states.clear()
    gateway.call("unanswered")
    made.told(answered=1)
    assert len(made.heard) == 1


def test_a_key_that_is_narrowed_is_not_mirrored_to_a_model_it_may_not_use(gateway: Gateway, mirrored: Any) -> None:
    made = mirrored("narrowed")
    other = gateway.route("the-other-name", made.script)
    only = gateway.issue(routes=[made.route])["secret"]
    both = gateway.issue(routes=[made.route, other])["secret"]
    for key, heard in ((only, 0), (both, 1), (gateway.key, 2)):
        gateway.call("narrowed", key=key)
        made.told(answered=heard) if heard else time.sleep(1.5)
        assert len(made.heard) == heard


def test_what_is_asked_of_a_model_that_stays_in_a_region_leaves_it_by_no_shadow(
    gateway: Gateway, mirrored: Any
) -> None:
    route = gateway.route("stays-here", "words=5", region="cn-north")
    given = {"route": route, "model": "words=9+by=stays-here"}
    with pytest.raises(Problem, match=re.escape("serving.region-differs")):
        gateway.operator.verb("serving:shadow:begin", endpoint=gateway.endpoint, **given)
    made = mirrored("moves", "words=9")
    gateway.call("moves")
    made.told(answered=1)
    gateway.route("moves", "words=5", region="cn-north")
    gateway.call("moves")
    time.sleep(1.5)
    assert len(made.heard) == 1, "a region that is said later holds from then on"


def test_one_shadow_a_model_and_it_ends_once(gateway: Gateway, mirrored: Any) -> None:
    made = mirrored("once")
    begin = {"route": made.route, "endpoint": gateway.endpoint, "model": "words=3"}
    with pytest.raises(Problem, match=re.escape("serving.shadow-under-way")):
        gateway.operator.verb("serving:shadow:begin", **begin)
    made.end()
    with pytest.raises(Problem, match=re.escape("serving.shadow-over")):
        gateway.operator.verb("serving:shadow:end", shadow=made.id)
    [listed] = gateway.operator.read("serving:shadow:list", route=made.route)["items"]
    assert (listed["id"], listed["state"]) == (made.id, "ended")


def test_it_is_mirrored_to_servers_of_another_api_and_what_cannot_be_said_there_is_counted(
    gateway: Gateway, mirrored: Any
) -> None:
    there = gateway.operator.verb(
        "serving:endpoint:add", name="shadow-messages", base_url=gateway.upstream.url, private=True, speaks="anthropic"
    )["id"]
    made = mirrored("translated", "words=9", endpoint=there)
    gateway.call("translated", max_tokens=20)
    made.told(answered=1)
    assert gateway.call("translated", n=2, max_tokens=20).status_code == 200
    made.told(answered=1, unsaid=1)


MCP = {"type": "mcp", "server_label": "post", "server_url": "https://post.example.org/mcp", "require_approval": "never"}


@pytest.mark.parametrize("letter", ["c", "\\u0063"])
def test_what_a_server_does_elsewhere_with_its_tools_is_not_done_again(
    gateway: Gateway, mirrored: Any, letter: str
) -> None:
    name = f"sends-post-{len(letter)}"
    there = gateway.operator.verb(
        "serving:endpoint:add", name=name, base_url=gateway.upstream.url, private=True, speaks="openai-responses"
    )["id"]
    made = mirrored(name, "words=9", endpoint=there)
    gateway.route(name, targets=[{"endpoint": there, "model": "words=5"}])
    asked = json.dumps({"model": name, "input": "Post it.", "tools": [MCP]}).replace('"mcp"', f'"m{letter}p"')
    with gateway.http() as http:
        assert http.post("/v1/responses", content=asked).status_code == 200
        made.told(unsaid=1, answered=0)
        assert http.post("/v1/responses", json={"model": name, "input": "Read it."}).status_code == 200
    made.told(unsaid=1, answered=1)
    assert [body["input"] for body in made.heard] == ["Read it."]


def test_prompts_of_a_shadow_are_written_nowhere(gateway: Gateway, mirrored: Any) -> None:
    made = mirrored("discreet", "status=500")
    secret = "zhima-kaimen-4711"
    with gateway.http() as http:
        http.post("/v1/chat/completions", json={"model": "discreet", "messages": [{"role": "user", "content": secret}]})
    made.told(failed=1)
    home = gateway.foundation.settings.home
    time.sleep(1.2)
    assert not [path for path in home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
