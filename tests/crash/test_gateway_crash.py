"""kill -9 of a serving gateway at any moment: nothing that was answered goes unbilled, nothing is billed twice.

The server is a process of its own, forked from one that has imported everything once. It is killed while callers
stream and ask, started again on the same home, and what it owes is settled. `make test-soak` kills it more often.
"""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gongqi.doors.cli.client import Client
from gongqi.resources.serving.metering import NANO
from tests.house.conftest import wait_for

pytestmark = [pytest.mark.long, pytest.mark.postgres]

UNIT, INPUT_NANOS, OUTPUT_NANOS = "CNY-fen", 3_000_000, 6_000_000
CHAT = "/v1/chat/completions"
# For each line it is told, a server until that is killed.
ZYGOTE = """
import os, sys
import structlog
from gongqi import app
from gongqi.doors.mcp import server as _
from gongqi.kernel.config import Settings
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
settings = Settings.from_environment()
for line in sys.stdin:
    child = os.fork()
    if not child:
        kernel = app.assemble(settings, migrate=True)
        app.prepare(kernel)
        app.serve(kernel, app.listen(settings))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("buried", flush=True)
"""


@pytest.fixture
def server() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location(
        "gongqi_model_server", Path(__file__).parents[1] / "sim" / "model_server.py"
    )
    assert spec is not None and spec.loader is not None
    sim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sim)
    with sim.upstream() as made:
        yield made


class Victim:
    """A gateway that is killed and comes back."""

    def __init__(self, home: Path, url: str, server: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.home = home
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GONGQI_")} | {
            "GONGQI_HOME": str(home), "GONGQI_PORT": str(self.port), "GONGQI_DATABASE_URL": url,
        }  # fmt: skip
        self.url = f"http://127.0.0.1:{self.port}"
        log = (home.parent / "server.log").open("w")
        self.zygote = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log, text=True,
        )  # fmt: skip
        self.start()
        self.operator = Client(self.url, (home / "operator.token").read_text().strip())
        verb = self.operator.verb
        self.org = verb("members:organisation:create", handle="north", name="north")["id"]
        verb("ledger:credit:grant", owner=self.org, unit=UNIT, amount=100_000)
        endpoint = verb("serving:endpoint:add", name="sim", base_url=server.url, private=True)["id"]
        self.routes = {}
        for name, script in (("whole", "words=5"), ("stream", "words=60+slow=0.03")):
            target = {"endpoint": endpoint, "model": script}
            given = {"org": self.org, "context_tokens": 4096, "output_tokens": 256, "targets": [target]}
            self.routes[name] = verb("serving:route:define", name=name, **given)["id"]
            prices = {"input_nanos": INPUT_NANOS, "output_nanos": OUTPUT_NANOS, "unit": UNIT}
            verb("billing:price:publish", route=self.routes[name], **prices)
        given = {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000, "parallel": 100}
        self.key = verb("serving:key:issue", org=self.org, label="crash", **given)["secret"]
        time.sleep(1.5)  # the plane looks every half second

    def start(self) -> None:
        self.say("start")
        self.process = int(self.hear())

        def look() -> bool | None:
            try:
                return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200 or None
            except httpx.TransportError:
                return None

        wait_for(look, alive=lambda: self.zygote.poll() is None)

    def end(self, how: signal.Signals) -> None:
        os.kill(self.process, how)
        assert self.hear() == "buried"

    def say(self, word: str) -> None:
        assert self.zygote.stdin is not None
        self.zygote.stdin.write(word + "\n")
        self.zygote.stdin.flush()

    def hear(self) -> str:
        assert self.zygote.stdout is not None
        return self.zygote.stdout.readline().strip()

    def http(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=20)

    def usage(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            given = {"org": self.org, "limit": 200} | ({"cursor": cursor} if cursor else {})
            page = self.operator.read("serving:usage:list", **given)
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    def balance(self, owner: str, code: str) -> int:
        accounts = self.operator.read("ledger:account:list", owner=owner)["items"]
        return sum(each["balance"] for each in accounts if each["code"] == code)


class Callers:
    """What they were told: calls answered whole, and of streams how many words came."""

    def __init__(self, victim: Victim) -> None:
        self.victim = victim
        self.whole: set[str] = set()
        self.words: dict[str, int] = {}
        self.is_over = False
        jobs = [self.ask, self.ask, self.listen, self.listen, self.listen]
        self.threads = [threading.Thread(target=job, daemon=True) for job in jobs]

    def __enter__(self) -> Callers:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        for thread in self.threads:
            thread.join(30)

    def ask(self) -> None:
        while not self.is_over:
            try:
                with self.victim.http() as http:
                    answer = http.post(CHAT, json={"model": "whole", "messages": []})
                    if answer.status_code == 200:
                        self.whole.add(answer.headers["x-request-id"])
            except httpx.TransportError:
                time.sleep(0.05)

    def listen(self) -> None:
        while not self.is_over:
            try:
                body = {"model": "stream", "messages": [], "stream": True}
                with self.victim.http() as http, http.stream("POST", CHAT, json=body) as answer:
                    if answer.status_code == 200:
                        id = answer.headers["x-request-id"]
                        for line in answer.iter_lines():
                            if '"content":"w' in line:
                                self.words[id] = self.words.get(id, 0) + 1
            except httpx.TransportError:
                time.sleep(0.05)


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_a_gateway_killed_at_any_moment_bills_each_call_once(
    tmp_path: Path, database_url: str, server: Any, kills: int
) -> None:
    victim = Victim(tmp_path / "home", database_url, server)
    chance = random.Random(7)
    try:
        with Callers(victim) as callers:
            for _ in range(kills):
                before = sum(callers.words.values())
                wait_for(lambda before=before: sum(callers.words.values()) > before or None)
                time.sleep(chance.uniform(0.0, 1.0))
                victim.end(signal.SIGKILL)
                victim.start()
            time.sleep(1.5)
        told = set(callers.whole) | set(callers.words)
        assert callers.whole and callers.words

        def settled() -> list[dict[str, Any]] | None:
            rows = victim.usage()
            return rows if told <= {row["id"] for row in rows} else None

        rows = wait_for(settled)
        by_id = {row["id"]: row for row in rows}
        assert len(by_id) == len(rows)
        for id in callers.whole:
            row = by_id[id]
            assert (row["ending"], row["input_tokens"], row["output_tokens"]) == ("complete", 7, 5)
        for id, words in callers.words.items():
            row = by_id[id]
            assert row["output_tokens"] <= 60
            if row["ending"] == "killed":  # at most a second of the stream is forgotten, and none is invented
                assert row["input_tokens"] == 0 and row["output_tokens"] <= words + 60
                assert row["output_tokens"] >= 1
            else:
                assert row["output_tokens"] >= words
        assert any(row["ending"] == "killed" for row in rows)
        victim.end(signal.SIGTERM)
        victim.start()
        wait_for(lambda: True if victim.balance(victim.org, "held") == 0 else None)
        charged = 0
        for route in victim.routes.values():
            cost = sum(row["cost_nanos"] for row in victim.usage() if row["route"] == route)
            assert victim.balance(route, "clearing") == cost // NANO
            charged += cost // NANO
        assert victim.balance(victim.org, "available") == 100_000 - charged
        assert victim.operator.read("ledger:book:check")["findings"] == []
        assert len(list((victim.home / "spool").iterdir())) == 1, "the spools of the dead are gone"
    finally:
        os.kill(victim.process, signal.SIGKILL)
        victim.zygote.kill()
        victim.zygote.wait()
