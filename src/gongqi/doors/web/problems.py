"""Errors as RFC 9457 problem documents, in the caller's language with both languages inside, and as a console page."""

from __future__ import annotations

from typing import Any

import orjson
import structlog
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gongqi.doors.web import callers
from gongqi.kernel.errors import Broken, GongqiError, Refused, Unavailable
from gongqi.kernel.room import House, Shape
from gongqi.kernel.words import LANGUAGES, tag

MEDIA_TYPE = "application/problem+json"
MAX_WHY = 300  # characters of a validation message that are repeated to the caller
MAX_PATH = 200  # characters of an address that are repeated to the caller
INVALID = "kernel.input-invalid"
LIMITS = (
    "max_length",
    "min_length",
    "ge",
    "gt",
    "le",
    "lt",
    "expected",
    "pattern",
)  # what a validation measured against

log = structlog.get_logger("gongqi.web")


def catalogued(error: Exception, request_id: str, path: str = "") -> GongqiError:
    """Any exception as one with a code; what we did not foresee is our bug, is logged whole and told in general."""
    if isinstance(error, GongqiError):
        if isinstance(error, Broken) or error.detail:
            log.error(
                "broken" if isinstance(error, Broken) else "refused",
                code=error.code,
                detail=error.detail,
                request_id=request_id,
                exc_info=error if isinstance(error, Broken) else None,
            )
        return error
    if isinstance(error, ValidationError):
        return from_validation(error)
    if isinstance(error, ClientDisconnect):
        return Refused("web.caller-left")
    if isinstance(error, HTTPException):
        return _from_http(error, path)
    log.error("unforeseen", request_id=request_id, exc_info=error)
    return Broken("kernel.broken")


def _from_http(error: HTTPException, path: str) -> GongqiError:
    """What the framework refuses: an unknown address, a method, a form that does not parse."""
    if error.status_code == 405:
        allow = {name.lower(): value for name, value in (error.headers or {}).items()}.get("allow", "")
        return Refused("web.method-not-allowed", path=path[:MAX_PATH], allow=allow)
    if error.status_code == 404:
        return Refused("web.route-unknown", path=path[:MAX_PATH])
    return Refused("web.request-malformed", why=str(error.detail)[:MAX_WHY])


def invalid(where: str, kind: str) -> Refused:
    """An input refused by the door itself; `web.why.<kind>` words the reason."""
    return Refused(INVALID, where=where, why=kind, kind=kind)


def from_validation(error: ValidationError) -> Refused:
    """The first thing wrong with an input. The value itself is not repeated: it may be a secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    measured = [value for key, value in first.get("ctx", {}).items() if key in LIMITS]
    limit = {"limit": str(measured[0])[:MAX_WHY]} if measured else {}
    return Refused(INVALID, where=where[:MAX_WHY], why=first["msg"][:MAX_WHY], kind=first["type"], **limit)


def worded(error: GongqiError, house: House, language: str) -> tuple[int, str, str]:
    """(status, message, remedy). The reason within an invalid input is worded too, where we have words for its kind."""
    key = f"web.why.{error.params.get('kind')}"
    if error.code == INVALID and house.words.has(key):
        params: dict[str, Any] = error.params | {"why": house.words.text(key, language, **error.params)}
        error = Refused(INVALID, **params)
    return house.words.error(error, language)


def document(error: GongqiError, *, house: House, language: str, request_id: str) -> tuple[int, dict[str, Any]]:
    """(status, RFC 9457 document). `type` is a URN that names the code; the error catalogue explains each."""
    localized = {}
    for each in LANGUAGES:
        status, detail, remedy = worded(error, house, each)
        localized[each] = {"detail": detail, "remedy": remedy}
    return status, {
        "type": f"urn:gongqi:error:{error.code}",
        "title": error.code,
        "status": status,
        **localized[language],
        "code": error.code,
        "params": error.params,
        "request_id": request_id,
        "localized": localized,
    }


def headers(error: GongqiError, status: int) -> dict[str, str]:
    extra: dict[str, str] = {}
    if isinstance(error, Unavailable):
        extra["retry-after"] = str(error.retry_after_seconds)
    if status == 401:
        extra["www-authenticate"] = 'Bearer realm="gongqi"'
    if error.code == "web.method-not-allowed":
        extra["allow"] = str(error.params["allow"])
    if status == 408:
        extra["connection"] = "close"  # RFC 9110 §15.5.9: whoever is that slow does not keep the connection
    return extra


def answer(error: Exception, request: Request, house: House, shape: Shape | None = None) -> Response:
    """Any exception as the response to a program; `shape` adds what the program's protocol asks for."""
    known = catalogued(error, request.state.request_id, request.url.path)
    language = callers.language_of(request)
    status, problem = document(known, house=house, language=language, request_id=request.state.request_id)
    extra = headers(known, status) | {"content-language": tag(language)}
    shaped = shape(problem) if shape else problem
    return Response(orjson.dumps(shaped), status, media_type=MEDIA_TYPE, headers=extra)
