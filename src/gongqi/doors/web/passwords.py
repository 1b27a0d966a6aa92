"""Signing in by password, for programs: what the console's form is for people. `gongqi sign-in` comes this way.

It sets no cookie, so there is no form of another site to guard against; and it takes JSON only, which such a form cannot
send, so that nobody's browser can be made to guess for somebody else.
"""

from __future__ import annotations

from typing import cast

import anyio.to_thread
from pydantic import Field, SecretStr
from starlette.requests import Request
from starlette.responses import Response

from gongqi.doors.web.api import PREFIX, check_is_json, parse, read_body
from gongqi.kernel.room import Endpoint
from gongqi.kernel.verbs import Input
from gongqi.members import rules, sessions

MAX_BODY_BYTES = 4 * 1024


class SignIn(Input):
    handle: str = Field(max_length=rules.MAX_HANDLE)
    password: SecretStr = Field(max_length=rules.MAX_PASSWORD)


async def sign_in(request: Request) -> Response:
    """Begin a session; its secret is a bearer token."""
    body = await read_body(request, MAX_BODY_BYTES)
    check_is_json(request, body)
    input = cast(SignIn, parse(SignIn, body))
    return await anyio.to_thread.run_sync(_begin, request, input)


def _begin(request: Request, input: SignIn) -> Response:
    begun = sessions.sign_in(
        request.state.kernel,
        request.state.caller,
        handle=input.handle,
        password=input.password.get_secret_value(),
        user_agent=request.headers.get("user-agent", ""),
    )
    return Response(begun.model_dump_json(), media_type="application/json")


ENDPOINT = Endpoint("POST", f"{PREFIX}/members/signin/password", sign_in)
