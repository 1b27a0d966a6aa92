"""What one caller, one server or one accident may take of the process, and of everybody's money."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gongqi.books.ledger import service as ledger
from gongqi.kernel.errors import Refused
from gongqi.resources.serving import leases, rates
from gongqi.resources.serving.metering import NANO, Tariff
from gongqi.resources.serving.models import KeyRate, Lease
from gongqi.resources.serving.plane import bodies, health, limits, openai, pool, process, request, spool
from gongqi.resources.serving.plane.health import Health
from gongqi.resources.serving.plane.snapshot import Route, Server, Target
from gongqi.resources.serving.settlement import settle_all
from tests.resources.serving.gateway.conftest import CHAT, Gateway, eventually


@pytest.fixture(autouse=True)
def healthy(gateway: Gateway) -> None:
    gateway.plane.health._states.clear()


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def begin(gateway: Gateway, size: int, *, key: str | None = None, more: bytes = b"") -> socket.socket:
    """A call of which so many bytes have come, and not all."""
    line = socket.create_connection(("127.0.0.1", gateway.foundation.port), timeout=20)
    lines = [
        f"POST {CHAT} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {key or gateway.key}",
        "content-length: 1000000",
    ]
    line.sendall("\r\n".join([*lines, "", ""]).encode() + more.ljust(size))
    return line


def test_bodies_count_from_their_first_byte(gateway: Gateway, monkeypatch: Any) -> None:
    gateway.route("small", "words=1")
    monkeypatch.setattr(bodies, "MAX_BODIES_BYTES", 100_000)
    with begin(gateway, 60_000):
        eventually(lambda: gateway.plane.bodies.bytes >= 60_000)
        assert code(gateway.call("small", more="x" * 60_000)) == (503, "serving.plane-full")
        assert gateway.call("small").status_code == 200
    eventually(lambda: not gateway.plane.bodies.bytes)


def test_a_key_revoked_while_the_body_comes_in_reaches_no_server(gateway: Gateway) -> None:
    gateway.route("late", "words=1")
    issued = gateway.issue()
    body = b'{"model": "late", "messages": []}'
    with begin(gateway, 500, key=issued["secret"], more=body) as line:
        eventually(lambda: bool(gateway.plane.bodies.coming))
        gateway.owner.verb("serving:key:revoke", model_key=issued["id"])
        gateway.seen()
        asked = len(gateway.upstream.seen)
        line.sendall(b" " * (1_000_000 - 500))
        assert line.recv(65_536).startswith(b"HTTP/1.1 401")
    assert len(gateway.upstream.seen) == asked


# ---- limits a minute


def in_bucket(gateway: Gateway, key: str) -> int:
    row = gateway.foundation.kernel.look(lambda ctx: ctx.session.get(KeyRate, key))
    return row.request_level // rates.MINUTE


def test_what_asks_the_database_counts_as_a_call(gateway: Gateway) -> None:
    for path in ("/v1/usage", "/v1/responses/resp_none"):
        with gateway.http(gateway.issue(requests_per_minute=2)["secret"]) as http:
            statuses = [http.get(path).status_code for _ in range(4)]
        assert statuses[2:] == [429, 429] and 429 not in statuses[:2]


def test_what_one_key_may_is_not_remembered_for_the_key_that_took_its_place(gateway: Gateway) -> None:
    gateway.route("remembered", "words=1")
    assert gateway.call("remembered").status_code == 200
    plane = gateway.plane
    key = plane.snapshot.keys[sha256(gateway.key.encode()).digest()]
    terms = plane.terms(key, CHAT, openai.CHAT, "remembered")
    assert plane.terms(key, CHAT, openai.CHAT, "remembered") is terms
    with pytest.raises(Refused) as refused:  # as after a snapshot that came while a body did
        plane.terms(replace(key, routes=frozenset()), CHAT, openai.CHAT, "remembered")
    assert refused.value.code == "serving.route-unknown"


def test_what_is_remembered_of_calls_has_a_limit(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(process, "MAX_TERMS", 2)
    for name in ("one", "two", "three"):
        gateway.route(name, "words=1")
    for name in ("one", "two", "three"):
        assert gateway.call(name).status_code == 200
        assert len(gateway.plane._terms) <= 2


@pytest.mark.heavy
def test_a_ration_that_is_not_used_is_given_back(gateway: Gateway, monkeypatch: Any) -> None:
    gateway.route("idle", "words=1")
    issued = gateway.issue(requests_per_minute=320)
    assert gateway.call("idle", key=issued["secret"]).status_code == 200
    assert in_bucket(gateway, issued["id"]) <= 320 - rates.ration(320)
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.0)
    eventually(lambda: issued["id"] not in gateway.plane.limits._gauges)
    assert in_bucket(gateway, issued["id"]) >= 319


@pytest.mark.heavy
@pytest.mark.parametrize("away", ["gone", "slow"])
def test_without_the_database_the_limit_holds_in_the_process(gateway: Gateway, monkeypatch: Any, away: str) -> None:
    gateway.route("alone", "words=1")
    secret = gateway.issue(requests_per_minute=4, tokens_per_minute=1_000_000)["secret"]
    monkeypatch.setattr(limits, "WAIT_SECONDS", 0.3)

    def draw(*_: Any) -> Any:
        if away == "slow":
            time.sleep(1.0)
        raise OSError("away")

    with monkeypatch.context() as outage:
        outage.setattr(type(gateway.plane.control), "draw", draw)
        statuses = [gateway.call("alone", key=secret).status_code for _ in range(7)]
    assert statuses.count(200) in (4, 5) and statuses[-1] == 429
    assert gateway.call("alone", key=gateway.issue()["secret"]).status_code == 200


@pytest.mark.heavy
def test_many_at_once_are_all_admitted_within_the_limit_and_no_more(gateway: Gateway) -> None:
    gateway.route("crowd", "words=1+late=0.02")
    secret, began = gateway.issue(requests_per_minute=60)["secret"], time.monotonic()
    with ThreadPoolExecutor(12) as threads:
        statuses = list(threads.map(lambda _: gateway.call("crowd", key=secret).status_code, range(90)))
    regained = int(time.monotonic() - began)  # one a second
    assert 58 <= statuses.count(200) <= 62 + regained and set(statuses) <= {200, 429}
    assert 429 in statuses or regained > 20


# ---- servers


@pytest.mark.heavy
def test_a_server_that_stalls_is_not_asked_the_same_again(gateway: Gateway) -> None:
    given = {"name": "impatient", "base_url": gateway.upstream.url, "private": True, "first_byte_seconds": 1}
    endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    gateway.route("quick", targets=[{"endpoint": endpoint, "model": "words=1"}])
    gateway.route("stuck", targets=[{"endpoint": endpoint, "model": "stall"}])
    assert gateway.call("quick").status_code == 200, "its connection is kept"
    asked = len(gateway.upstream.seen)
    assert code(gateway.call("stuck")) == (504, "serving.upstream-too-slow")
    assert len(gateway.upstream.seen) == asked + 1


def test_a_server_that_stands_in_is_there_though_it_was_not_needed_meanwhile() -> None:
    given: Any = {"private": True, "credential": None, "first_byte_seconds": 1, "speaks": "openai"}
    first, second = (
        Target(Server.at(f"http://10.0.0.{rank}/v1", id=f"mep_{rank}", name="s", **given), "m", 1, rank)
        for rank in range(2)
    )
    free = Tariff("p", 1, "CNY-fen", 0, 0, 0)
    route = Route("mrt", "m", "chat", (first, second), 1, 1, free, b"{}")
    known = Health()
    for _ in range(health.FAILURES):
        known.failed(second, 0.0)
    now = health.REST_SECONDS + 1
    assert list(known.order(route, now)) == [first, second]
    assert list(known.order(route, now)) == [first, second], "that it was listed is no try"
    assert known.tries(second, now) and not known.tries(second, now)


def test_a_header_without_end_is_no_answer(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(pool, "MAX_HEADER_BYTES", 4096)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sent: list[int] = []

        def flood() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(65_536)
                line.sendall(b"HTTP/1.1 200 OK\r\na: ")
                try:
                    for _ in range(4096):
                        sent.append(line.send(b"x" * 16_384))
                except OSError:
                    return

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        given = {"name": "endless-head", "base_url": base_url, "private": True}
        endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
        gateway.route("endless-head", targets=[{"endpoint": endpoint, "model": "m"}])
        assert code(gateway.call("endless-head")) == (502, "serving.upstream-broken")
        thread.join(20)
    assert sum(sent) < 32 << 20, "it was hung up on"


# ---- money


def test_of_two_limits_of_an_answer_the_larger_is_reserved(gateway: Gateway) -> None:
    gateway.route("wordy", "words=40")
    answer = gateway.call("wordy", max_completion_tokens=1, max_tokens=100)
    record = gateway.settled(answer)
    assert (record["output_tokens"], record["is_capped"]) == (40, False)
    assert code(gateway.call("wordy", max_completion_tokens=1, max_tokens=513)) == (400, "serving.output-too-long")


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize(
    ("name", "twice"),
    [
        ("max_tokens", '"max_tokens":100000,"max_tokens":1'), ("max_tokens", '"max_tokens":1,"max_tokens":1'),
        ("max_tokens", r'"max_tokens":100000,"max\u005ftokens":1'), ("max_tokens", '"max_tokens":512,"max_tokens":51'),
        ("n", '"max_tokens":1, "n" : 128 ,\n"n":1'), ("best_of", '"best_of":128,"max_tokens":1,"best_of":null'),
        ("stream", '"stream":true,"max_tokens":1,"stream":false'), ("model", '"max_tokens":1,"model":"dear"'),
    ],
)  # fmt: skip
def test_a_name_that_is_given_twice_is_refused_whichever_of_the_two_a_server_takes(
    gateway: Gateway, path: str, name: str, twice: str
) -> None:
    gateway.scripted("words=1")
    asked = len(gateway.upstream.seen)
    body = f'{{"model":"words-1",{twice},"messages":[{{"role":"user","content":"?"}}],"prompt":"?","input":"?"}}'
    with gateway.http() as http:
        answer = http.post(path, content=body.encode())
    assert answer.status_code == 400 and f'"{name}" × 2' in answer.json()["error"]["message"]
    assert len(gateway.upstream.seen) == asked, "nothing was forwarded"


def test_names_may_stand_again_within_what_they_name(gateway: Gateway) -> None:
    schema = {"type": "object", "properties": {"model": {"type": "string"}, "n": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema | {"required": ["model", "n"]}}}]
    said = [{"role": "user", "content": '{"model": "m", "max_tokens": 1, "n": 2} \\u0041'}]
    answer = gateway.call(gateway.scripted("words=1"), n=1, max_tokens=9, tools=tools, messages=said, user="model")
    assert answer.status_code == 200 and gateway.upstream.seen[-1]["messages"] == said


def test_a_body_of_more_names_than_requests_have_is_not_looked_through(gateway: Gateway) -> None:
    more = {f"m{number}": number for number in range(request.MAX_MEMBERS)}
    with gateway.http() as http:
        answer = http.post(CHAT, content=json.dumps({"model": gateway.scripted("words=1"), "messages": []} | more))
    assert code(answer) == (400, "serving.request-unreadable")


def test_a_picture_that_is_spelled_otherwise_is_a_picture(gateway: Gateway) -> None:
    gateway.route("sees", "words=1+absurd")
    for kind in ("image_url", r"image\u005furl", r"im\u0061ge_url"):
        body = '{"model":"sees","max_tokens":1,"messages":[{"role":"user","content":[{"type":"KIND"}]}]}'
        with gateway.http() as http:
            answer = http.post(CHAT, content=body.replace("KIND", kind).encode())
        assert gateway.settled(answer)["input_tokens"] == 8192, "a full context was reserved"


def test_a_lease_whose_data_plane_vanished_is_given_back_to_its_budget(gateway: Gateway) -> None:
    kernel = gateway.foundation.kernel
    issued = gateway.issue(budget_day=100)
    ask = {"key": issued["id"], "unit": issued["unit"], "need_nanos": 90 * NANO, "wish_nanos": 90 * NANO}

    def grant(plane: str) -> Any:
        return kernel.transact(lambda ctx: leases.grant_lease(ctx, plane=plane, **ask), reason="test")

    lost = grant("plane_gone").id
    with pytest.raises(Exception, match="budget-exceeded"):
        grant("plane_next")

    def later(ctx: Any) -> None:
        row = ctx.session.get(Lease, lost)
        row.at -= timedelta(hours=leases.HOLD_HOURS)
        assert leases.end_lost(ctx) == 0, "what it holds is still held"
        ledger.release(ctx, hold=row.hold, reason="test")
        assert leases.end_lost(ctx) == 1 and leases.end_lost(ctx) == 0

    kernel.transact(later, reason="test")
    assert grant("plane_next").nanos == 90 * NANO
    kernel.transact(lambda ctx: leases.end_leases_of(ctx, "plane_next"), reason="test")


# ---- the spool


def test_one_spool_that_cannot_be_settled_does_not_keep_the_others_from_it(gateway: Gateway, tmp_path: Path) -> None:
    kernel = gateway.foundation.kernel
    for name in ("plane_a_bad", "plane_b_good"):
        made = spool.Spool(tmp_path, name)
        made.add(["l", "mls_none"])
        made.close()
    (tmp_path / "plane_a_bad" / "00000001.log").write_bytes(spool.line_of(["l"]))
    with pytest.raises(ExceptionGroup):
        settle_all(kernel, tmp_path)
    assert [folder.name for folder in spool.folders(tmp_path)] == ["plane_a_bad"]


def test_a_segment_is_flushed_to_its_end_though_the_next_is_begun(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1)
    monkeypatch.setattr(spool, "FLUSH_SECONDS", 3600)
    flushed: dict[int, int] = {}
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        state = os.fstat(descriptor)
        flushed[state.st_ino] = state.st_size
        real(descriptor)

    monkeypatch.setattr(spool.os, "fdatasync", fdatasync)
    made = spool.Spool(tmp_path, "plane")
    for number in range(5):
        made.add(["l", f"lease-{number}"])
        made.write()
    made.close()
    for _, path in spool.segments(tmp_path / "plane"):
        assert flushed.get(path.stat().st_ino) == path.stat().st_size, path


def test_a_closed_spool_writes_nowhere(tmp_path: Path) -> None:
    made = spool.Spool(tmp_path, "plane")
    number = made._descriptor
    made.close()
    paths = [tmp_path / f"other-{place}" for place in range(64)]
    others = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in paths]
    assert number in others, "its number is used again"
    made.add(["l", "late"])
    assert not made.write()
    for other in others:
        os.close(other)
    assert not any(path.stat().st_size for path in paths)
