"""A request at this door: what it names, and how it is answered when it cannot be.

Names in a path are taken from the path as it was sent: the client quotes slashes inside a branch's name and a folder's,
and only there is a quoted slash told from a plain one.

Errors carry what the client knows them by (`X-Error-Code`), one sentence, and our own problem document around it.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode

import anyio
import anyio.to_thread
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Endpoint, Kernel
from gongqi.kernel.verbs import Caller, Read, Verb, execute
from gongqi.resources.hub.addresses import asset_at
from gongqi.resources.hub.assets import AssetOut
from gongqi.resources.hub.browsing import Commit, commit_at
from gongqi.resources.hub.elsewhere.passing import passed_on
from gongqi.resources.hub.huggingface import forms
from gongqi.resources.hub.huggingface.limits import too_many
from gongqi.resources.hub.rules import MAIN

MAX_BODY_BYTES = 4 << 20  # 256 files announced with their first bytes take 250 kB
NAME = 250  # characters of a revision's name

UNKNOWN = "hub.address-unknown"
# Our code → what the client calls it. Whoever may not see a repository hears that there is none.
ERROR_CODES = {
    "hub.address-unknown": "RepoNotFound",
    "hub.asset-deleted": "RepoNotFound",
    "hub.kind-elsewhere": "RepoNotFound",
    "hub.ref-unknown": "RevisionNotFound",
    "hub.file-absent": "EntryNotFound",
    "hub.asset-gated": "GatedRepo",
    "hub.asset-gated-sign-in": "GatedRepo",
}
# What this protocol's clients expect: a condition that did not hold (RFC 9110 §15.5.13), a user who is not there.
STATUS = {"hub.revision-conflict": 412, "members.party-unknown": 404}

MAX_AT_ONCE = 16  # of the server's 40 threads; while clients have these, people still sign in

MAX_PASSED = 8  # that wait for another hub; they keep nobody else from being served

_turns = anyio.CapacityLimiter(MAX_AT_ONCE)
_passed = anyio.CapacityLimiter(MAX_PASSED)

T = TypeVar("T", bound="Body")
Handle = Callable[["Call"], Response]


class Body(BaseModel):
    """What a client sends as JSON. Clients send more than we read, so other members are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_max_length=100_000)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `kind` is that of the repositories its path is about, `body` what came with it, `ctx` the snapshot
    to look in when it shares one with others."""

    request: Request
    kernel: Kernel
    caller: Caller
    kind: str
    body: bytes
    ctx: Read | None = None

    def do(self, verb: Verb, **given: Any) -> Any:
        return execute(self.kernel, verb, self.caller, verb.input.model_validate(given))

    def look(self, work: Callable[[Read], Any]) -> Any:
        return work(self.ctx) if self.ctx else self.kernel.look(work, self.caller)

    def parse(self, model: type[T]) -> T:
        """The body. Raises Refused hub.hf-body-invalid."""
        return parsed(model, self.body)

    def repository(self, ctx: Read) -> AssetOut:
        """The asset that the path names, if it may be seen and is of this kind."""
        path = self.request.path_params
        return of_kind(asset_at(ctx, path["org"], path["slug"]), self.kind)

    def commit(self, ctx: Read, name: str) -> tuple[AssetOut, Commit]:
        asset = self.repository(ctx)
        return asset, commit_at(ctx, asset, name)

    def tail(self, word: str) -> list[str]:
        """What follows `word` in the path as it was sent, in parts, each unquoted."""
        parts = _sent(self.request).split("/")
        at = 3 + (self.kind == "dataset") if word == "resolve" else 5
        if parts[at : at + 1] != [word]:  # a quoted slash further up, where no name has one
            raise Refused("hub.address-unknown", address=forms.ascii_only("/".join(parts))[:128])
        return [_unquoted(part) for part in parts[at + 1 :]]

    def revision(self, word: str) -> str:
        """The revision that the path names after `word`, slashes and all."""
        return "/".join(self.tail(word))[:NAME] or MAIN

    def flag(self, name: str) -> bool:
        return self.request.query_params.get(name, "").lower() in ("1", "true")

    def next_page(self, **query: str) -> dict[str, str]:
        """The header that leads to the next page."""
        kept = [(name, value) for name, value in self.request.query_params.multi_items() if name not in query]
        address = f"{self.origin}{_sent(self.request)}?{urlencode([*kept, *query.items()])}"
        return {"link": f'<{address}>; rel="next"'}

    @property
    def origin(self) -> str:
        return f"{self.request.url.scheme}://{self.request.headers.get('host', '')}"


def endpoint(method: str, path: str, handle: Handle, *, kind: str = "model", group: str = "api") -> Endpoint:
    """A route whose work is done in a thread."""

    async def answer(call: Call) -> Response:
        return await anyio.to_thread.run_sync(handle, call, limiter=_turns)

    return streaming(method, path, answer, kind=kind, group=group, takes_body=method != "GET")


def question(path: str, handle: Handle, *, kind: str = "model", group: str = "api") -> Endpoint:
    """A route to what is answered at once, of a repository or of a file: many are asked in one snapshot. What is not here
    is asked again alone, since it may be far away."""

    def together(request: Request, ctx: Read) -> Response | None:
        if refusal := too_many(ctx.kernel, ctx.caller, group):
            return refusal
        call = Call(request, ctx.kernel, ctx.caller, kind, b"", ctx)
        try:
            return handle(call)
        except Refused as refused:
            return None if refused.code == UNKNOWN else refusal_of(call, refused)

    async def alone(request: Request) -> Response:
        call = Call(request, request.state.kernel, request.state.caller, kind, b"")
        try:
            return await anyio.to_thread.run_sync(handle, call, limiter=_turns)
        except Refused as refused:
            return await _refused(call, refused)

    return Endpoint("GET", path, alone, problem, together=together)


def streaming(
    method: str, path: str, handle: Callable[[Call], Awaitable[Response]], *, kind: str = "model", group: str = "api",
    takes_body: bool = False,
) -> Endpoint:  # fmt: skip
    """A route that reads the request's body itself, unless `takes_body`."""

    @functools.wraps(handle)
    async def answer(request: Request) -> Response:
        kernel, caller = request.state.kernel, request.state.caller
        if refusal := too_many(kernel, caller, group):
            return refusal
        call = Call(request, kernel, caller, kind, b"")
        try:
            if takes_body:
                call = Call(request, kernel, caller, kind, await read_body(request, MAX_BODY_BYTES))
            return await handle(call)
        except Refused as refused:
            return await _refused(call, refused)

    return Endpoint(method, path, answer, problem)


