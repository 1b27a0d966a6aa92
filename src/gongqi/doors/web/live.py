"""Live numbers: one stream of server-sent events, computed once for all who look.

Numbers are measured only while somebody listens, every `PERIOD_SECONDS`, as the public would see them; only those that
changed are sent. A listener that reads slowly misses intermediate values, never the last one, and costs no more memory
than one value a figure. Every stream ends: after `LIFETIME_SECONDS`, when measuring fails, and when the server stops;
the browser then comes back by itself.

Source: WHATWG HTML §9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gongqi.doors.web import problems
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, Read

PERIOD_SECONDS = 2.0
AT_ONCE_SECONDS = 0.02  # measured for every reader while it takes no longer
STALE_SECONDS = 10.0  # no page shows older figures
PULSE_SECONDS = 15.0  # a comment as often as this keeps proxies from closing a quiet stream
MAX_LISTENERS = 500
LIFETIME_SECONDS = 300.0  # no stream outlives a deployment by more
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}

log = structlog.get_logger("gongqi.web")


def measure(kernel: Kernel) -> dict[str, int | str]:
    """All figures at one moment, as the public sees them."""

    def all_of(ctx: Read) -> dict[str, int | str]:
        return {figure.key: figure.measure(ctx) for room in kernel.house.rooms for figure in room.figures}

    return kernel.look(all_of, Caller(ANONYMOUS))


class Figures:
    """The figures for pages: measured for every reader of a small foundation, now and then in a large one.

    To count a hundred thousand rows takes a while, and no reader of the home page should wait for it. What took longer
    than `AT_ONCE_SECONDS` is therefore shown again for up to `PERIOD_SECONDS`; the reader who comes after that is still
    shown it, and sets off one measuring beside the answer. Nobody is shown what is older than `STALE_SECONDS`: who comes
    after a long silence waits. However many ask, one measures.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._measuring = threading.Lock()
        self._latest: dict[str, int | str] = {}
        self._began = self._due = self._stale = float("-inf")

    def latest(self) -> dict[str, int | str]:
        now = time.monotonic()
        if now >= self._stale:
            with self._measuring:
                if now > self._began:  # nobody has begun to measure since this reader asked
                    self._measure()
        elif now >= self._due and self._measuring.acquire(blocking=False):
            threading.Thread(target=self._measure_beside, name="figures", daemon=True).start()
        return self._latest

    def _measure_beside(self) -> None:
        try:
            self._measure()
        except Exception as error:  # nobody waits for it; the next reader sets it off again, or waits and is told
            log.error("figures", exc_info=error)
        finally:
            self._measuring.release()

    def _measure(self) -> None:
        began = time.monotonic()
        self._latest, self._began = measure(self._kernel), began
        at_once = time.monotonic() - began < AT_ONCE_SECONDS
        self._due = began if at_once else began + PERIOD_SECONDS
        self._stale = began if at_once else began + STALE_SECONDS


class Listener:
    """One open stream: what it has still to be told, and whether it is to end."""

    def __init__(self, known: dict[str, Any]) -> None:
        self.untold = dict(known)
        self.ended = False
        self.stir = asyncio.Event()

    def tell(self, figures: dict[str, Any]) -> None:
        self.untold |= figures
        self.stir.set()

    def end(self) -> None:
        self.ended = True
        self.stir.set()

    async def stream(self) -> AsyncIterator[bytes]:
        ends_at = asyncio.get_running_loop().time() + LIFETIME_SECONDS
        yield b"retry: 3000\n\n"
        while not self.ended and asyncio.get_running_loop().time() < ends_at:
            self.stir.clear()  # before looking, so that what is told while we send stirs us again
            if self.untold:
                figures, self.untold = self.untold, {}
                yield b"event: figures\ndata: " + orjson.dumps(figures) + b"\n\n"
            try:
                await asyncio.wait_for(self.stir.wait(), PULSE_SECONDS)
            except TimeoutError:
                yield b":\n\n"


class Live:
    """The ASGI application at `/live`."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._listeners: set[Listener] = set()
        self._latest: dict[str, Any] = {}
        self._pump: asyncio.Task[None] | None = None
        self._is_closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self._listeners) >= MAX_LISTENERS:
            full = Unavailable("web.too-many-streams", retry_after_seconds=30)
            await problems.answer(full, Request(scope), self.kernel.house)(scope, receive, send)
            return
        listener = Listener(self._latest)
        self._listeners.add(listener)
        if self._is_closed:
            listener.end()  # it came while the server was stopping
        elif self._pump is None:
            self._pump = asyncio.create_task(self._measure_and_tell())
        try:
            stream = StreamingResponse(listener.stream(), media_type="text/event-stream", headers=HEADERS)
            await stream(scope, receive, send)
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream and begin no other, so that a server which waits for its open responses can stop."""
        self._is_closed = True
        self._end_all()

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.end()

    async def _measure_and_tell(self) -> None:
        try:
            while self._listeners:
                figures = await anyio.to_thread.run_sync(measure, self.kernel)
                changed = {key: value for key, value in figures.items() if self._latest.get(key) != value}
                self._latest = figures
                if changed:
                    for listener in self._listeners:
                        listener.tell(changed)
                await asyncio.sleep(PERIOD_SECONDS)
        except Exception as error:  # a figure of some room: the streams end, and browsers come back
            log.error("figures", exc_info=error)
        finally:
            self._pump, self._latest = None, {}
            self._end_all()
