"""The latest calls, followed: each appears once, to those who may see it, and without what was said."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
import pytest

from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.verbs import Caller
from gongqi.kernel.words import LANGUAGES
from gongqi.resources.serving import following
from tests.resources.serving.gateway.conftest import Gateway

pytestmark = pytest.mark.heavy

TAIL = "/api/v1/serving/tail"
SECRET = "你好"  # said in every call of these tests


@contextmanager
def followed(gateway: Gateway, who: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a stream, as they come."""
    cookies = {"gongqi_session": who.secret}
    with (
        httpx.Client(base_url=gateway.url, cookies=cookies, trust_env=False, timeout=30) as http,
        http.stream("GET", TAIL, headers={"accept-language": "en"}) as answer,
    ):
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
        yield map(orjson.loads, lines)


def test_a_call_appears_once_in_the_stream_without_what_was_said(gateway: Gateway) -> None:
    gateway.route("followed", "words=5")
    gateway.settled(gateway.call("followed"))
    with followed(gateway, gateway.owner) as events:
        first = next(events)
        assert first["is_whole"] and len(first["rows"]) >= 1
        record = gateway.settled(gateway.call("followed"))
        then = next(events)
    assert not then["is_whole"]
    (row,) = then["rows"]
    assert row[1] == "followed" and row[4] == f"{record['input_tokens']} + {record['output_tokens']}"
    assert row[5] == f"{round(record['duration_us'] / 1000, 1)} ms" and row[3] == "Came to its end"
    assert row[2] != "–", "whose key it was"
    assert SECRET not in str(first) + str(then)


def test_nobody_sees_the_calls_of_others(gateway: Gateway) -> None:
    gateway.route("unseen", "words=2")
    gateway.settled(gateway.call("unseen"))
    org = gateway.foundation.organisation("passers-by")
    stranger = gateway.foundation.person("passer-by", org, "owner")
    with followed(gateway, stranger) as events:
        assert next(events) == {"is_whole": True, "rows": []}
    assert httpx.get(f"{gateway.url}{TAIL}", trust_env=False).status_code == 401


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_the_same_without_scripts(gateway: Gateway, language: str) -> None:
    gateway.route("paged", "words=2")
    gateway.settled(gateway.call("paged"))
    given = {"cookies": {"gongqi_session": gateway.owner.secret}, "headers": {"accept-language": language}}
    answer = httpx.get(f"{gateway.url}/serving/tail", **given, trust_env=False)
    assert answer.status_code == 200 and "paged" in answer.text and SECRET not in answer.text
    assert httpx.get(f"{gateway.url}/serving/tail", trust_env=False).status_code == 401


async def taken_up(whose: str | None = None) -> list[bytes]:
    """What a stream says that had been let in, when all places, or one reader's, were taken meanwhile."""
    nobody: Any = None
    places = following.MAX_STREAMS if whose is None else following.MAX_OF_ONE
    taken = {object(): whose or f"reader {number}" for number in range(places)}
    following._open.update(taken)
    try:
        return [told async for told in following._stream(nobody, Caller(ANONYMOUS), [])]
    finally:
        for mark in taken:
            del following._open[mark]


def test_nobody_holds_all_places(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MAX_OF_ONE", 2)
    other = gateway.foundation.person("another-reader", gateway.org, "owner")
    with followed(gateway, gateway.owner) as one, followed(gateway, gateway.owner) as two:
        assert next(one)["is_whole"] and next(two)["is_whole"]
        for language, word in (("zh", "您已在 2 处"), ("en", "in 2 places already")):
            given = {"cookies": {"gongqi_session": gateway.owner.secret}, "headers": {"accept-language": language}}
            answer = httpx.get(f"{gateway.url}{TAIL}", **given, trust_env=False)
            assert (answer.status_code, answer.json()["code"]) == (429, "serving.own-tails-too-many")
            assert word in answer.text
        with followed(gateway, other) as third:
            assert next(third)["is_whole"]
    assert not asyncio.run(taken_up(whose="anonymous")), "nor by coming at one time"


def test_streams_have_a_limit_and_are_counted_down(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    with followed(gateway, gateway.owner) as events:
        next(events)
        monkeypatch.setattr(following, "MAX_STREAMS", 1)
        cookies = {"gongqi_session": gateway.owner.secret}
        answer = httpx.get(f"{gateway.url}{TAIL}", cookies=cookies, trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (503, "serving.tails-too-many")
    assert not asyncio.run(taken_up()), "of those that came at one time no more are followed than there is room for"
    for _ in itertools.repeat(None, 100):
        with (
            httpx.Client(base_url=gateway.url, cookies=cookies, trust_env=False) as http,
            http.stream("GET", TAIL) as answer,
        ):
            if answer.status_code == 200:
                return
    raise AssertionError("a stream that has ended still counts")
