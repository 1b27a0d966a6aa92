"""The rooms' raw endpoints: each with its kernel and its caller, and its errors in our one shape.

Most are asked alone, on the loop or in threads of their own. Those whose answer is a short question or two are asked
together (`Endpoint.together`): a lane takes all requests that wait, finds who calls and what is answered in one
snapshot on one thread, and hands all answers back at once (batches.py). Such a request is also found without the router,
to pass a hundred routes costs more than to answer it. Each still fails alone, and sees what was committed before its
batch began.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gongqi.doors.web import callers, problems
from gongqi.doors.web.batches import Batches
from gongqi.kernel.access import ANONYMOUS, Actor
from gongqi.kernel.room import Endpoint, Kernel
from gongqi.kernel.verbs import Caller, Read

BATCH = 32  # requests that one snapshot answers: 10 ms of work, so that those behind them do not wait for long
LANES = 2  # one that waits for the disk or the database does not hold up the other
SAFE = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Request
    endpoint: Endpoint


class Protocols:
    """`routes` for the router; `shortcut` is the way past it, to those that are `short`."""

    def __init__(self, kernel: Kernel, endpoints: Iterable[Endpoint]) -> None:
        self._kernel = kernel
        self._batches = Batches(self._answer, lanes=LANES, size=BATCH)
        self.routes: list[Route] = []
        self.short: list[Route] = []
        for endpoint in endpoints:
            app = partial(self._together, endpoint) if endpoint.together else partial(self._alone, endpoint)
            route = Route(endpoint.path, _App(app), methods=[endpoint.method])
            self.routes.append(route)
            if endpoint.together:
                self.short.append(route)

    def shortcut(self, scope: Scope) -> ASGIApp | None:
        """The application that the router would find, if it is one that answers in batches.

        These paths are names and rests of paths, which need no conversion; that no other route comes before them is
        held by a test.
        """
        if scope["method"] in SAFE:
            for route in self.short:
                if found := route.path_regex.match(scope["path"]):
                    scope["path_params"] = found.groupdict()
                    return route.app
        return None

    async def _alone(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._request(scope, receive)
        try:
            actor = await anyio.to_thread.run_sync(endpoint.actor or _actor, request, self._kernel)
            request.state.caller = callers.caller(request, actor)
            response = await endpoint.handle(request)
        except Exception as error:  # the door
            response = problems.answer(error, request, self._kernel.house, endpoint.problem)
        await response(scope, receive, send)

    async def _together(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._request(scope, receive)
        try:
            response = await self._batches.answer(_Asked(request, endpoint)) or await endpoint.handle(request)
        except Exception as error:  # the door, for one that went on alone, or when there was no snapshot for any
            response = problems.answer(error, request, self._kernel.house, endpoint.problem)
        await response(scope, receive, send)

    def _request(self, scope: Scope, receive: Receive) -> Request:
        request = _Heard(scope, receive)
        request.state.kernel = self._kernel
        request.state.caller = Caller(ANONYMOUS)
        return request

    def _answer(self, batch: Sequence[_Asked]) -> list[Response | None]:
        known: dict[str, Actor] = {}  # who asks many things at once is looked up once
        return self._kernel.look(lambda ctx: [self._one(asked, ctx, known) for asked in batch])

    def _one(self, asked: _Asked, ctx: Read, known: dict[str, Actor]) -> Response | None:
        request = asked.request
        try:
            header = request.headers.get("authorization")
            if header in known:
                actor = known[header]
            else:
                actor = callers.bearer(request, self._kernel, look=lambda work: work(ctx))
                known |= {header: actor} if header else {}
            if actor.is_anonymous and callers.SESSION_COOKIE in request.cookies:
                actor = callers.cookie(request, self._kernel)
            request.state.caller = caller = callers.caller(request, actor)
            assert asked.endpoint.together
            return asked.endpoint.together(request, Read(self._kernel, ctx.session, caller))
        except Exception as error:  # the door, for one request of the batch
            if isinstance(error, SQLAlchemyError):
                ctx.session.rollback()  # the others get another snapshot
            return problems.answer(error, request, self._kernel.house, asked.endpoint.problem)


class _Heard(Request):
    """A request whose headers are found by name rather than looked through, since an endpoint asks for a dozen."""

    @property
    def headers(self) -> Headers:
        if not hasattr(self, "_headers"):
            self._headers = ByName(scope=self.scope)
        return self._headers


class ByName(Headers):
    """The same, found by name."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._first = dict(reversed(self._list))

    def __getitem__(self, key: str) -> str:
        return self._first[key.lower().encode("latin-1")].decode("latin-1")

    def get(self, key: str, default: Any = None) -> Any:
        value = self._first.get(key.lower().encode("latin-1"))
        return default if value is None else value.decode("latin-1")


class _App:
    """An ASGI application for a `Route`, which takes a plain function for one that answers requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def _actor(request: Request, kernel: Kernel) -> Any:
    """A token; or the console's cookie: on safe methods, so that a page can link to a download, on others when the page
    shows by a header that it is ours."""
    actor = callers.bearer(request, kernel)
    if not actor.is_anonymous:
        return actor
    if request.method not in SAFE:
        shown = request.headers.get(callers.FORM_HEADER)
        if shown is None:
            return actor
        callers.check_csrf(request, shown)
    return callers.cookie(request, kernel)
