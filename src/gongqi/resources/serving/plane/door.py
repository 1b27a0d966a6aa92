"""The data plane's ASGI callable: `/v1/*` as OpenAI's and Anthropic's clients know it, and for virtual keys the models of
`/v2/*` as those of the Open Inference Protocol do.

Who calls is told by the SHA-256 of the key it shows. A refusal comes before anything is forwarded, in the shape that the
clients of the address read, with the words of our catalogue in the caller's language and both languages beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import orjson
import structlog

from gongqi.kernel.errors import Broken, GongqiError, Refused, Unavailable
from gongqi.kernel.words import negotiate, tag
from gongqi.resources.serving import metering
from gongqi.resources.serving.plane import anthropic, inference, openai, opinions, request, responses
from gongqi.resources.serving.plane.cache import Search
from gongqi.resources.serving.plane.call import Call, Receive, Send
from gongqi.resources.serving.plane.dialect import Dialect, Headers, Lines, Manners, headers_of
from gongqi.resources.serving.plane.process import Plane
from gongqi.resources.serving.plane.retries import Named
from gongqi.resources.serving.plane.snapshot import KEY, Key
from gongqi.resources.serving.plane.terms import Terms, entry_of, offered

PREFIX = "/v1/"
INFERENCE_PREFIX = "/v2"
MAX_CALLS = 1024  # under way at once in this process; each holds a body and a connection

DIALECTS = {
    "/v1/chat/completions": openai.CHAT,
    "/v1/completions": openai.COMPLETIONS,
    "/v1/embeddings": openai.EMBEDDINGS,
    responses.PATH: responses.RESPONSES,
    "/v1/messages": anthropic.MESSAGES,
    "/v1/messages/count_tokens": anthropic.COUNT_TOKENS,
}

_SECRET = KEY.encode()
log = structlog.get_logger("gongqi.serving.door")


def is_ours(scope: dict[str, Any]) -> bool:
    """Whether a request is one for the plane, where others share the port."""
    path = scope["path"]
    if path.startswith(INFERENCE_PREFIX):
        return (_secret(headers_of(scope)) or b"").strip().startswith(_SECRET)
    return path.startswith(PREFIX)


def _secret(headers: Headers) -> bytes | None:
    """What is shown as bearer, or else as `x-api-key`."""
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        return headers.get(b"x-api-key")
    return secret


def _dialect_at(path: str) -> Dialect | None:
    found = DIALECTS.get(path)
    return inference.INFER if found is None and inference.is_asked(path) else found


class Visit:
    """One request at the door. `call`: what it has come to, once it is forwarded."""

    __slots__ = ("call", "headers", "id", "receive", "scope", "send")

    def __init__(self, id: str, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.id = id
        self.scope = scope
        self.headers: Headers = headers_of(scope)
        self.receive = receive
        self.send = send
        self.call: Call | None = None

    @property
    def language(self) -> str:
        accepted = self.headers.get(b"accept-language")
        return negotiate(accepted.decode("latin-1") if accepted else None)

    def all_of(self, name: bytes) -> bytes:
        """What a header says that may be given in several lines (RFC 9110, 5.3)."""
        return b",".join([value for given, value in self.scope["headers"] if given == name])

    @property
    def manners(self) -> Manners:
        """How it is answered: in the API of the address, or where several share one, of its client."""
        path = self.scope["path"]
        if (dialect := DIALECTS.get(path)) is not None:
            return dialect.manners
        if path.startswith(INFERENCE_PREFIX):
            return inference.MANNERS
        is_anthropic = path.startswith("/v1/messages") or b"anthropic-version" in self.headers
        return anthropic.MANNERS if is_anthropic else openai.MANNERS

    async def answer(self, body: bytes, status: int = 200, more: Lines = ()) -> None:
        headers = [*self.manners.headers(self.id, b"application/json", len(body)), *more]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class Door:
    """What ASGI calls."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self._count = 0
        self._mark = secrets.token_hex(4)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._count = count = self._count + 1
        visit = Visit(f"gen_{time.time_ns() // 1_000_000:012x}{self._mark}{count:08x}", scope, receive, send)
        try:
            await self._answer(visit)
        except Exception as error:  # the door
            if visit.call is not None and visit.call.has_begun_answer:
                log.error("a call broke after its answer had begun", call=visit.id, exc_info=error)
                raise
            await self._refuse(visit, error)

    async def _answer(self, visit: Visit) -> None:
        path, method = visit.scope["path"], visit.scope["method"]
        if method == "GET" and path in inference.ABOUT:
            await visit.answer(orjson.dumps(inference.ABOUT[path]))
            return
        key = self._key(visit.headers)
        dialect = _dialect_at(path)
        if dialect is not None and method == "POST":
            await self._complete(visit, key, dialect)
        elif method == "GET" and path == "/v1/models":
            await visit.answer(self._list(key))
        elif method == "GET" and path.startswith("/v1/models/"):
            snapshot = self.plane.snapshot
            await visit.answer(entry_of(snapshot, key, offered(snapshot, key, path.removeprefix("/v1/models/"))))
        elif path.startswith(responses.PATH + "/"):
            await visit.answer(await self._counted(key, responses.of_kept, self.plane.control, key, method, path))
        elif method == "GET" and path == "/v1/usage":
            await visit.answer(await self._counted(key, self._usage, visit, key))
        elif method == "POST" and path == opinions.PATH:
            await visit.answer(await self._counted(key, self._feedback, visit, key), 202)
        elif method == "GET" and path.startswith(inference.MODELS) and dialect is None:
            await visit.answer(await self._counted(key, inference.look, self.plane, key, path))
        elif dialect is not None or path in ("/v1/models", "/v1/usage", opinions.PATH):
            raise Refused("serving.method-not-allowed", method=method[:20], path=path[:100])
        else:
            raise Refused("serving.path-unknown", path=path[:100])

    async def _complete(self, visit: Visit, key: Key, dialect: Dialect) -> None:
        plane = self.plane
        if plane.bodies.coming + plane.spool.under_way >= MAX_CALLS:
            raise Unavailable("serving.plane-full")
        if plane.spool.is_full:
            raise Unavailable("serving.spool-full", retry_after_seconds=5)
        body = await plane.bodies.read(visit.headers, visit.receive)
        try:
            named = plane.retries.named(key, visit.headers, visit.scope["path"], body, visit.id)
            if named is None or (answer := plane.retries.before(named)) is None:
                await self._call(visit, key, dialect, body, named)
                return
            for message in answer:
                await visit.send(message)
        finally:
            plane.bodies.free(len(body))

    async def _call(self, visit: Visit, key: Key, dialect: Dialect, body: bytes, named: Named | None) -> None:
        plane = self.plane
        asked = dialect.read(body, visit.headers)
        path = visit.scope["path"]
        terms = plane.terms(key, path, dialect, asked.model if dialect.named is None else dialect.named(path))
        route = terms.route
        gauge = plane.limits.enter(key) or await plane.limits.wait_to_enter(key)
        plane.spool.under_way += 1
        taken = used = 0
        send = visit.send
        try:
            search = None
            if terms.place is not None and named is None:
                search = plane.cache.search(terms, visit.headers, visit.all_of(b"cache-control"), asked, body)
                if search is not None:
                    if search.entry is not None:
                        if key.id not in plane.snapshot.key_ids:  # revoked while the request came
                            raise Refused("serving.key-invalid")
                        await self._again(visit, terms, search)
                        return
                    send = search.recording(send)
            if dialect.recalled is not None:
                body = await dialect.recalled(plane.control, key, asked, body)
            if dialect.alone is not None and not route.targets:
                await visit.answer(dialect.alone(body))
                return
            bound = dialect.bound(asked, body, route)
            reserved = metering.reserve(bound, route.tariff)
            prompt = min(request.prompt_estimate(body), bound.input)
            expected = prompt + bound.output
            if not plane.limits.take(gauge, expected):
                await plane.limits.wait_to_take(gauge, expected)
            taken = expected
            if named is not None:
                await plane.retries.claim(named)
                send = named.recording(send)
            held = None
            if reserved:
                unit = route.tariff.unit
                held = plane.purses.take(key, unit, reserved, terms.aid)
                if held is None:
                    held = await plane.purses.wait(key, unit, reserved, terms.aid)
            call = visit.call = Call(
                plane, terms, id=visit.id, asked=asked, body=body, bound=bound, prompt=prompt, reserved=reserved,
                held=held, receive=visit.receive,
            )  # fmt: skip
            plane.calls.add(call)
            try:
                await call.run(send)
                if search is not None:
                    plane.cache.keep(search, call)
                if terms.mirror is not None and call.ending == metering.COMPLETE:
                    plane.shadows.offer(terms.mirror, call.echo())
            finally:
                if call.watcher is not None:
                    call.watcher.cancel()
                plane.calls.discard(call)
                tokens = call.charge.tokens
                used = tokens.input + tokens.output
                if search is not None:
                    search.drop()
        finally:
            plane.spool.under_way -= 1
            plane.limits.leave(gauge, taken, used)
            if named is not None:
                await plane.retries.over(named, visit.call)

    async def _again(self, visit: Visit, terms: Terms, search: Search) -> None:
        """Give an answer again that is kept. It costs nothing, and is on record like any."""
        plane, entry = self.plane, search.entry
        assert entry is not None, "it was found"
        now, tariff = time.time_ns() // 1000, terms.route.tariff
        terms.meter.again += 1
        plane.spool.add(
            [
                "e", visit.id, *terms.whose, None, metering.COMPLETE, now, 0, None, 0, *metering.NONE, False, False,
                *terms.price, 0, None, terms.version, tariff.tier, entry.call, 0,
            ]
        )  # fmt: skip
        plane.spool.write()
        headers = terms.dialect.manners.headers(visit.id, entry.kind, len(entry.body))
        headers += search.headers(plane.now())
        await visit.send({"type": "http.response.start", "status": 200, "headers": headers})
        await visit.send({"type": "http.response.body", "body": entry.body})

    # ---- who and what

    def _key(self, headers: Headers) -> Key:
        """Raises Refused: serving.key-needed, serving.key-invalid."""
        secret = _secret(headers)
        if secret is None:
            raise Refused("serving.key-needed")
        key = self.plane.snapshot.keys.get(sha256(secret.strip()).digest())
        if key is None or key.expires_at <= time.time():
            raise Refused("serving.key-invalid")
        return key

    def _list(self, key: Key) -> bytes:
        """All models of this key in one page, as both OpenAI's and Anthropic's clients read it."""
        snapshot = self.plane.snapshot
        routes = [each for each in snapshot.offered(key).values() if key.routes is None or each.id in key.routes]
        first, last = (orjson.dumps(routes[place].name) if routes else b"null" for place in (0, -1))
        form = b'{"object":"list","data":[%s],"has_more":false,"first_id":%s,"last_id":%s}'
        return form % (b",".join(entry_of(snapshot, key, route) for route in routes), first, last)

    async def _counted(self, key: Key, look: Callable[..., Awaitable[bytes]], *given: Any) -> bytes:
        """What asks the database counts as a call."""
        limits = self.plane.limits
        gauge = limits.enter(key) or await limits.wait_to_enter(key)
        try:
            return await look(*given)
        finally:
            limits.leave(gauge, 0, 0)

    async def _usage(self, visit: Visit, key: Key) -> bytes:
        """What was charged, and why: one call (`?id=`) or the latest of this key."""
        query = visit.scope.get("query_string", b"")
        wanted = query[3:].decode("ascii", "replace")[:64] if query.startswith(b"id=") else None
        document = await asyncio.to_thread(self.plane.control.explain, key.id, wanted, visit.language)
        return orjson.dumps(document)

    async def _feedback(self, visit: Visit, key: Key) -> bytes:
        """What the caller says of an answer it got."""
        bodies = self.plane.bodies
        if bodies.coming + self.plane.spool.under_way >= MAX_CALLS:
            raise Unavailable("serving.plane-full")
        body = await bodies.read(visit.headers, visit.receive, limit_bytes=opinions.MAX_BYTES)
        try:
            received = await asyncio.to_thread(self.plane.control.receive, key.id, opinions.read(body))
        finally:
            bodies.free(len(body))
        return orjson.dumps(received)

    async def _refuse(self, visit: Visit, error: Exception) -> None:
        if not isinstance(error, GongqiError):
            log.error("unforeseen", call=visit.id, exc_info=error)
            error = Broken("kernel.broken")
        if error.code == "serving.caller-left":
            log.info("the caller left", call=visit.id)
        self.plane.meters.refused(error.code)
        problem = self.plane.problem(error, visit.language, visit.id)
        more = [(b"content-language", tag(visit.language).encode())]
        if isinstance(error, Unavailable):
            more.append((b"retry-after", b"%d" % error.retry_after_seconds))
        if problem.status == 401:
            more.append((b"www-authenticate", b'Bearer realm="gongqi"'))
        with contextlib.suppress(OSError):
            status, body = visit.manners.refusal(problem)
            await visit.answer(body, status, more)
