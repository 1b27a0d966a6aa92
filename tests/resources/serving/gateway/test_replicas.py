"""Two servers behind one name: they share the calls, one that dies is stood in for, one that is drained loses no call."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gongqi.resources.serving.models import Usage
from tests.house.conftest import wait_for
from tests.resources.serving.gateway.conftest import Gateway

pytestmark = [pytest.mark.long, pytest.mark.postgres]

SIM = Path(__file__).parents[3] / "sim" / "model_server.py"


class Replica:
    """A model server that is a process of its own."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, str(SIM), str(self.port)])
        wait_for(lambda: self.listens() or None)
        url = f"http://127.0.0.1:{self.port}/v1"
        self.endpoint = gateway.operator.verb("serving:endpoint:add", name=name, base_url=url, private=True)["id"]

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def replicas(gateway: Gateway, request: Any) -> Iterator[list[Replica]]:
    made = [Replica(gateway, f"{request.node.name[5:30].replace('_', '-')}-{number}") for number in (1, 2)]
    yield made
    for each in made:
        each.kill()


def named(gateway: Gateway, name: str, replicas: list[Replica], script: str = "words=5", **more: Any) -> str:
    targets = [{"endpoint": each.endpoint, "model": script} | more for each in replicas]
    return gateway.route(name, targets=targets)


def answered_by(gateway: Gateway, calls: list[str]) -> Counter[str | None]:
    return Counter(server_of(gateway, call) for call in calls)


def server_of(gateway: Gateway, call: str) -> str | None:
    """Which server answered, as the bill has it; that is nobody's business but the operators'."""
    gateway.settled(call)
    return gateway.foundation.kernel.look(lambda ctx: ctx.session.get_one(Usage, call).endpoint)


def test_two_replicas_share_the_calls(gateway: Gateway, replicas: list[Replica]) -> None:
    named(gateway, "shared-by-two", replicas)
    calls = [gateway.call("shared-by-two").headers["x-request-id"] for _ in range(60)]
    shares = answered_by(gateway, calls)
    assert set(shares) == {each.endpoint for each in replicas} and min(shares.values()) >= 10


def test_one_that_is_killed_under_load_costs_no_caller_an_error(gateway: Gateway, replicas: list[Replica]) -> None:
    route = named(gateway, "killed-under-load", replicas, "words=5+late=0.05")
    dies = threading.Timer(0.5, replicas[0].kill)

    def call(_number: int) -> Any:
        return gateway.call("killed-under-load")

    dies.start()
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(call, range(150)))
    dies.join()
    assert {answer.status_code for answer in answers} == {200}
    records = [gateway.settled(answer) for answer in answers]
    assert {record["ending"] for record in records} == {"complete"}
    assert 2 in {record["attempts"] for record in records}, "some had been with the one that died"
    last = [record["id"] for record in records[-10:]]
    assert answered_by(gateway, last) == {replicas[1].endpoint: 10}
    assert len([row for row in gateway.usage() if row["route"] == route]) == 150


def test_a_stream_that_had_begun_on_the_one_that_dies_breaks_off_and_the_next_does_not(
    gateway: Gateway, replicas: list[Replica]
) -> None:
    named(gateway, "torn-between", replicas, "words=200+slow=0.02")
    body = {"model": "torn-between", "messages": [{"role": "user", "content": "你好"}], "stream": True}
    with gateway.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if '"content":"w' in line)
        on_second = gateway.plane.calls.copy().pop()._target.server.id == replicas[1].endpoint
        dead = replicas[1] if on_second else replicas[0]
        dead.kill()
        told = [line for line in lines if line]
    assert "serving.broken-off" in told[-1]
    record = gateway.settled(answer)
    assert (record["ending"], record["input_tokens"]) == ("cut", 0)
    assert server_of(gateway, record["id"]) == dead.endpoint
    assert all(gateway.call("torn-between").status_code == 200 for _ in range(2))


def test_one_that_is_drained_loses_no_call(gateway: Gateway, replicas: list[Replica]) -> None:
    named(gateway, "drained", replicas, "words=40+slow=0.03")
    with ThreadPoolExecutor(8) as callers:
        streams = [callers.submit(gateway.stream, "drained") for _ in range(8)]
        wait_for(lambda: True if len(gateway.plane.calls) == 8 else None)
        gateway.operator.verb("serving:endpoint:retire", endpoint=replicas[0].endpoint)
        gateway.seen()
        after = [gateway.call("drained").headers["x-request-id"] for _ in range(4)]
        told = [stream.result() for stream in streams]
    assert all(events[-1] == "[DONE]" for _, events in told)
    assert {gateway.settled(id)["ending"] for id, _ in told} == {"complete"}
    assert set(answered_by(gateway, [id for id, _ in told])) == {each.endpoint for each in replicas}
    assert answered_by(gateway, after) == {replicas[1].endpoint: 4}, "the one that is drained gets none any more"
