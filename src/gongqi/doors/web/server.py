"""The whole web application: headers first, then protocols, API, console and static files."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gongqi.doors.web import passwords, problems
from gongqi.doors.web.api import PREFIX, Api
from gongqi.doors.web.console import Console
from gongqi.doors.web.home import home
from gongqi.doors.web.live import Live
from gongqi.doors.web.protocols import Protocols
from gongqi.doors.web.signin import sign_in_routes
from gongqi.kernel.errors import GongqiError
from gongqi.kernel.room import Kernel

STATIC = Path(__file__).parent / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "img-src 'self' data:"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
VARY = "accept-language, cookie, authorization"
_ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def build(kernel: Kernel, extra: Iterable[BaseRoute] = ()) -> ASGIApp:
    """The ASGI application of `kernel`; `extra` are other doors that share the port (MCP)."""
    api, console = Api(kernel), Console(kernel)
    kernel.parts[Live] = live = Live(kernel)
    endpoints = (endpoint for room in kernel.house.rooms for endpoint in room.endpoints)
    protocols = Protocols(kernel, [*endpoints, passwords.ENDPOINT])
    routes: list[BaseRoute] = [
        *protocols.routes,
        Mount(PREFIX, api),
        Route("/live", live, methods=["GET"]),
        Route("/health", _health, methods=["GET"]),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/", home(console), methods=["GET"]),
        *sign_in_routes(console),
        *console.routes,
        *extra,
    ]

    async def refuse(request: Request, error: Exception) -> Response:
        """To a browser a page, to a program a problem document."""
        if "text/html" in request.headers.get("accept", ""):
            return await anyio.to_thread.run_sync(console.failed, request, error)
        return problems.answer(error, request, kernel.house)

    handlers: Any = {HTTPException: refuse, GongqiError: refuse, ClientDisconnect: refuse}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # one address, one spelling
    return Envelope(Fork(api, protocols, app))


class Fork:
    """A verb goes straight to the API, a question that goes in batches to its endpoint: to find either among a hundred
    routes costs more than to answer it."""

    def __init__(self, api: Api, protocols: Protocols, app: Starlette) -> None:
        self.api = api
        self.protocols = protocols
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.app
        if scope["type"] == "http":
            app = self.api if self.api.is_verb(scope) else self.protocols.shortcut(scope) or app
        await app(scope, receive, send)


class Server(uvicorn.Server):
    """Ends the live streams when it is told to stop: uvicorn waits for open responses, and these have no end."""

    def __init__(self, config: uvicorn.Config, kernel: Kernel) -> None:
        super().__init__(config)
        self._kernel = kernel

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._kernel.is_stopping = True
        self._kernel.part(Live).close()
        await super().shutdown(sockets)


async def _health(_request: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


class Envelope:
    """The outermost layer: a request id for every request, security headers for every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(10)}"
        scope.setdefault("state", {})["request_id"] = request_id

        static = scope["path"].startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.setdefault("headers", [])
                names = {name for name, _ in given}
                given.append((b"x-request-id", request_id.encode()))
                given += [header for header in _ENCODED if header[0] not in names]
                if not static:
                    if b"cache-control" not in names:
                        given.append((b"cache-control", b"no-store"))
                    if b"vary" in names:
                        MutableHeaders(scope=message).add_vary_header(VARY)
                    else:
                        given.append((b"vary", VARY.encode()))
            await send(message)

        await self.app(scope, receive, send_with_headers)
