"""The laws of answers that are given again: whose, which, how much."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gongqi.resources.serving.metering import Tariff
from gongqi.resources.serving.plane import affinity, cache, openai
from gongqi.resources.serving.plane.cache import ENTRY_BYTES, Cache, place, wish_of
from gongqi.resources.serving.plane.meters import Meter
from gongqi.resources.serving.plane.snapshot import Key, Route, Server, Target
from gongqi.resources.serving.plane.terms import Terms

TARIFF = Tariff("p", 1, "CNY-fen", 1, 1, 1)
ORGS: tuple[str, ...] = ("org_a", "org_b", "org_c")


def key(org: str = "org_a", since: int = 0, seconds: int = 100, **more: Any) -> Key:
    given = {"cache_seconds": seconds, "cache_always": True, "cache_since": since} | more
    return Key(f"mkey_{org}", org, "default", None, 1, 1, 1, 9e9, **given)


def server(name: str, port: int = 80, speaks: str = "openai") -> Server:
    at = {"private": True, "credential": None, "first_byte_seconds": 1.0}
    return Server.at(f"http://{name}:{port}/v1", id=f"mep_{name}", name=name, speaks=speaks, **at)


def route(name: str, *targets: Target, output_tokens: int = 10) -> Route:
    return Route(f"mrt_{name}", name, "chat", targets, 100, output_tokens, TARIFF, b"{}")


texts = st.text(max_size=6)
servers = st.builds(server, st.sampled_from("ab"), st.integers(1, 3), st.sampled_from(["openai", "anthropic"]))
targets = st.builds(Target, servers, texts, st.just(1), st.integers(0, 1))
routes = st.builds(
    lambda name, all, most: route(name, *all, output_tokens=most),
    texts,
    st.lists(targets, max_size=2),
    st.integers(1, 2),
)
calls = st.tuples(
    st.builds(key, st.sampled_from(ORGS), st.integers(0, 2)),
    st.sampled_from(["/v1/chat/completions", "/v1/completions", "/v1/messages"]),
    routes,
    st.binary(max_size=4),
    st.binary(max_size=12),
)  # fmt: skip


def placed(call: Any) -> bytes:
    who, path, asked, beta, body = call
    terms = Terms(who, path, openai.CHAT, asked, Meter(), 1)
    assert terms.place is not None
    return place(terms.place, {b"anthropic-beta": beta}, body)


@given(calls, calls)
def test_calls_that_could_be_answered_differently_have_different_places(one: Any, other: Any) -> None:
    def matters(call: Any) -> Any:
        who, path, asked, beta, body = call
        return who.org, who.cache_since, path, asked.id, asked.output_tokens, asked.targets, beta, body

    assert (placed(one) == placed(other)) == (matters(one) == matters(other))


@given(calls, st.integers(0, 4), st.data())
def test_a_call_that_differs_in_one_thing_has_another_place(call: Any, which: int, data: st.DataObject) -> None:
    who, path, asked, beta, body = call
    changed: list[Any] = [
        (replace(who, org=who.org + "x"), path, asked, beta, body),
        (replace(who, cache_since=who.cache_since + 1), path, asked, beta, body),
        (who, path, replace(asked, output_tokens=asked.output_tokens + 1), beta, body),
        (who, path, asked, beta + body[:1], body[1:]) if body else (who, path, asked, beta, b"x"),
        (who, path, asked, beta, body + data.draw(st.binary(min_size=1, max_size=3))),
    ]
    assert placed(call) != placed(changed[which])


class Kept(RuleBasedStateMachine):
    """Any doings of three organisations, on a clock of ours, under bounds small enough to be met."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.cache = Cache(lambda: self.now)
        self.since: dict[str, int] = dict.fromkeys(ORGS, 0)
        self.put: dict[tuple[str, int, bytes], tuple[bytes, float]] = {}
        self.go_by()

    def go_by(self) -> None:
        self.cache.go_by(self.since)

    @rule(
        org=st.sampled_from(ORGS),
        place=st.sampled_from([b"p", b"q", b"r", b"s"]),
        size=st.sampled_from([0, 1500, 3000]),
    )
    def keep(self, org: str, place: bytes, size: int) -> None:
        body = org.encode() + b"." * size
        self.cache.put(key(org, self.since[org]), place, b"text/plain", body, "gen_1")
        self.put[(org, self.since[org], place)] = (body, self.now)

    @rule(org=st.sampled_from(ORGS), place=st.sampled_from([b"p", b"q", b"r", b"s"]), seconds=st.integers(0, 200))
    def find(self, org: str, place: bytes, seconds: int) -> None:
        search = cache.Search(self.cache, key(org, self.since[org]), cache.Wish(seconds, asks=True), place)
        entry = self.cache._find(search)
        if entry is not None:
            body, at = self.put[(org, self.since[org], place)]
            assert entry.org == org and entry.body == body, "the last that it kept there, and its own"
            assert self.now - at < min(100, seconds), "not older than either allows"

    @rule(org=st.sampled_from(ORGS), place=st.sampled_from([b"p", b"q"]))
    def keep_late(self, org: str, place: bytes) -> None:
        """By a call that began before all was forgotten."""
        self.cache.put(key(org, self.since[org] - 1), place, b"text/plain", b"late", "gen_1")

    @rule(org=st.sampled_from(ORGS))
    def forget(self, org: str) -> None:
        self.since[org] += 1
        self.go_by()
        assert org not in self.cache._tenants

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.cache.forget_old(self.now)

    @invariant()
    def is_bounded(self) -> None:
        tenants = self.cache._tenants.values()
        for tenant in tenants:
            sizes = [len(entry.body) + ENTRY_BYTES for entry in tenant.entries.values()]
            assert tenant.size == sum(sizes) <= cache.TENANT_BYTES
        assert self.cache.size == sum(tenant.size for tenant in tenants) <= cache.MAX_BYTES


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    before = cache.TENANT_BYTES, cache.MAX_BYTES
    cache.TENANT_BYTES, cache.MAX_BYTES = 6_000, 9_000
    yield
    cache.TENANT_BYTES, cache.MAX_BYTES = before