async def _refused(call: Call, refused: Refused) -> Response:
    if refused.code != UNKNOWN:
        return refusal_of(call, refused)
    try:  # what is not here may be at the hub that this one stands in for
        passed = await anyio.to_thread.run_sync(passed_on, call.request, call.kernel, call.kind, limiter=_passed)
    except Refused as theirs:
        return refusal_of(call, theirs)
    return passed or refusal_of(call, refused)


def problem(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error as this protocol's clients read it: a sentence under `error`."""
    return {"error": f"{document['detail']} {document['remedy']}", **document}


def refusal_of(call: Call, refused: Refused, headers: Mapping[str, str] | None = None) -> Response:
    if refused.code == "hub.asset-moved" and call.request.method in ("GET", "HEAD"):
        return _redirect(call, str(refused.params["to"]))
    words = call.kernel.house.words
    status, message, remedy = words.error(refused, call.caller.language)
    _, plain, plain_remedy = words.error(refused, "en")
    status = STATUS.get(refused.code, status)
    named = {"x-error-message": forms.ascii_only(f"{plain} {plain_remedy}"), **(headers or {})}
    if refused.code in ERROR_CODES:
        named["x-error-code"] = ERROR_CODES[refused.code]
    if status == 401:
        named["www-authenticate"] = 'Bearer realm="gongqi"'
    document = {"error": f"{message} {remedy}", "code": refused.code, "params": refused.params}
    return JSONResponse(document, status, named)


def _redirect(call: Call, to: str) -> Response:
    """The same address with the repository's new name in it (RFC 9110 §15.4.8)."""
    parts = _sent(call.request).split("/")
    at = 1 + (call.kind == "dataset") if "resolve" in parts[3:5] else 3
    parts[at : at + 2] = to.split("/")
    query = call.request.url.query
    return Response(status_code=307, headers={"location": "/".join(parts) + (f"?{query}" if query else "")})


def of_kind(asset: AssetOut, kind: str) -> AssetOut:
    """Raises Refused hub.kind-elsewhere."""
    if asset.kind != kind:
        raise Refused("hub.kind-elsewhere", kind=asset.kind, wanted=kind)
    return asset


def parsed(model: type[T], body: bytes) -> T:
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Refused("hub.hf-body-invalid", where=where[:100], why=first["msg"][:200]) from error


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body, refused as soon as it is too long. Raises Refused hub.hf-body-too-large."""
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        if len(held) > limit_bytes:
            raise Refused("hub.hf-body-too-large", limit_bytes=limit_bytes)
    return bytes(held)


def json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def _sent(request: Request) -> str:
    """The path as it was sent, without the query that some servers leave in it."""
    return request.scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")


def _unquoted(part: str) -> str:
    """Raises Refused hub.file-absent for what no name of ours can be."""
    try:
        name = unquote(part, errors="strict")
    except UnicodeDecodeError:
        name = "\0"
    if "\0" in name:
        raise Refused("hub.file-absent", path=forms.ascii_only(part)[:200])
    return name
