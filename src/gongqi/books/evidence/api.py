"""The log as files over HTTP, as c2sp.org/tlog-tiles asks: /log/checkpoint and /log/tile/…

A tile never changes, so caches may keep it for ever; the checkpoint must be asked for anew each time. A partial tile
that has been outgrown is still given, cut from its successor.
"""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from gongqi.books.evidence.folder import LogFolder
from gongqi.books.evidence.tiles import Tile
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Endpoint, Kernel

FOREVER = "public, max-age=31536000, immutable"


async def give_checkpoint(request: Request) -> Response:
    note = await anyio.to_thread.run_sync(_folder(request).checkpoint)
    if note is None:
        raise Refused("evidence.log-empty")
    return Response(note, media_type="text/plain; charset=utf-8", headers={"cache-control": "no-cache"})


async def give_tile(request: Request) -> Response:
    tile = Tile.parse(f"tile/{request.path_params['path']}")
    content = await anyio.to_thread.run_sync(_folder(request).load, tile)
    if not content:
        raise Refused("evidence.tile-unwritten", path=tile.path)
    return Response(content, media_type="application/octet-stream", headers={"cache-control": FOREVER})


def _folder(request: Request) -> LogFolder:
    kernel: Kernel = request.state.kernel
    return LogFolder(kernel.settings.home / "log")


ENDPOINTS = (
    Endpoint("GET", "/log/checkpoint", give_checkpoint),
    Endpoint("GET", "/log/tile/{path:path}", give_tile),
)
