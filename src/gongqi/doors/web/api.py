"""The HTTP API, derived: every verb is `POST /api/v1/room/noun/verb`, every read a `GET` beside it.

`room:noun:list` is `GET /api/v1/room/noun`, `room:noun:get` is `GET /api/v1/room/noun/{key}`, any other read
`GET /api/v1/room/noun/word`. Dispatch is one dictionary look-up, so its cost does not grow with the number of verbs.
Habits: `Idempotency-Key`, `ETag`/`If-Match`/`If-None-Match`, cursor paging, RFC 9457 errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import anyio.to_thread
import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gongqi.doors.fields import field_named, key_field
from gongqi.doors.web import callers, openapi, problems
from gongqi.doors.web.batches import Batches
from gongqi.kernel.access import Actor
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Call, Input, Read, ReadVerb, Verb, etag_of, execute_all, query
from gongqi.kernel.words import tag

PREFIX = "/api/v1"
DOCUMENT = "openapi.json"
MAX_BODY_BYTES = 4 * 1024 * 1024  # a verb's input is words and numbers; files have their own way in


@dataclass(frozen=True, slots=True)
class _Posted:
    request: Request
    verb: Verb
    body: bytes


class Api:
    """An ASGI application over one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.posts: dict[str, Verb] = {path_of(v.name): v for v in kernel.house.verbs.values()}
        self.gets: dict[str, ReadVerb] = {path_of(r.name): r for r in kernel.house.reads.values()}
        self._document: bytes | None = None
        self._batches = Batches(self._write, lanes=kernel.db.writers, size=kernel.db.batch_size)

    def is_verb(self, scope: Scope) -> bool:
        return scope["method"] == "POST" and scope["path"].removeprefix(PREFIX).removeprefix("/") in self.posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:  # the door: one of the two places that may catch everything
            response = problems.answer(error, request, self.kernel.house)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"].removeprefix(PREFIX).removeprefix("/")  # exact: one address, one spelling
        if path == DOCUMENT and request.method in ("GET", "HEAD"):
            return await anyio.to_thread.run_sync(self._openapi, request)
        if request.method == "POST" and (verb := self.posts.get(path)):
            body = await read_body(request)
            check_is_json(request, body)
            return await self._batches.answer(_Posted(request, verb, body))
        if request.method in ("GET", "HEAD"):
            if read := self.gets.get(path):
                return await anyio.to_thread.run_sync(self._get, request, read, None)
            parent, _, key = path.rpartition("/")
            if key and (read := self.gets.get(f"{parent}/{{key}}")):
                return await anyio.to_thread.run_sync(self._get, request, read, key)
        raise self._no_such(path)

    def _no_such(self, path: str) -> Refused:
        parent, _, key = path.rpartition("/")
        allow = ["GET, HEAD"] if path in self.gets or (key and f"{parent}/{{key}}" in self.gets) else []
        if path == DOCUMENT:
            allow = ["GET, HEAD"]
        elif path in self.posts:
            allow = ["POST"]
        shown = f"{PREFIX}/{path}"[: problems.MAX_PATH]
        if allow:
            return Refused("web.method-not-allowed", path=shown, allow=", ".join(allow))
        return Refused("web.route-unknown", path=shown)

    def _write(self, batch: Sequence[_Posted]) -> list[Response]:
        """Answer a batch: who calls and with what, from one snapshot; then all their verbs, sharing a commit."""
        calls = self.kernel.look(lambda ctx: self._calls(batch, ctx))
        outcomes = iter(execute_all(self.kernel, [call for call in calls if isinstance(call, Call)]))
        return [
            self._conclude(posted.request, next(outcomes) if isinstance(call, Call) else call)
            for posted, call in zip(batch, calls, strict=True)
        ]

    def _calls(self, batch: Sequence[_Posted], ctx: Read) -> list[Call | Exception]:
        known: dict[str | None, Actor] = {}  # who sends many at once is looked up once

        def call(posted: _Posted) -> Call:
            header = posted.request.headers.get("authorization")
            if header not in known:
                known[header] = callers.bearer(posted.request, self.kernel, look=lambda work: work(ctx))
            caller = callers.caller(posted.request, known[header])
            return Call(posted.verb, caller, parse(posted.verb.input, posted.body))

        return [_attempt(call, posted) for posted in batch]

    def _conclude(self, request: Request, outcome: Any) -> Response:
        if isinstance(outcome, Exception):
            return problems.answer(outcome, request, self.kernel.house)
        return self._respond(request, outcome)

    def _get(self, request: Request, read: ReadVerb, key: str | None) -> Response:
        caller = callers.caller(request, callers.bearer(request, self.kernel))
        return self._respond(request, query(self.kernel, read, caller, parse_query(read.input, request, key)))

    def _respond(self, request: Request, output: Any) -> Response:
        headers = {"content-language": tag(callers.language_of(request))}
        version = getattr(output, "version", None)
        if isinstance(version, int):
            headers["etag"] = etag_of(version)
            if request.method in ("GET", "HEAD") and none_match(request.headers.get("if-none-match"), version):
                return Response(status_code=304, headers=headers)
        return Response(output.model_dump_json(), media_type="application/json", headers=headers)

    def _openapi(self, _request: Request) -> Response:
        if self._document is None:
            self._document = orjson.dumps(openapi.document(self.kernel.house))
        return Response(self._document, media_type="application/json")


