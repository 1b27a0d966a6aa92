"""The home page: the chain as one picture, with the figures that rooms contribute."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from gongqi.doors.web import callers, live
from gongqi.doors.web.console import Console


def home(console: Console) -> Any:
    kernel = console.kernel
    hrefs = {figure.key: figure.href for room in kernel.house.rooms for figure in room.figures}

    def show(request: Request) -> Response:
        try:
            actor = callers.cookie(request, kernel)
            return console.render(request, actor, "home.html", {"figures": live.measure(kernel), "hrefs": hrefs})
        except Exception as error:  # the door
            return console.failed(request, error)

    async def endpoint(request: Request) -> Response:
        return await anyio.to_thread.run_sync(show, request)

    return endpoint
