"""Files leave by `sendfile(2)`: from the page cache into the connection, without passing through Python.

uvicorn offers no such way, so its protocol is given one here, in the form of ASGI's zero copy extension: after the start
of a response, `http.response.zerocopysend` names an open file, an offset and a count, and is the whole body. It is
offered where the connection is in the clear, since TLS is made above the socket; there a proxy does it (operator.md).

The socket is the event loop's: it is written to here only when the loop has nothing left to write to it, by a descriptor
of our own, so that a connection that the loop closes meanwhile is an error of ours and never another connection. A
thread sends as long as the other side takes the bytes; one that is slow is waited for on the loop and holds no thread.

Source: ASGI 3.0, extensions, "Zero Copy Send"; sendfile(2).
"""

from __future__ import annotations

import asyncio
import os
import select
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gongqi.doors.web.heads import Bounded

ZERO_COPY = "http.response.zerocopysend"
AT_ONCE = 8  # threads that send; others wait for their turn
TURN_BYTES = 64 << 20  # after which a thread goes to who waits
PATIENCE_MILLISECONDS = 20  # in which a quick reader makes room again; for a slower one the loop waits

_senders = anyio.CapacityLimiter(AT_ONCE)


class Protocol(Bounded):
    """uvicorn's own, whose application may send files."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.app: Any = partial(self._offer, self.app)

    async def _offer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if self.scheme != "http":
            await app(scope, receive, send)
            return
        cycle: RequestResponseCycle = send.__self__  # type: ignore[attr-defined]

        async def send_too(message: Message) -> None:
            if message["type"] != ZERO_COPY:
                await send(message)
                return
            count = message["count"]
            if not cycle.disconnected:
                await _copy(self.transport, message["file"], message["offset"], message["offset"] + count)
            cycle.expected_content_length -= count
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        scope.setdefault("extensions", {})[ZERO_COPY] = {}
        await app(scope, receive, send_too)


async def _copy(transport: asyncio.Transport, file: int, at: int, end: int) -> None:
    """Send bytes [at, end) of a file. One who leaves gets no more; that is no error."""
    try:
        line = os.dup(transport.get_extra_info("socket").fileno())
    except OSError:
        return  # it has left already
    try:
        while transport.get_write_buffer_size():  # what was said before comes first
            await _room(line)
        while at < end:
            at = await anyio.to_thread.run_sync(_push, line, file, at, min(end, at + TURN_BYTES), limiter=_senders)
            if at < end:
                await _room(line)
    except ConnectionError:
        transport.abort()
    finally:
        os.close(line)


def _push(line: int, file: int, at: int, end: int) -> int:
    """Send as long as the other side takes it; returns how far this came."""
    poll = select.poll()
    poll.register(line, select.POLLOUT)
    while at < end:
        try:
            sent = os.sendfile(line, file, at, end - at)
        except BlockingIOError:
            if not poll.poll(PATIENCE_MILLISECONDS):
                break
            continue
        if not sent:
            raise ConnectionAbortedError("the file is shorter than it was")
        at += sent
    return at


async def _room(line: int) -> None:
    """Wait until the other side takes bytes again, or has left."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(line, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(line)
