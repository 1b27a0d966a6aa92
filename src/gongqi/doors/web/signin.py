"""Signing in to the console: by password or by a one-time link; signing out.

The link's page only shows a button: mail scanners and browsers fetch links before people do, and a link works once.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qsl

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gongqi.doors.web import api, callers, problems
from gongqi.doors.web.console import Console
from gongqi.kernel.access import Actor
from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.kernel.verbs import execute

MAX_FORM_BYTES = 16 * 1024
PASSWORD, LINK, END = "members:signin:password", "members:signin:redeem", "members:session:end"


def sign_in_routes(console: Console) -> list[Route]:
    door = SignIn(console)
    return [
        Route("/sign-in", door.show, methods=["GET"]),
        Route("/sign-in", door.sent(PASSWORD, ("name", "password")), methods=["POST"]),
        Route("/sign-in/link/{link}", door.show, methods=["GET"]),
        Route("/sign-in/link", door.sent(LINK, ("link",)), methods=["POST"]),
        Route("/sign-out", door.leave, methods=["POST"]),
    ]


class SignIn:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.kernel = console.kernel
        self.secure = console.kernel.settings.origin.startswith("https:")

    async def show(self, request: Request) -> Response:
        return await anyio.to_thread.run_sync(self._page, request, None, {})

    def sent(self, verb: str, names: tuple[str, ...]) -> Any:
        async def endpoint(request: Request) -> Response:
            try:
                body = await api.read_body(request, MAX_FORM_BYTES)
            except Refused as error:
                return await anyio.to_thread.run_sync(self.console.failed, request, error)
            return await anyio.to_thread.run_sync(self._try, request, verb, names, body)

        return endpoint

    async def leave(self, request: Request) -> Response:
        body = await api.read_body(request, MAX_FORM_BYTES)
        return await anyio.to_thread.run_sync(self._leave, request, body)

    def _page(self, request: Request, error: GongqiError | None, typed: dict[str, str]) -> Response:
        """The form, with a guest cookie that ties its CSRF token to this browser before there is a session."""
        guest = request.cookies.get(callers.GUEST_COOKIE)
        fresh = None
        if not guest and not request.cookies.get(callers.SESSION_COOKIE):
            fresh = secrets.token_urlsafe(24)
            request.cookies[callers.GUEST_COOKIE] = fresh
        status, problem = 200, None
        if error:
            status, problem = problems.document(
                error, house=self.kernel.house, language=callers.language_of(request), request_id=request.state.request_id
            )
        values = {
            "problem": problem,
            "link": request.path_params.get("link") or typed.get("link"),
            "name": typed.get("name", ""),
            "back": callers.safe_path(request.query_params.get("back") or typed.get("back")),
        }
        actor = callers.cookie(request, self.kernel)
        response = self.console.render(request, actor, "sign_in.html", values, status=status)
        if fresh:
            response.set_cookie(callers.GUEST_COOKIE, fresh, httponly=True, samesite="lax", secure=self.secure)
        if error:
            response.headers.update(problems.headers(error, status))
        return response

    def _try(self, request: Request, name: str, names: tuple[str, ...], body: bytes) -> Response:
        typed = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
        try:
            callers.check_csrf(request, typed.get("csrf", ""))
            verb = self.kernel.house.verbs[name]
            values = {field: typed.get(field, "").replace("\x00", "") for field in names}
            values |= {"agent": request.headers.get("user-agent", "")[:200], "address": callers.address_of(request)}
            caller = callers.caller(request, callers.ANONYMOUS)
            output = execute(self.kernel, verb, caller, verb.input.model_validate(values))
        except (Refused, Unavailable) as error:
            return self._page(request, error, typed)
        except Exception as error:  # the door
            return self.console.failed(request, error)
        response = RedirectResponse(callers.safe_path(typed.get("back")), 303)
        callers.sign_in(response, output.session, secure=self.secure)
        response.delete_cookie(callers.GUEST_COOKIE)
        return response

    def _leave(self, request: Request, body: bytes) -> Response:
        typed = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
        try:
            callers.check_csrf(request, typed.get("csrf", ""))
            actor: Actor = callers.cookie(request, self.kernel)
            if actor.session:
                verb = self.kernel.house.verbs[END]
                caller = callers.caller(request, actor)
                execute(self.kernel, verb, caller, verb.input.model_validate({"session": actor.session}))
        except Exception as error:  # the door
            return self.console.failed(request, error)
        response = RedirectResponse("/", 303)
        callers.sign_out(response, secure=self.secure)
        return response

