"""Signing in to the console: by password or by a one-time link; signing out.

The link's page only shows a button: mail scanners and browsers fetch links before people do, and a link works once. A
link that works no longer says so at once, and the page offers the other way in.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import anyio.to_thread
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gongqi.doors.web import api, callers, problems
from gongqi.doors.web.console import Console
from gongqi.doors.web.forms import typed_in
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.kernel.verbs import Caller, execute
from gongqi.members import sessions

MAX_FORM_BYTES = 16 * 1024
MAX_SECRET = 100  # characters of a link that are looked at; ours are shorter
WayIn = Callable[[Request, Caller, Mapping[str, str]], str]


def sign_in_routes(console: Console) -> list[Route]:
    door = SignIn(console)
    return [
        Route("/sign-in", door.show, methods=["GET"]),
        Route("/sign-in", door.sent(door.by_password), methods=["POST"]),
        Route("/sign-in/{secret}", door.show, methods=["GET"]),
        Route("/sign-in/{secret}", door.sent(door.by_link), methods=["POST"]),
        Route("/sign-out", door.leave, methods=["POST"]),
    ]


class SignIn:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.kernel = console.kernel

    async def show(self, request: Request) -> Response:
        return await anyio.to_thread.run_sync(self._show, request)

    def sent(self, way_in: WayIn) -> Any:
        async def endpoint(request: Request) -> Response:
            try:
                body = await api.read_body(request, MAX_FORM_BYTES)
            except Refused as error:
                return await anyio.to_thread.run_sync(self.console.failed, request, error)
            return await anyio.to_thread.run_sync(self._try, request, way_in, body)

        return endpoint

    def by_password(self, request: Request, caller: Caller, typed: Mapping[str, str]) -> str:
        browser = request.headers.get("user-agent", "")
        handle, password = typed.get("handle", ""), typed.get("password", "")
        return sessions.sign_in(self.kernel, caller, handle=handle, password=password, user_agent=browser).secret

    def by_link(self, request: Request, caller: Caller, _typed: Mapping[str, str]) -> str:
        browser = request.headers.get("user-agent", "")[:1000]
        input = sessions.Redeem(secret=SecretStr(request.path_params["secret"][:MAX_SECRET]), user_agent=browser)
        return execute(self.kernel, sessions.redeem, caller, input).secret

    async def leave(self, request: Request) -> Response:
        body = await api.read_body(request, MAX_FORM_BYTES)
        return await anyio.to_thread.run_sync(self._leave, request, body)

    def _show(self, request: Request) -> Response:
        try:
            if secret := request.path_params.get("secret"):
                self.kernel.look(lambda ctx: sessions.link_in_force(ctx, secret[:MAX_SECRET]))
            return self._page(request, None, {})
        except Refused as error:
            return self._page(request, error, {})
        except Exception as error:  # the door
            return self.console.failed(request, error)

    def _page(self, request: Request, error: GongqiError | None, typed: dict[str, str]) -> Response:
        """The form, with a guest cookie that ties its CSRF token to this browser before there is a session."""
        guest = request.cookies.get(callers.GUEST_COOKIE)
        fresh = None
        if not guest and not request.cookies.get(callers.SESSION_COOKIE):
            fresh = secrets.token_urlsafe(24)
            request.cookies[callers.GUEST_COOKIE] = fresh
        problem = self.console.problem(request, error) if error else None
        status = problem["status"] if problem else 200
        values = {
            "problem": problem,
            "secret": None if error and error.code == "members.link-invalid" else request.path_params.get("secret"),
            "handle": typed.get("handle", ""),
            "back": callers.safe_path(request.query_params.get("back") or typed.get("back")),
        }
        actor = callers.cookie(request, self.kernel)
        response = self.console.render(request, actor, "sign_in.html", values, status=status)
        if fresh:
            callers.set_cookie(response, request, callers.GUEST_COOKIE, fresh)
        if error:
            response.headers.update(problems.headers(error, status))
        return response

    def _try(self, request: Request, way_in: WayIn, body: bytes) -> Response:
        typed: dict[str, str] = {}
        try:
            typed = typed_in(body)
            callers.check_csrf(request, typed.get("csrf", ""))
            secret = way_in(request, callers.caller(request, ANONYMOUS), typed)
        except (Refused, Unavailable) as error:
            return self._page(request, error, typed)
        except Exception as error:  # the door
            return self.console.failed(request, error)
        response = RedirectResponse(callers.safe_path(typed.get("back")), 303)
        callers.set_cookie(response, request, callers.SESSION_COOKIE, secret, seconds=callers.SESSION_SECONDS)
        callers.set_cookie(response, request, callers.GUEST_COOKIE, "", seconds=0)
        return response

    def _leave(self, request: Request, body: bytes) -> Response:
        try:
            typed = typed_in(body)
            callers.check_csrf(request, typed.get("csrf", ""))
            actor = callers.cookie(request, self.kernel)
            if actor.session:
                caller = callers.caller(request, actor)
                execute(self.kernel, sessions.end_session, caller, sessions.EndSession(session=actor.session))
        except Exception as error:  # the door
            return self.console.failed(request, error)
        response = RedirectResponse("/", 303)
        callers.set_cookie(response, request, callers.SESSION_COOKIE, "", seconds=0)
        return response