TestWhatIsKept = Kept.TestCase


@given(
    st.integers(0, 1000), st.booleans(), st.binary(max_size=30) | st.sampled_from([b"max-age=5", b"no-store,max-age=9"])
)
def test_nothing_is_older_than_the_key_allows_whatever_a_call_says(seconds: int, always: bool, said: bytes) -> None:
    wish = wish_of(key(seconds=seconds, cache_always=always), said)
    if wish is not None:
        assert 0 <= wish.seconds <= seconds
        assert always or wish.asks
        assert b"no-store" not in said


@given(st.binary(max_size=200))
def test_every_body_has_a_beginning(body: bytes) -> None:
    assert isinstance(affinity.beginning(body), bytes)


words = st.text(max_size=12)


@given(words, words, st.lists(words, max_size=6), st.lists(words, max_size=6))
def test_a_conversation_stays_with_its_server_while_it_goes_on(
    system: str, first: str, some: list[str], more: list[str]
) -> None:
    import orjson

    def said(turns: list[str]) -> bytes:
        talk = [{"role": "system", "content": system}, {"role": "user", "content": first}]
        talk += [{"role": ("assistant", "user")[n % 2], "content": turn} for n, turn in enumerate(turns)]
        return orjson.dumps({"model": "m", "messages": talk, "temperature": len(turns)})

    all = [Target(server(name), "m", 1, 0) for name in "abcd"]
    ordered = [sorted(all, key=affinity.draw("org_a", said(turns))) for turns in ([], some, some + more)]
    assert ordered[0] == ordered[1] == ordered[2]
    last = ordered[0][-1]
    left = [target for target in all if target is not ordered[0][0]]
    assert max(left, key=affinity.draw("org_a", said(more))) == last, "who is not its server may leave"


def test_conversations_are_divided_by_weight() -> None:
    light, heavy = Target(server("a"), "m", 1, 0), Target(server("b"), "m", 3, 0)
    won = 0
    for number in range(2000):
        drawn = affinity.draw(f"org_{number}", b'{"messages":[{"role":"user","content":"hi"}]}')
        won += drawn(heavy) ** (1 / heavy.weight) > drawn(light) ** (1 / light.weight)
    assert 1400 < won < 1600


@given(st.dictionaries(st.sampled_from(["cache_salt", "model", "x"]), words, max_size=3))
def test_a_salt_is_the_organisations_whatever_the_caller_says(told: dict[str, str]) -> None:
    import orjson

    mine, same, theirs = (orjson.loads(affinity.salted(orjson.dumps(told | {"a": 1}), org)) for org in ("a", "a", "b"))
    assert mine["cache_salt"] == same["cache_salt"] != theirs["cache_salt"]
    assert {name: value for name, value in mine.items() if name != "cache_salt"} == {
        name: value for name, value in (told | {"a": 1}).items() if name != "cache_salt"
    }


KEEP = """
import os, sys, time
from gongqi.resources.serving.plane.cache import Cache
from gongqi.resources.serving.plane.snapshot import Key
cache, who = Cache(time.monotonic), Key("k", "org", "p", None, 1, 1, 1, 9e9, cache_seconds=60)
cache.go_by({"org": 0})
while True:
    cache.put(who, os.urandom(32), b"text/plain", b"SECRET-OF-A-PROMPT" * 1000, "gen_1")
    print("kept", flush=True)
"""


def test_a_process_that_is_killed_leaves_nothing_of_what_was_kept(tmp_path: Any) -> None:
    """Neither half an answer nor a whole one: it is in memory alone."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEP], cwd=tmp_path, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert process.stdout is not None
    for _ in range(50):
        assert process.stdout.readline() == b"kept\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []
