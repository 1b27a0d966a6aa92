"""HTTP/1.1 towards callers, for a process that is a gateway and nothing else.

An ASGI server, less whatever the plane does not ask of one: no lifespan, no upgrades, no logging, no middleware. A whole
answer leaves with its head in one write, a stream's head at once. It is for the front door of a trusted network or the
back of a proxy that does TLS; the server's own port speaks through uvicorn as before.

- A request that comes before the answer to the one before it (pipelining) is not taken, and the connection closes after
  that answer; RFC 9112 section 9.3.2 leaves this to servers.
- A head is bounded in size and time, also one that never ends; a body by whoever reads it, and what nobody reads is not
  taken from the line. Trailers are dropped (section 6.5.1): none of them is a header.
- Whoever does not take what is said, for as long as SEND_SECONDS, is hung up on. One clock watches all connections.
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

from gongqi.resources.serving.plane.turn import Turn

MAX_CONNECTIONS = 4096
MAX_HEAD_BYTES = 32 << 10  # address and headers of a request
MAX_UNREAD_BYTES = 256 << 10  # of a body, before its reader has to take some
IDLE_SECONDS = 75.0  # between two requests, and for a head to come in
SEND_SECONDS = 60.0  # in which a caller must take some of what waits for it
TICK_SECONDS = 1.0

STATUS = {status.value: b"HTTP/1.1 %d %s" % (status, status.phrase.encode()) for status in HTTPStatus}
_GONE = {"type": "http.disconnect"}

log = structlog.get_logger("gongqi.serving.wire")
Message = dict[str, Any]
Application = Callable[..., Awaitable[None]]


class Exchange:
    """One request and its answer: what ASGI calls `receive` and `send`."""

    __slots__ = (
        "_chunks", "_expects", "_has_body", "_head", "_held", "_is_read", "_pieces", "_waiter", "_wire", "is_kept",
        "is_over", "is_whole",
    )  # fmt: skip

    def __init__(self, wire: Wire, *, is_kept: bool, expects: bool, has_body: bool, chunks: bool) -> None:
        self.is_kept = is_kept  # whether the connection lives on after the answer
        self.is_over = self.is_whole = self._is_read = False
        self._has_body = has_body  # what answers HEAD has none
        self._chunks = chunks  # whether the caller knows them, and then whether the answer comes in them
        self._held = 0  # bytes that nobody has read; the line rests while they are too many
        self._wire = wire
        self._expects = expects
        self._head = b""
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None

    async def receive(self) -> Message:
        if self._expects:
            self._expects = False
            self._wire.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self.is_over:
            if self._pieces or (self.is_whole and not self._is_read):
                body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._is_read = self.is_whole
                self.forget()
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
        if not self._has_body:
            body = b""
        elif self._chunks:
            body = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        self._wire.say(self._head + body if self._head else body)
        self._head = b""
        if not more:
            self.is_over = True
            self.wake()
            self._wire.answered(self)
        elif self._wire.drained is not None:
            await self._wire.drained

    def _begin(self, message: Message) -> None:
        headers = message["headers"]
        has_length = b"content-length" in dict(headers)
        self._chunks = self._chunks and not has_length
        self.is_kept = self.is_kept and (has_length or self._chunks)  # or its end is the end of the connection
        lines = [STATUS[message["status"]], self._wire.wires.date, *map(b": ".join, headers)]
        if self._chunks:
            lines.append(b"transfer-encoding: chunked")
        if not self.is_kept:
            lines.append(b"connection: close")
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"
        if not has_length:
            self._wire.say(self._head)
            self._head = b""

    def feed(self, data: bytes) -> None:
        if self._held <= MAX_UNREAD_BYTES < self._held + len(data):
            self._wire.transport.pause_reading()
        self._held += len(data)
        self._pieces.append(data)
        self.wake()

    def forget(self) -> None:
        """What came has been read, or never will be."""
        if self._held > MAX_UNREAD_BYTES:
            self._wire.transport.resume_reading()
        self._pieces.clear()
        self._held = 0

    def leave(self) -> None:
        self.is_over = True
        self.wake()

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Wire(asyncio.Protocol):
    """One caller's connection: one exchange at a time, all in one task, since a task costs as much as half an exchange."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        self.loop = wires.loop
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.task: asyncio.Task[None] = None  # type: ignore[assignment]
        self.exchange: Exchange | None = None
        self.drained: asyncio.Future[None] | None = None  # while the caller reads too slowly
        self.since = wires.loop.time()
        self._parser = httptools.HttpRequestParser(self)
        self._asked: tuple[Exchange, Message] | None = None  # and not begun
        self._idle: asyncio.Future[None] | None = None
        self._is_lost = False
        self._is_deaf = False  # what comes is no longer listened to
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._frame_bytes = 0  # that came since there was a head or a piece of a body
        self._unsent_bytes = 0
        self._expects = False

    # ---- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if len(self.wires.open) >= MAX_CONNECTIONS:
            self.transport.abort()
            return
        self.wires.open.add(self)
        self.task = self.loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._frame_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._frame_bytes > MAX_HEAD_BYTES:  # the parser holds a header, a trailer, until all of it has come
                self._reject(431)
        except httptools.HttpParserUpgrade:  # answered as if nothing else had been asked for
            self._close_after()
        except httptools.HttpParserError:
            self._reject(431 if self._head_bytes > MAX_HEAD_BYTES else 400)

    def connection_lost(self, exc: Exception | None) -> None:
        self.wires.open.discard(self)
        self._is_lost = True
        if self.exchange is not None:
            self.exchange.leave()
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.drained = self.loop.create_future()
        self.since = self.loop.time()
        self._unsent_bytes = self.transport.get_write_buffer_size()

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

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_deaf or self.exchange is not None:  # or a trailer
            return
        name = name.lower()
        if name == b"expect":
            self._expects = self._expects or value.lower() == b"100-continue"
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_deaf:
            return
        if self._frame_bytes > MAX_HEAD_BYTES:  # or some of it is the body's
            self._head_bytes = len(self._url) + sum(len(name) + len(value) for name, value in self._headers)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise ValueError("a head too large")
        self._frame_bytes = 0
        url, _, query = self._url.partition(b"?")
        path = url.decode("ascii", "replace")
        parser = self._parser
        method = parser.get_method().decode("ascii")
        scope = {
            "type": "http", "method": method, "query_string": query, "path": unquote(path) if "%" in path else path,
            "headers": self._headers,
        }  # fmt: skip
        exchange = self.exchange = Exchange(
            self, is_kept=parser.should_keep_alive(), expects=self._expects, has_body=method != "HEAD",
            chunks=parser.get_http_version() not in ("0.9", "1.0"),
        )  # fmt: skip
        self._asked = exchange, scope
        self._wake()

    def on_body(self, body: bytes) -> None:
        self._frame_bytes = 0
        if not self._is_deaf and self.exchange is not None:
            self.exchange.feed(body)

    def on_message_complete(self) -> None:
        self._frame_bytes = 0
        if not self._is_deaf and self.exchange is not None:
            self.exchange.is_whole = True
            self.exchange.wake()

    # ---- its own

    async def _serve(self) -> None:
        try:
            while not self._is_lost:
                if self._asked is None:
                    self._idle = self.loop.create_future()
                    await self._idle
                    continue
                (exchange, scope), self._asked = self._asked, None
                try:
                    await self.wires.app(scope, exchange.receive, exchange.send)
                except Exception as error:  # the door's own log has said more
                    log.error("an answer broke", path=scope["path"], error=repr(error))
                if not exchange.is_over:
                    break
        finally:  # also when it was given up
            if not self._is_lost:
                self.transport.abort()

    def _wake(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    def say(self, data: bytes) -> None:
        self.wires.turn.say(self.transport, data)

    def answered(self, exchange: Exchange) -> None:
        """The answer is written. What was not read of its request would be taken for the next one."""
        self.exchange = None
        self.since = self.loop.time()
        if exchange.is_kept and exchange.is_whole:
            exchange.forget()
        else:
            self.close()

    def close(self) -> None:
        """When the answer under way is written; at once when none is."""
        if self.exchange is None:
            self.wires.turn.end()
            self.transport.close()
        else:
            self.exchange.is_kept = False

    def look(self, now: float) -> None:
        """Hang up on who says nothing, or does not take what is said."""
        if self.drained is not None:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent_bytes:
                self._unsent_bytes, self.since = unsent, now
            elif now - self.since > SEND_SECONDS:
                self.transport.abort()
        elif self.exchange is None and now - self.since > IDLE_SECONDS:
            self.transport.abort()  # and not wait for the last few bytes of an answer to be taken

    def _close_after(self) -> None:
        self._is_deaf = True
        if self.exchange is not None:
            self.exchange.is_kept = False

    def _reject(self, status: int) -> None:
        if self.exchange is not None:
            self.transport.abort()
            return
        self._is_deaf = True
        self.say(STATUS[status] + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.close()


class Wires:
    """All callers' connections of one event loop, to one ASGI application."""

    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.loop = loop
        self.open: set[Wire] = set()
        self.turn = Turn(loop)
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
        tasks = [wire.task for wire in self.open]
        for wire in list(self.open):
            wire.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        self._clock.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._clock

    async def _tick(self) -> None:
        while True:
            self.date = b"date: " + formatdate(usegmt=True).encode()
            now = self.loop.time()
            for wire in list(self.open):
                wire.look(now)
            await asyncio.sleep(TICK_SECONDS)
