"""Errors as RFC 9457 problem documents, in the caller's language with both languages inside, and as a console page."""

from __future__ import annotations

from typing import Any

import orjson
import structlog
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gongqi.kernel.errors import Broken, GongqiError, Refused, Unavailable
from gongqi.kernel.room import House
from gongqi.kernel.words import LANGUAGES

MEDIA_TYPE = "application/problem+json"
MAX_WHY = 300  # characters of a validation message that are repeated to the caller

log = structlog.get_logger("gongqi.web")


def catalogued(error: Exception, request_id: str) -> GongqiError:
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
    log.error("unforeseen", request_id=request_id, exc_info=error)
    return Broken("kernel.broken")


def from_validation(error: ValidationError) -> Refused:
    """The first thing wrong with an input. The value itself is not repeated: it may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    return Refused("kernel.input-invalid", where=where[:MAX_WHY], why=first["msg"][:MAX_WHY])


def document(error: GongqiError, *, house: House, language: str, request_id: str) -> tuple[int, dict[str, Any]]:
    """(status, RFC 9457 document). `type` is a URN that names the code; the error catalogue explains each."""
    status, message, remedy = house.words.error(error, language)
    localized = {}
    for each in LANGUAGES:
        _, detail, fix = house.words.error(error, each)
        localized[each] = {"detail": detail, "remedy": fix}
    problem: dict[str, Any] = {
        "type": f"urn:gongqi:error:{error.code}",
        "title": error.code,
        "status": status,
        "detail": message,
        "remedy": remedy,
        "code": error.code,
        "params": error.params,
        "request_id": request_id,
        "localized": localized,
    }
    return status, problem


def headers(error: GongqiError, status: int) -> dict[str, str]:
    extra: dict[str, str] = {}
    if isinstance(error, Unavailable):
        extra["retry-after"] = str(error.retry_after_seconds)
    if status == 401:
        extra["www-authenticate"] = 'Bearer realm="gongqi"'
    if error.code == "web.method-not-allowed":
        extra["allow"] = str(error.params["allow"])
    return extra


def response(error: GongqiError, request: Request, *, house: House, language: str) -> Response:
    request_id = request.state.request_id
    status, problem = document(error, house=house, language=language, request_id=request_id)
    return Response(
        orjson.dumps(problem),
        status,
        media_type=MEDIA_TYPE,
        headers=headers(error, status) | {"content-language": language},
    )