def _attempt(call: Callable[[_Posted], Call], posted: _Posted) -> Call | Exception:
    try:
        return call(posted)
    except Exception as error:  # the door, for one request of the batch
        return error


def path_of(name: str) -> str:
    """`hub:release:list` → `hub/release`, `hub:release:get` → `hub/release/{key}`, else the words joined."""
    room, noun, word = name.split(":")
    return {"list": f"{room}/{noun}", "get": f"{room}/{noun}/{{key}}"}.get(word, f"{room}/{noun}/{word}")


async def read_body(request: Request, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The request body, refused as soon as it is known to be too large."""
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit_bytes:
        raise Refused("kernel.body-too-large", limit_bytes=limit_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise Refused("kernel.body-too-large", limit_bytes=limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def check_is_json(request: Request, body: bytes) -> None:
    """A body says what it is; so a form on another site, which cannot say JSON, never reaches a verb."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        raise Refused("web.media-type-unsupported", got=media_type[:100])


def none_match(header: str | None, version: int) -> bool:
    """Whether the caller already holds this version (RFC 9110 §13.1.2, weak comparison)."""
    held = {tag.strip().removeprefix("W/") for tag in (header or "").split(",")}
    return bool(held & {"*", etag_of(version)})


def strict_json(text: bytes | str, where: str = "body") -> Any:
    """JSON as RFC 8259 says it and I-JSON (RFC 7493) narrows it: no NaN, and no name twice in one object.

    Of two equal names every parser keeps the one it likes, so what was checked need not be what is done.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_constant)
    except _Invalid as error:
        raise problems.invalid(where, str(error)) from error
    except RecursionError as error:
        raise problems.invalid(where, "json_too_deep") from error
    except ValueError as error:  # not JSON, not UTF-8, or an integer of thousands of digits
        raise problems.invalid(where, "json_invalid") from error


class _Invalid(Exception):
    """Its text is the kind, as in `web.why.<kind>`."""


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _Invalid("json_name_twice")
    return values


def _no_constant(_name: str) -> NoReturn:
    raise _Invalid("finite_number")


def parse(model: type[Input], body: bytes) -> Input:
    """JSON to input."""
    strict_json(body or b"{}")
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise problems.from_validation(error) from error


def parse_query(model: type[Input], request: Request, key: str | None) -> Input:
    """Query parameters (and the path's key) to input; `lang` belongs to the door."""
    values: dict[str, Any] = {}
    for name in request.query_params:
        if name != "lang":
            many = request.query_params.getlist(name)
            field = field_named(model, name)
            values[name] = many if field and field.kind == "many" else many[-1]
    if key is not None:
        values[key_field(model)] = key
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise problems.from_validation(error) from error
