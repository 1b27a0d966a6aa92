"""The latest calls as a stream of server-sent events: `GET /api/v1/serving/tail`.

Each stream is one reader's, with that reader's sight, and asks the database once a second while it is open. It ends after
LIFETIME_SECONDS, so that nobody follows for long with rights that were taken; the browser comes back by itself.

Source: WHATWG HTML §9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller
from gongqi.resources.serving.tail import Seen, latest

PERIOD_SECONDS = 1.0  # as often as the books are brought up to date
PULSE_PERIODS = 15  # a comment as often keeps proxies from closing a quiet stream
LIFETIME_SECONDS = 120.0
MAX_STREAMS = 64  # of one process: as many questions a second
MAX_OF_ONE = 6  # of one reader: as many as browsers open to one place, so that nobody holds them all
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}

log = structlog.get_logger("gongqi.serving.following")
_turns = anyio.CapacityLimiter(4)  # threads of the server's forty that streams may keep busy
_open: dict[object, str] = {}  # whose each is


async def follow(request: Request) -> Response:
    """Raises Unavailable serving.tails-too-many; Refused serving.own-tails-too-many, and as `latest`."""
    kernel, caller = request.state.kernel, request.state.caller
    _require_room(caller.actor.id)
    first = await _look(kernel, caller)
    _require_room(caller.actor.id)  # others have come meanwhile
    return StreamingResponse(_stream(kernel, caller, first), media_type="text/event-stream", headers=HEADERS)


def _require_room(reader: str) -> None:
    if _of(reader) >= MAX_OF_ONE:
        raise Refused("serving.own-tails-too-many", limit=MAX_OF_ONE)
    if len(_open) >= MAX_STREAMS:
        raise Unavailable("serving.tails-too-many", retry_after_seconds=30)


def _of(reader: str) -> int:
    return sum(each == reader for each in _open.values())


async def _look(kernel: Kernel, caller: Caller) -> list[Seen]:
    return await anyio.to_thread.run_sync(kernel.look, latest, caller, limiter=_turns)


async def _stream(kernel: Kernel, caller: Caller, rows: list[Seen]) -> AsyncIterator[bytes]:
    reader = caller.actor.id
    if len(_open) >= MAX_STREAMS or _of(reader) >= MAX_OF_ONE:  # those that came at one time; the browser comes back
        return
    mark = object()
    _open[mark] = reader
    try:
        yield b"retry: 3000\n\n" + _event(rows, is_whole=True)
        for period in range(int(LIFETIME_SECONDS / PERIOD_SECONDS)):
            await asyncio.sleep(PERIOD_SECONDS)
            if kernel.is_stopping:
                return
            known, rows = {each.id for each in rows}, await _look(kernel, caller)
            if fresh := [each for each in rows if each.id not in known]:
                yield _event(fresh, is_whole=False)
            elif period % PULSE_PERIODS == 0:
                yield b":\n\n"
    except Exception as error:  # the stream ends, and the browser comes back
        log.warning("a stream of calls ends", error=repr(error))
    finally:
        del _open[mark]


def _event(rows: list[Seen], *, is_whole: bool) -> bytes:
    """`is_whole`: these take the place of all that was shown."""
    told = {"is_whole": is_whole, "rows": [each.cells for each in rows]}
    return b"event: calls\ndata: " + orjson.dumps(told) + b"\n\n"
