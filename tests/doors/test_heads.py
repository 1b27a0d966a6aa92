"""Heads of requests end, on the server's own port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gongqi.doors.web.heads import MAX_HEAD_BYTES
from gongqi.doors.web.sending import Protocol

CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def address(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    async def headers(asked: Request) -> PlainTextResponse:
        body = await asked.body()
        return PlainTextResponse(" ".join([*asked.headers, body.decode()]), headers={"connection": "close"})

    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/", headers, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, http=Protocol, loop=request.param, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join(10)


def say(address: tuple[str, int], data: bytes) -> bytes:
    heard = b""
    with socket.create_connection(address, timeout=20) as line:
        line.sendall(data)
        while piece := line.recv(65_536):
            heard += piece
    return heard


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nhost: ", b"GET /", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, CHUNKED + b"last: "]
)
def test_a_head_without_end_is_not_waited_for(address: tuple[str, int], head: bytes) -> None:
    with socket.create_connection(address, timeout=20) as line, pytest.raises(ConnectionError):
        line.sendall(head)
        for _ in range(4096):  # 64 MiB
            line.sendall(b"x" * 16_384)


def test_a_trailer_is_no_header(address: tuple[str, int]) -> None:
    told = say(address, CHUNKED + b"authorization: Bearer stolen\r\n\r\n")
    assert told.endswith(b"\r\n\r\nhost transfer-encoding hi")


def test_a_head_within_the_bound_is_answered(address: tuple[str, int]) -> None:
    value = b"x" * (MAX_HEAD_BYTES // 2)
    told = say(address, b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + value + b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 200 OK") and told.endswith(b"\r\n\r\nhost long ")
