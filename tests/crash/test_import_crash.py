"""Kill -9 in the middle of a file: after the restart the import goes on by Range, and there is one whole revision."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gongqi.doors.cli.client import Client
from tests.house.conftest import Command, wait_for
from tests.sim.upstream import Upstream, serving

pytestmark = [pytest.mark.long, pytest.mark.postgres]
LARGE = 24 << 20


def test_a_server_that_is_killed_while_it_imports_goes_on_where_it_was(
    tmp_path: Path, new_database: Callable[..., Any], free_tcp_port: int
) -> None:
    home, gate = tmp_path / "home", threading.Event()
    files = {"README.md": b"---\nlicense: cc-by-4.0\n---\n", "w.bin": random.randbytes(LARGE)}
    upstream = Upstream(files, faults={"w.bin": {"gate": gate, "gate_at": 12 << 20}})
    with new_database(tmp_path) as url, serving(upstream):

        def served() -> tuple[Command, Client]:
            command = Command("serve", home=home, port=free_tcp_port, GONGQI_DATABASE_URL=url)
            there = home / "operator.token"
            client = Client(f"http://127.0.0.1:{free_tcp_port}", None)
            wait_for(lambda: _answers(client) or None)
            return command, Client(f"http://127.0.0.1:{free_tcp_port}", there.read_text("ascii").strip())

        first, operator = served()
        try:
            org = operator.verb("members:organisation:create", handle="north", name="north")["id"]
            given = {"slug": "thing", "kind": "dataset", "title_zh": "t", "title_en": "t"}
            asset = operator.verb("hub:asset:create", org=org, **given)["id"]
            source = operator.verb("hub:source:add", name="there", endpoint=upstream.url, is_inside=True)["id"]
            begun = operator.verb("hub:import:begin", asset=asset, source=source, repo=upstream.repo)["id"]
            wait_for(
                lambda: any(path.stat().st_size > 8 << 20 for path in (home / "blobs" / "incoming").iterdir()) or None
            )
            first.kill()
            gate.set()
            assert upstream.ranges == []
            second, operator = served()
        except BaseException:
            first.kill()
            raise
        try:
            done = wait_for(
                lambda: ((row := operator.read("hub:import:get", begun))["state"] == "done" and row) or None
            )
            [asked] = upstream.ranges
            assert int(asked.removeprefix("w.bin bytes=").rstrip("-")) > 8 << 20
            assert done["bytes_done"] == done["size_bytes"] == sum(map(len, files.values()))
            [revision] = operator.read("hub:revision:list", asset=asset)["items"]
            kept = operator.http.get(f"/api/v1/hub/revision/{revision['id']}/file/w.bin").content
            assert kept == files["w.bin"]
            assert list((home / "blobs" / "incoming").iterdir()) == []
        finally:
            second.kill()


def _answers(client: Client) -> bool:
    try:
        return client.http.get("/health").status_code == 200
    except httpx.TransportError:
        return False
