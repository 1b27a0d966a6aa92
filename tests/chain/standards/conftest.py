"""A small market whose releases are described. Licences and the board have their own tests: their gates stay open here."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn

from gongqi.books.evidence import service as evidence
from gongqi.doors.web.server import build as build_app
from gongqi.governance.compliance.room import ROOM as COMPLIANCE
from gongqi.governance.ethics.room import ROOM as ETHICS
from gongqi.kernel.config import Settings
from gongqi.kernel.room import House
from gongqi.members import VOCABULARY
from gongqi.resources.hub import service as hub
from gongqi.rooms import ROOMS

# What the official library downloads it keeps; it looks for the place when it is first imported.
os.environ.setdefault("CROISSANT_CACHE", tempfile.mkdtemp(prefix="gongqi-croissant-"))

CARD = """---
title: {zh: 记录, en: Records}
summary: {zh: 两列之数, en: Numbers in two columns}
license: CC-BY-4.0
languages: [zh, en]
tasks: [tabular-classification]
provenance: {zh: 甲医院, en: Hospital A}
intended_use: {zh: 研究, en: Research}
limitations: {zh: 记录甚少, en: Few records}
personal_data: {zh: 不含, en: None}
contact: https://example.org
---
# 记录 / Records
"""


def load_market() -> ModuleType:
    if "gongqi_market" not in sys.modules:
        spec = importlib.util.spec_from_file_location("gongqi_market", Path(__file__).parents[2] / "sim" / "market.py")
        assert spec is not None and spec.loader is not None
        sys.modules["gongqi_market"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["gongqi_market"])
    return sys.modules["gongqi_market"]


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """With a port of its own, which the addresses in documents name."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    given = {"GONGQI_HOME": str(tmp_path), "GONGQI_DATABASE_URL": database_url, "GONGQI_PORT": port}
    return Settings.from_environment(given)


@pytest.fixture
def open_gates() -> set[str]:
    """The rooms whose answers are not asked for."""
    return {COMPLIANCE.name, ETHICS.name}


@pytest.fixture
def market(build: Any, clock: Any, open_gates: set[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    sim = load_market()
    monkeypatch.setattr(sim, "CARD", CARD.replace("{", "{{").replace("}", "}}"))
    rooms = [replace(room, answerers=()) if room.name in open_gates else room for room in ROOMS]
    kernel = sim.prepare(build(House.build(rooms, VOCABULARY), record=evidence.append, clock=clock))
    made = sim.Market(kernel)
    kernel.transact(evidence.ensure, reason="start")
    return made


@pytest.fixture
def served(market: Any) -> Iterator[str]:
    """The market's foundation behind a real server, at its own address."""
    config = uvicorn.Config(
        build_app(market.kernel, ()), port=market.kernel.settings.port, log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.02)
    yield market.kernel.settings.origin
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def described(market: Any) -> Any:
    """`described(release)`: the documents that a release has once everything due has been done, by name."""

    def look(release: str) -> dict[str, bytes]:
        market.work()
        names = [each.name for each in market.kernel.look(lambda ctx: hub.documents_of(ctx, release))]
        return {name: market.kernel.look(lambda ctx, n=name: hub.document_content(ctx, release, n)) for name in names}

    return look
