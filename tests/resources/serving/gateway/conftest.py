"""A foundation that serves, a scripted model server behind it, and an organisation with money and a key."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from gongqi.resources.serving import settlement
from gongqi.resources.serving.metering import NANO
from gongqi.resources.serving.models import SpoolMark
from gongqi.resources.serving.plane import process, spool
from tests.house.conftest import Foundation, wait_for

UNIT = "CNY-fen"
INPUT_NANOS, OUTPUT_NANOS = 30_000, 60_000  # ¥0.0003 and ¥0.0006 a thousand tokens
CHAT = "/v1/chat/completions"
LOOK_SECONDS = process.LOOK_SECONDS  # as it is outside of tests
SOON_SECONDS = 0.1  # within: every test waits for the books, and until what it has changed is gone by


def load_sim() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "gongqi_model_server", Path(__file__).parents[3] / "sim" / "model_server.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Gateway:
    """What a test of the gateway needs: `call` asks a model, `settled` waits until its record is in the books."""

    foundation: Foundation
    upstream: Any
    org: str
    owner: Any
    endpoint: str
    key: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    routes: dict[str, str] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.foundation.url

    @property
    def operator(self) -> Any:
        return self.foundation.operator

    def route(
        self, name: str, *scripts: str, price: tuple[int, int] | None = (INPUT_NANOS, OUTPUT_NANOS), **more: Any
    ) -> str:
        """A model that is answered as scripted: by the first script, or in turn by the others if that fails."""
        given = {"org": self.org, "context_tokens": 8192, "output_tokens": 512} | more
        if "targets" not in given:
            given["targets"] = [
                {"endpoint": self.endpoint, "model": script, "rank": rank}
                for rank, script in enumerate(scripts or (name,))
            ]
        made = self.operator.verb("serving:route:define", name=name, **given)["id"]
        if price is not None:
            rates = {"input_nanos": price[0], "output_nanos": price[1]}
            self.operator.verb("billing:price:publish", route=made, unit=UNIT, **rates)
        self.routes[name] = made
        self.seen()
        return made

    def spoken_route(self, speaks: str, name: str, script: str, **more: Any) -> str:
        """A model that is answered as scripted, by a server that speaks this API."""
        if speaks not in self.endpoints:
            given = {"name": f"sim-{speaks}", "base_url": self.upstream.url, "private": True, "speaks": speaks}
            self.endpoints[speaks] = self.operator.verb("serving:endpoint:add", **given)["id"]
        return self.route(name, targets=[{"endpoint": self.endpoints[speaks], "model": script}], **more)

    def scripted(self, *scripts: str) -> str:
        """The name of a model that is answered as scripted, made when it is first asked for."""
        name = re.sub(r"[^A-Za-z0-9-]", "-", "--".join(scripts))
        if name not in self.routes:
            self.route(name, *scripts)
        return name

    def issue(self, **more: Any) -> dict[str, Any]:
        made = self.owner.verb("serving:key:issue", org=self.org, label="test", **more)
        self.seen()
        return made

    def seen(self) -> None:
        """Once the data plane goes by what was just changed."""
        control = self.plane.control
        wait_for(lambda: True if self.plane.snapshot.version == control.version() else None)

    @property
    def plane(self) -> Any:
        return self.foundation.application.door.plane

    def http(self, key: str | None = None, **more: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30, **more)

    def call(self, model: str, *, key: str | None = None, path: str = CHAT, **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "你好"}]} | more
        with self.http(key) as http:
            return http.post(path, json=body)

    def stream(self, model: str, *, key: str | None = None, **more: Any) -> tuple[str, list[Any]]:
        """(the call's id, its events) of an answer read to its end."""
        body = {"model": model, "messages": [{"role": "user", "content": "你好"}], "stream": True} | more
        with self.http(key) as http, http.stream("POST", CHAT, json=body) as answer:
            assert answer.status_code == 200, answer.read()
            lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
        return answer.headers["x-request-id"], [line if line == "[DONE]" else json.loads(line) for line in lines]

    def settled(self, call: Any) -> dict[str, Any]:
        """The record of a call, by its answer or its id."""
        id = call if isinstance(call, str) else call.headers["x-request-id"]

        def look() -> dict[str, Any] | None:
            answer = self.operator.http.get(f"/api/v1/serving/usage/{id}")
            return answer.json() if answer.status_code == 200 else None

        return wait_for(look)

    def is_settled(self) -> bool:
        """Whether all that the data plane wrote down is in the books."""
        folder = self.plane.spool.folder
        mark = self.foundation.kernel.look(lambda ctx: ctx.session.get(SpoolMark, folder.name))
        number, path = spool.segments(folder)[-1]
        return (number, path.stat().st_size) == ((mark.segment, mark.offset) if mark else (number, 0))

    # ---- laws

    def usage(self, **query: Any) -> list[dict[str, Any]]:
        items, cursor = [], None
        while True:
            given = {"limit": 200, "org": self.org} | query | ({"cursor": cursor} if cursor else {})
            page = self.operator.read("serving:usage:list", **given)
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    def balance(self, code: str = "available", owner: str | None = None) -> int:
        accounts = self.operator.read("ledger:account:list", owner=owner or self.org)["items"]
        return sum(each["balance"] for each in accounts if each["code"] == code)

    def laws_hold(self) -> None:
        """What is logged is what is charged, to the nano and to whom; every call is there once; the ledger is true."""
        rows = self.usage()
        ids = [row["id"] for row in rows]
        assert len(ids) == len(set(ids))
        for row in rows:
            fresh = row["input_tokens"] - row["cached_tokens"]
            cost = fresh * row["input_nanos"] + row["cached_tokens"] * row["cached_nanos"]
            assert cost + row["output_tokens"] * row["output_nanos"] == row["cost_nanos"]
            assert row["fund"] or not row["aid_nanos"]
        for route in {row["route"] for row in rows}:
            costs: Counter[str | None] = Counter()  # by who pays: the organisation, or a fund
            for row in rows:
                if row["route"] == route:
                    costs[None] += row["cost_nanos"] - row["aid_nanos"]
                    costs[row["fund"]] += row["aid_nanos"]
            charged = sum(cost // NANO for cost in costs.values())
            assert self.balance("clearing", route) == charged, "charged = the sum of a payer's costs, rounded down once"
        assert self.operator.read("ledger:book:check")["findings"] == []


def open_gateway(folder: Path, url: str, server: Any, funds: int = 100_000) -> Gateway:
    foundation = Foundation(folder / "home", url)
    org = foundation.organisation("north")
    owner = foundation.person("owner", org, "owner")
    foundation.operator.verb("ledger:credit:grant", owner=org, unit=UNIT, amount=funds)
    endpoint = foundation.operator.verb("serving:endpoint:add", name="sim", base_url=server.url, private=True)["id"]
    made = Gateway(foundation, server, org, owner, endpoint)
    made.key = made.issue()["secret"]
    return made


@pytest.fixture(scope="session")
def sim() -> ModuleType:
    return load_sim()


@pytest.fixture(scope="module")
def server(sim: ModuleType) -> Iterator[Any]:
    with sim.upstream() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any], server: Any
) -> Iterator[Gateway]:
    """After whatever a module's tests have done with it, the laws hold."""
    folder = tmp_path_factory.mktemp("gateway")
    with pytest.MonkeyPatch.context() as patch, new_database(folder) as url:
        patch.setattr(settlement, "SETTLE_SECONDS", SOON_SECONDS)
        patch.setattr(settlement, "RETRY_SECONDS", 2 * SOON_SECONDS)
        patch.setattr(process, "LOOK_SECONDS", SOON_SECONDS)
        made = open_gateway(folder, url, server)
        yield made
        eventually(lambda: not made.plane.calls and made.is_settled())
        made.laws_hold()
        made.foundation.stop()


def eventually(look: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
