"""The bodies of requests as they come in: each bounded in size and in time, all together in bytes.

A body is held from its first byte until its call is over, and counts from the first: many that come slowly are as many
bytes as many that have come. One clock watches them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.serving.plane.dialect import Headers

MAX_BODY_BYTES = 16 << 20  # a prompt with pictures
MAX_BODIES_BYTES = 256 << 20  # of all calls under way
BODY_SECONDS = 60.0  # for a body to come in

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Bodies:
    """`read` one, and `free` it when its call is over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.bytes = 0  # of all that are held
        self._clock = clock
        self._readers: dict[asyncio.Task[Any], float] = {}  # until when each may read

    @property
    def coming(self) -> int:
        return len(self._readers)

    async def read(self, headers: Headers, receive: Receive, *, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
        """The whole body, refused as soon as it is known to be too large. Raises Refused, Unavailable."""
        if int(headers.get(b"content-length", 0)) > limit_bytes:
            raise Refused("kernel.body-too-large", limit_bytes=limit_bytes)
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refused("serving.request-unreadable", why="content-encoding")
        reader = asyncio.current_task()
        assert reader is not None, "it is read in a task"
        deadline = self._readers[reader] = self._clock() + BODY_SECONDS
        pieces: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Unavailable("serving.caller-left")
                piece = message.get("body", b"")
                pieces.append(piece)
                size += len(piece)
                self.bytes += len(piece)
                if size > limit_bytes:
                    raise Refused("kernel.body-too-large", limit_bytes=limit_bytes)
                if self.bytes > MAX_BODIES_BYTES:
                    raise Unavailable("serving.plane-full")
                if not message.get("more_body"):
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except BaseException as error:
            self.free(size)
            if not isinstance(error, asyncio.CancelledError) or self._clock() < deadline:
                raise
            reader.uncancel()
            raise Refused("serving.request-too-slow") from None
        finally:
            del self._readers[reader]

    def free(self, size: int) -> None:
        self.bytes -= size

    def tick(self, now: float) -> None:
        for reader, deadline in self._readers.items():
            if deadline <= now:
                reader.cancel()
