"""The HTTP API, derived: every verb is `POST /api/v1/room/noun/verb`, every read a `GET` beside it.

`room:noun:list` is `GET /api/v1/room/noun`, `room:noun:get` is `GET /api/v1/room/noun/{key}`, any other read
`GET /api/v1/room/noun/word`. Dispatch is one dictionary look-up, so its cost does not grow with the number of verbs.
Habits: `Idempotency-Key`, `ETag`/`If-Match`/`If-None-Match`, cursor paging, RFC 9457 errors.
"""

from __future__ import annotations

import typing
from typing import Any

import anyio.to_thread
import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gongqi.doors.web import callers, openapi, problems
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Input, ReadVerb, Verb, etag_of, execute, query

PREFIX = "/api/v1"
MAX_BODY_BYTES = 4 * 1024 * 1024  # a verb's input is words and numbers; files have their own way in


class Api:
    """An ASGI application over one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.posts: dict[str, Verb] = {path_of(v.name): v for v in kernel.house.verbs.values()}
        self.gets: dict[str, ReadVerb] = {path_of(r.name): r for r in kernel.house.reads.values()}
        self._document: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:  # the door: one of the two places that may catch everything
            known = problems.catalogued(error, request.state.request_id)
            language = callers.language_of(request)
            response = problems.response(known, request, house=self.kernel.house, language=language)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"].removeprefix(PREFIX).strip("/")
        if path == "openapi.json":
            return await anyio.to_thread.run_sync(self._openapi, request)
        if request.method == "POST" and (verb := self.posts.get(path)):
            body = await read_body(request)
            return await anyio.to_thread.run_sync(self._post, request, verb, body)
        if request.method in ("GET", "HEAD"):
            if read := self.gets.get(path):
                return await anyio.to_thread.run_sync(self._get, request, read, None)
            parent, _, key = path.rpartition("/")
            if read := self.gets.get(f"{parent}/{{key}}"):
                return await anyio.to_thread.run_sync(self._get, request, read, key)
        raise self._no_such(path)

    def _no_such(self, path: str) -> Refused:
        allow = [method for method, table in (("POST", self.posts), ("GET, HEAD", self.gets)) if path in table]
        parent = path.rpartition("/")[0]
        if not allow and f"{parent}/{{key}}" in self.gets:
            allow = ["GET, HEAD"]
        if allow:
            return Refused("web.method-not-allowed", path=f"{PREFIX}/{path}"[:200], allow=", ".join(allow))
        return Refused("web.route-unknown", path=f"{PREFIX}/{path}"[:200])

    def _post(self, request: Request, verb: Verb, body: bytes) -> Response:
        caller = callers.caller(request, callers.bearer(request, self.kernel))
        input = parse(verb.input, body)
        return self._respond(request, execute(self.kernel, verb, caller, input))

    def _get(self, request: Request, read: ReadVerb, key: str | None) -> Response:
        caller = callers.caller(request, callers.bearer(request, self.kernel))
        return self._respond(request, query(self.kernel, read, caller, parse_query(read.input, request, key)))

    def _respond(self, request: Request, output: Any) -> Response:
        headers = {"content-language": callers.language_of(request)}
        version = getattr(output, "version", None)
        if isinstance(version, int):
            headers["etag"] = etag_of(version)
            if request.method in ("GET", "HEAD") and request.headers.get("if-none-match") == headers["etag"]:
                return Response(status_code=304, headers=headers)
        return Response(output.model_dump_json(), media_type="application/json", headers=headers)

    def _openapi(self, _request: Request) -> Response:
        if self._document is None:
            self._document = orjson.dumps(openapi.document(self.kernel.house))
        return Response(self._document, media_type="application/json")


def path_of(name: str) -> str:
    """`hub:release:list` → `hub/release`, `hub:release:get` → `hub/release/{key}`, else the words joined."""
    room, noun, word = name.split(":")
    return {"list": f"{room}/{noun}", "get": f"{room}/{noun}/{{key}}"}.get(word, f"{room}/{noun}/{word}")


async def read_body(request: Request, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The request body, refused as soon as it is known to be too large."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise Refused("kernel.body-too-large", limit_bytes=limit_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise Refused("kernel.body-too-large", limit_bytes=limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def parse(model: type[Input], body: bytes) -> Input:
    """JSON to input. NUL is refused here, once: it is legal JSON, but no database column holds it."""
    if b"\\u0000" in body or b"\x00" in body:
        raise Refused("kernel.input-invalid", where="body", why="NUL")
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise problems.from_validation(error) from error


def parse_query(model: type[Input], request: Request, key: str | None) -> Input:
    """Query parameters (and the path's key) to input; `lang` belongs to the door."""
    values: dict[str, Any] = {}
    for name in request.query_params.keys():
        if name != "lang":
            many = request.query_params.getlist(name)
            values[name] = many if takes_many(model, name) else many[-1]
    if key is not None:
        values[key_field(model)] = key
    if any("\x00" in str(value) for value in values.values()):
        raise Refused("kernel.input-invalid", where="query", why="NUL")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise problems.from_validation(error) from error


def key_field(model: type[Input]) -> str:
    """The one field that a `get` is addressed by: its first."""
    return next(iter(model.model_fields))


def takes_many(model: type[Input], name: str) -> bool:
    field = model.model_fields.get(name)
    return field is not None and typing.get_origin(field.annotation) in (list, tuple, set, frozenset)
