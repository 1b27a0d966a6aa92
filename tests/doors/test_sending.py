"""A large file goes straight into the connection: every byte, in any range, to quick readers and slow ones."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gongqi.doors.web import sending
from gongqi.doors.web.sending import Protocol
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.room import House
from gongqi.resources.hub.downloads import send_blob

SIZE = (12 << 20) + 1  # more than any buffer between the two
WAIT_SECONDS = 10


@pytest.fixture(params=["asyncio", "uvloop"])
def served(build: Any, request: pytest.FixtureRequest) -> Iterator[tuple[str, bytes]]:
    """The address of a file, and its bytes."""
    kernel = build(House.build((), Vocabulary({})))
    content = os.urandom(SIZE)
    stored = kernel.blobs.put(content)

    async def download(asked: Request) -> Response:
        return send_blob(asked, kernel, stored.sha256, {"etag": '"it"'})

    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/file", download)])
    config = uvicorn.Config(app, http=Protocol, loop=request.param, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/file", content
    server.should_exit = True
    thread.join(WAIT_SECONDS)


def test_the_bytes_arrive_and_the_connection_goes_on(served: tuple[str, bytes]) -> None:
    address, content = served
    with httpx.Client(trust_env=False) as http:
        for _ in range(3):
            answer = http.get(address)
            assert (answer.status_code, answer.headers["content-length"]) == (200, str(SIZE))
            assert answer.content == content
        for start, end in ((0, SIZE), (1, SIZE - 1), (5 << 20, 6 << 20), (SIZE - 100_000, SIZE)):
            part = http.get(address, headers={"range": f"bytes={start}-{end - 1}"})
            assert (part.status_code, part.content) == (206, content[start:end])


@pytest.mark.heavy
def test_many_at_once_and_slow_ones_get_all_of_it(served: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    address, content = served
    monkeypatch.setattr(sending, "TURN_BYTES", 1 << 20)
    monkeypatch.setattr(sending, "PATIENCE_MILLISECONDS", 1)

    async def read(pause: float) -> str:
        digest = hashlib.sha256()
        async with httpx.AsyncClient(trust_env=False) as http, http.stream("GET", address) as answer:
            await asyncio.sleep(pause)
            async for chunk in answer.aiter_bytes():
                digest.update(chunk)
        return digest.hexdigest()

    async def all_of_them() -> set[str]:
        return set(await asyncio.gather(*(read(0.05 * number) for number in range(sending.AT_ONCE + 4))))

    assert asyncio.run(all_of_them()) == {hashlib.sha256(content).hexdigest()}


def test_one_who_leaves_is_forgotten(served: tuple[str, bytes]) -> None:
    address, content = served
    files = Path("/proc/self/fd")
    httpx.get(address, trust_env=False)  # then the server has all that it needs
    before = len(list(files.iterdir()))
    for _ in range(5):
        line = socket.create_connection(("127.0.0.1", int(address.split(":")[2].split("/")[0])))
        line.sendall(b"GET /file HTTP/1.1\r\nhost: here\r\n\r\n")
        assert line.recv(100)
        line.close()
    give_up_at = time.monotonic() + WAIT_SECONDS
    while len(list(files.iterdir())) > before:
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    assert httpx.get(address, trust_env=False).content == content
