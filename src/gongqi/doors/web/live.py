"""Live numbers: one stream of server-sent events, computed once for all who look.

Numbers are measured only while somebody listens, every `PERIOD_SECONDS`, as the public would see them; only those that
changed are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, Read

PERIOD_SECONDS = 2.0
MAX_LISTENERS = 500
LIFETIME_SECONDS = 300  # then the browser reconnects by itself; no stream outlives a deployment


def measure(kernel: Kernel) -> dict[str, int | str]:
    """All figures at one moment, as the public sees them."""

    def all_of(ctx: Read) -> dict[str, int | str]:
        return {figure.key: figure.measure(ctx) for room in kernel.house.rooms for figure in room.figures}

    return kernel.look(all_of, Caller(ANONYMOUS))


class Live:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._listeners: set[asyncio.Queue[dict[str, Any]]] = set()
        self._latest: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, request: Request) -> Response:
        if len(self._listeners) >= MAX_LISTENERS:
            raise Unavailable("web.too-many-streams", retry_after_seconds=30)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=headers)

    async def _stream(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=8)
        self._listeners.add(queue)
        if self._task is None or self._task.done():
            self._latest = {}
            self._task = asyncio.create_task(self._pump())
        elif self._latest:
            queue.put_nowait(self._latest)
        try:
            yield b"retry: 3000\n\n"
            async with asyncio.timeout(LIFETIME_SECONDS):
                while True:
                    yield b"event: figures\ndata: " + orjson.dumps(await queue.get()) + b"\n\n"
        except TimeoutError:
            return
        finally:
            self._listeners.discard(queue)

    async def _pump(self) -> None:
        while self._listeners:
            figures = await anyio.to_thread.run_sync(measure, self.kernel)
            changed = {key: value for key, value in figures.items() if self._latest.get(key) != value}
            self._latest = figures
            if changed:
                for queue in list(self._listeners):
                    with contextlib.suppress(asyncio.QueueFull):  # a slow reader misses a number, not the next one
                        queue.put_nowait(changed)
            await asyncio.sleep(PERIOD_SECONDS)
