"""Who is calling: bearer tokens for programs, session cookies for the console, and the language of both."""

from __future__ import annotations

import contextlib
import hmac
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gongqi.kernel.access import ANONYMOUS, Actor
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller
from gongqi.kernel.words import LANGUAGES, negotiate
from gongqi.members import actors as members

SESSION_COOKIE = "gongqi_session"
GUEST_COOKIE = "gongqi_guest"
LANGUAGE_COOKIE = "gongqi_language"
FORM_HEADER = "x-form-token"  # what a form sends as its field `csrf`, from a script of ours
SESSION_SECONDS = 14 * 24 * 3600
LANGUAGE_SECONDS = 365 * 24 * 3600
NOTE_SECONDS = 600
MAX_NOTED = 10_000  # secrets whose last note is remembered

_noted: dict[bytes, float] = {}


def language_of(request: Request) -> str:
    """`?lang=` first, then the cookie it set, then what the browser asks for."""
    state = request.scope.setdefault("state", {})  # asked for more than once in the life of a request
    if "language" not in state:
        state["language"] = _chosen_language(request)
    return state["language"]


def _chosen_language(request: Request) -> str:
    asked = request.query_params.get("lang") if request.scope["query_string"] else None
    for choice in (asked, request.cookies.get(LANGUAGE_COOKIE)):
        if choice in LANGUAGES:
            return choice
    return negotiate(request.headers.get("accept-language"))


def bearer(request: Request, kernel: Kernel, *, look: Callable[..., Any] | None = None) -> Actor:
    """The actor of an `Authorization: Bearer` header (RFC 6750); nobody in particular when there is none.

    A session begun by a one-time link may be used the same way, so that a program too can come in by a link. `look` is
    another snapshot to look in than one of its own.
    """
    header = request.headers.get("authorization")
    if header is None:
        return ANONYMOUS
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refused("web.authorization-invalid")
    secret = token.strip()
    resolve = members.actor_for_session if secret.startswith(members.SESSION_PREFIX) else members.actor_for_token
    actor = (look or kernel.look)(lambda ctx: resolve(ctx, secret))
    _note(kernel, secret)
    return actor


def cookie(request: Request, kernel: Kernel) -> Actor:
    """The actor of the console's session cookie; an ended session is nobody, not an error."""
    secret = request.cookies.get(SESSION_COOKIE)
    if not secret:
        return ANONYMOUS
    try:
        actor = kernel.look(lambda ctx: members.actor_for_session(ctx, secret))
    except Refused:
        return ANONYMOUS
    _note(kernel, secret)
    return actor


def _note(kernel: Kernel, secret: str) -> None:
    """Keep a session from idling out and date a token's last use, looking at the database at most once in a while."""
    digest, now = sha256(secret.encode()).digest(), time.monotonic()
    if now - _noted.get(digest, -NOTE_SECONDS) < NOTE_SECONDS:
        return
    if len(_noted) >= MAX_NOTED:
        _noted.clear()
    _noted[digest] = now
    with contextlib.suppress(Unavailable):  # a full disk is no reason to refuse a reader
        members.note_use(kernel, secret)


def caller(request: Request, actor: Actor) -> Caller:
    return Caller(
        actor=actor,
        language=language_of(request),
        request_id=request.state.request_id,
        idempotency_key=request.headers.get("idempotency-key"),
        if_match=request.headers.get("if-match"),
        address=address_of(request),
    )


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def csrf_token(request: Request) -> str:
    """A token bound to the session: without the cookie it cannot be made, and a page of another site cannot read it."""
    secret = request.cookies.get(SESSION_COOKIE) or request.cookies.get(GUEST_COOKIE) or ""
    return hmac.new(secret.encode(), b"csrf", sha256).hexdigest() if secret else ""


def check_csrf(request: Request, sent: str) -> None:
    """Refuse a form that did not come from our own page.

    `Sec-Fetch-Site` is set by the browser and cannot be forged by a page ("none" is the reader's own reload); the token
    covers browsers that lack it.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    expected = csrf_token(request)
    if site not in ("same-origin", "none") or not expected or not hmac.compare_digest(sent.encode(), expected.encode()):
        raise Refused("web.form-expired")


def set_cookie(response: Response, request: Request, name: str, value: str, *, seconds: int | None = None) -> None:
    """A cookie that no script reads and no other site's form sends; over TLS it never travels in the clear.

    `max_age` 0 deletes it. The scheme is the one the browser used: uvicorn takes it from a proxy on this machine.
    """
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=secure, path="/")


def safe_path(path: str | None) -> str:
    """A path on this site, or the home page: a sign-in must not become an open redirect.

    Browsers read a backslash as a slash and overlook tabs and line breaks, so neither may be in it.
    """
    if path and path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable():
        return path
    return "/"
