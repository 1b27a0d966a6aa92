"""HTTP/1.1 towards callers, for a process that is a gateway and nothing else.

An ASGI server, less whatever the plane does not ask of one: no lifespan, no upgrades, no logging, no middleware. A whole
answer leaves with its head in one write, a stream's head at once. It is for the front door of a trusted network or the
back of a proxy that does TLS; the server's own port speaks through uvicorn as before.

- A request that comes before the answer to the one before it (pipelining) is not taken, and the connection closes after
  that answer; RFC 9112 section 9.3.2 leaves this to servers.
- A head is bounded in size and time, a body by whoever reads it. One clock watches all connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
import structlog

MAX_CONNECTIONS = 4096
MAX_HEAD_BYTES = 32 << 10  # address and headers of a request
IDLE_SECONDS = 75.0  # between two requests, and for a head to come in
TICK_SECONDS = 1.0

STATUS = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_GONE = {"type": "http.disconnect"}

log = structlog.get_logger("gongqi.serving.wire")
Message = dict[str, Any]
Application = Callable[..., Awaitable[None]]


class Exchange:
    """One request and its answer: what ASGI calls `receive` and `send`."""

    __slots__ = (
        "_expects", "_has_length", "_head", "_is_read", "_pieces", "_waiter", "_wire", "is_kept", "is_over", "is_whole",
        "task",
    )  # fmt: skip

    def __init__(self, wire: Wire, *, is_kept: bool, expects: bool) -> None:
        self.is_kept = is_kept  # whether the connection lives on after the answer
        self.is_over = self.is_whole = self._is_read = self._has_length = False
        self._wire = wire
        self._expects = expects
        self._head = b""
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None

    async def run(self, app: Application, scope: Message) -> None:
        try:
            await app(scope, self.receive, self.send)
        except Exception as error:  # the door's own log has said more
            log.error("an answer broke", path=scope["path"], error=repr(error))
        if not self.is_over:
            self._wire.transport.abort()

    async def receive(self) -> Message:
        if self._expects:
            self._expects = False
            self._wire.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self.is_over:
            if self._pieces or (self.is_whole and not self._is_read):
                body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                self._is_read = self.is_whole
                return {"type": "http.request", "body": body, "more_body": not self.is_whole}
            self._waiter = self._wire.loop.create_future()
            await self._waiter
        return _GONE

    async def send(self, message: Message) -> None:
        if self.is_over:
            return
        if message["type"] == "http.response.start":
            self._begin(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self._has_length:
            body = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        self._wire.transport.write(self._head + body if self._head else body)
        self._head = b""
        if not more:
            self.is_over = True
            self.wake()
            self._wire.answered(self)
        elif self._wire.drained is not None:
            await self._wire.drained

    def _begin(self, message: Message) -> None:
        lines = [STATUS[message["status"]], b"date: ", self._wire.wires.date, b"\r\n"]
        for name, value in message["headers"]:
            lines += (name, b": ", value, b"\r\n")
            self._has_length = self._has_length or name == b"content-length"
        if not self._has_length:
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n" if self.is_kept else b"connection: close\r\n\r\n")
        self._head = b"".join(lines)
        if not self._has_length:
            self._wire.transport.write(self._head)
            self._head = b""

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self.wake()

    def leave(self) -> None:
        self.is_over = True
        self.wake()

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Wire(asyncio.Protocol):
    """One caller's connection: one exchange at a time."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        self.loop = wires.loop
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.exchange: Exchange | None = None
        self.drained: asyncio.Future[None] | None = None  # while the caller reads too slowly
        self.since = wires.loop.time()
        self._parser = httptools.HttpRequestParser(self)
        self._is_deaf = False  # what comes is no longer listened to
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._expects = False

    # ---- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if len(self.wires.open) >= MAX_CONNECTIONS:
            self.transport.abort()
            return
        self.wires.open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # answered as if nothing else had been asked for
            self._close_after()
        except httptools.HttpParserError:
            self._reject(431 if self._head_bytes > MAX_HEAD_BYTES else 400)

    def connection_lost(self, exc: Exception | None) -> None:
        self.wires.open.discard(self)
        if self.exchange is not None:
            self.exchange.leave()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.drained = self.loop.create_future()

    def resume_writing(self) -> None:
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # ---- httptools'

    def on_message_begin(self) -> None:
        if self.exchange is not None:
            self._close_after()
            return
        self._url = b""
        self._headers = []
        self._head_bytes = 0
        self._expects = False

    def on_url(self, url: bytes) -> None:
        if not self._is_deaf:
            self._url += url
            self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_deaf:
            return
        self._count(len(name) + len(value))
        name = name.lower()
        self._expects = self._expects or (name == b"expect" and value.lower() == b"100-continue")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_deaf:
            return
        path, _, query = self._url.partition(b"?")
        scope = {
            "type": "http", "method": self._parser.get_method().decode("ascii"), "query_string": query,
            "path": unquote(path.decode("ascii", "replace")), "headers": self._headers,
        }  # fmt: skip
        exchange = self.exchange = Exchange(self, is_kept=self._parser.should_keep_alive(), expects=self._expects)
        exchange.task = self.loop.create_task(exchange.run(self.wires.app, scope))

    def on_body(self, body: bytes) -> None:
        if not self._is_deaf and self.exchange is not None:
            self.exchange.feed(body)

    def on_message_complete(self) -> None:
        if not self._is_deaf and self.exchange is not None:
            self.exchange.is_whole = True
            self.exchange.wake()

    # ---- its own

    def answered(self, exchange: Exchange) -> None:
        """The answer is written. What was not read of its request would be taken for the next one."""
        self.exchange = None
        self.since = self.loop.time()
        if not (exchange.is_kept and exchange.is_whole):
            self.transport.close()

    def close(self) -> None:
        """When the answer under way is written; at once when none is."""
        if self.exchange is None:
            self.transport.close()
        else:
            self._close_after()

    def _close_after(self) -> None:
        self._is_deaf = True
        if self.exchange is not None:
            self.exchange.is_kept = False

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("a head too large")

    def _reject(self, status: int) -> None:
        if self.exchange is not None:
            self.transport.abort()
            return
        self._is_deaf = True
        self.transport.write(STATUS[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


class Wires:
    """All callers' connections of one event loop, to one ASGI application."""

    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.loop = loop
        self.open: set[Wire] = set()
        self.date = b""
        self._clock = loop.create_task(self._tick())

    def __call__(self) -> Wire:
        return Wire(self)

    async def close(self, seconds: float) -> None:
        """Let what is under way come to its end, but not for longer."""
        for wire in list(self.open):
            wire.close()
        deadline = self.loop.time() + seconds
        while self.open and self.loop.time() < deadline:
            await asyncio.sleep(0.05)
        tasks = [wire.exchange.task for wire in self.open if wire.exchange is not None]
        for wire in list(self.open):
            wire.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        self._clock.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._clock

    async def _tick(self) -> None:
        while True:
            self.date = formatdate(usegmt=True).encode()
            now = self.loop.time()
            for wire in list(self.open):
                if wire.exchange is None and now - wire.since > IDLE_SECONDS:
                    wire.transport.close()
            await asyncio.sleep(TICK_SECONDS)
