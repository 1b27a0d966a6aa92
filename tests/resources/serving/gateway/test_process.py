"""`gongqi gateway`: calls in a process of their own, beside the server, on one home. Whichever of the two is killed, each
call is settled once, by whoever is left."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gongqi.resources.serving.plane import spool
from tests.house.conftest import Command, Foundation, wait_for

from .conftest import CHAT, Gateway, open_gateway

pytestmark = [pytest.mark.long, pytest.mark.postgres]

BODY = {"messages": [{"role": "user", "content": "hello"}]}


class Beside:
    """A gateway process beside the foundation of `gateway`."""

    def __init__(self, gateway: Gateway, url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        home, port = gateway.foundation.settings.home, gateway.foundation.port
        arguments = ("gateway", "--port", str(self.port))
        self.command = Command(*arguments, home=home, port=port, GONGQI_DATABASE_URL=url)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"authorization": f"Bearer {gateway.key}"}, trust_env=False,
            timeout=30,
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def await_answers(self) -> None:
        self.command.says("Model gateway on")
        wait_for(lambda: self.answers() or None)

    def answers(self) -> bool:
        try:
            return self.http.get("/v1/models").status_code == 200
        except httpx.TransportError:
            return False

    def call(self, model: str) -> httpx.Response:
        answer = self.http.post(CHAT, json={"model": model} | BODY)
        assert answer.status_code == 200, answer.text
        return answer

    def end(self) -> None:
        self.http.close()
        self.command.process.send_signal(signal.SIGTERM)
        assert self.command.ends() == 0, self.command.errors


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[tuple[Any, str]]:
    folder = tmp_path_factory.mktemp("gateway-process")
    with new_database(folder) as url:
        yield folder, url


@pytest.fixture(scope="module")
def gateway(database: tuple[Any, str], server: Any) -> Iterator[Gateway]:
    made = open_gateway(*database, server)
    made.route("short", "words=5")
    made.route("long", "words=200+slow=0.05")
    made.route("twenty", "words=13")  # so many tokens are said, and seven were asked
    yield made
    made.foundation.stop()


@pytest.fixture
def beside(gateway: Gateway, database: tuple[Any, str]) -> Iterator[Beside]:
    made = Beside(gateway, database[1])
    try:
        made.await_answers()
        yield made
    finally:
        made.command.kill()


def ask(url: str, secret: str) -> httpx.Response:
    body = {"model": "twenty", "max_tokens": 13} | BODY
    return httpx.post(f"{url}{CHAT}", json=body, headers={"authorization": f"Bearer {secret}"}, trust_env=False)


def knows(url: str, secret: str) -> bool:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.get(f"{url}/v1/models", headers=headers, trust_env=False).status_code == 200


def folders(gateway: Gateway) -> int:
    return len(list((gateway.foundation.settings.home / "spool").iterdir()))


def test_calls_beside_the_server_are_settled_by_it_whatever_becomes_of_them(gateway: Gateway, beside: Beside) -> None:
    answers = [beside.call("short") for _ in range(3)]
    assert [gateway.settled(each)["output_tokens"] for each in answers] == [5, 5, 5]
    with beside.http.stream("POST", CHAT, json={"model": "short", "stream": True} | BODY) as stream:
        assert stream.read().endswith(b"data: [DONE]\n\n")
    assert gateway.settled(stream)["ending"] == "complete"
    assert beside.http.get("/v1/usage").json()["data"][0]["id"] == stream.headers["x-request-id"]
    refused = httpx.post(f"http://127.0.0.1:{beside.port}{CHAT}", json={"model": "short"} | BODY, trust_env=False)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "serving.key-needed")

    with beside.http.stream("POST", CHAT, json={"model": "long", "stream": True} | BODY) as stream:
        lines = stream.iter_lines()  # which hangs up when nobody holds it any more
        next(line for line in lines if '"content":"w' in line)
        beside.command.kill()
    record = gateway.settled(stream)
    assert (record["ending"], record["input_tokens"]) == ("killed", 0) and record["output_tokens"] >= 1
    wait_for(lambda: True if folders(gateway) == 1 and gateway.balance("held") == 0 else None)
    gateway.laws_hold()


@pytest.mark.parametrize(("limit", "each"), [({"requests_per_minute": 32}, 1), ({"tokens_per_minute": 640}, 20)])
def test_a_limit_a_minute_holds_across_processes(
    gateway: Gateway, beside: Beside, limit: dict[str, int], each: int
) -> None:
    secret = gateway.issue(**limit)["secret"]
    [most] = limit.values()
    for url in (gateway.url, beside.url):
        wait_for(lambda url=url: True if knows(url, secret) else None)
    begun = time.monotonic()
    answers = [ask(url, secret) for _ in range(40) for url in (gateway.url, beside.url)]
    refilled = (time.monotonic() - begun + 1) * most / 60
    allowed = sum(answer.status_code == 200 for answer in answers)
    rationed = 2 * max(1, most // 32)
    assert (most - rationed) // each - 4 <= allowed <= (most + refilled + rationed) // each + 1
    refused = [answer for answer in answers if answer.status_code != 200]
    [code] = {answer.json()["error"]["code"] for answer in refused}
    assert code in ("serving.too-many-requests", "serving.too-many-tokens")
    assert all(answer.status_code == 429 and 1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)


def test_calls_go_on_and_are_settled_while_there_is_no_server(
    gateway: Gateway, database: tuple[Any, str], beside: Beside
) -> None:
    beside.call("short")
    gateway.foundation.stop()
    id = beside.call("short").headers["x-request-id"]

    def told() -> Any:
        data = beside.http.get("/v1/usage", params={"id": id})
        return data.json()["data"][0] if data.status_code == 200 else None

    assert wait_for(told)["output_tokens"] == 5, "it took the settlement over"
    beside.end()
    gateway.foundation = Foundation(database[0] / "home", database[1])
    wait_for(lambda: True if folders(gateway) == 1 and gateway.balance("held") == 0 else None)
    gateway.laws_hold()


def test_a_spool_that_is_taken_for_a_dead_ones_while_it_begins_is_begun_again(tmp_path: Path) -> None:
    folder = tmp_path / "plane"
    folder.mkdir()
    lock = spool.hold(folder / "lock")

    def remove() -> None:
        shutil.rmtree(folder)
        lock.close()

    threading.Timer(0.1, remove).start()
    made = spool.Spool(tmp_path, "plane")
    made.add(["l", "lease"])
    assert made.write()
    assert spool.read_from(folder / "00000001.log", 0, 4096)[0] == [["l", "lease"]]
    made.close()
