"""The data plane's ASGI callable: `/v1/*` as OpenAI's clients know it.

`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models` and `/v1/usage`. Who calls is told by the
SHA-256 of the key it shows. A refusal comes before anything is forwarded, in the shape that OpenAI's clients read, with
the words of our catalogue in the caller's language and both languages beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import structlog

from gongqi.kernel.errors import Broken, GongqiError, Refused, Unavailable
from gongqi.kernel.words import LANGUAGES, Words, negotiate, tag
from gongqi.resources.serving import metering
from gongqi.resources.serving.plane import anthropic, openai, request, responses
from gongqi.resources.serving.plane.bodies import Bodies
from gongqi.resources.serving.plane.call import Call, Receive, Send
from gongqi.resources.serving.plane.dialect import Dialect, Manners, Problem
from gongqi.resources.serving.plane.health import Health
from gongqi.resources.serving.plane.limits import Limits
from gongqi.resources.serving.plane.pool import TOTAL_SECONDS, Pool
from gongqi.resources.serving.plane.purse import Purses
from gongqi.resources.serving.plane.retries import Retries
from gongqi.resources.serving.plane.snapshot import EMPTY, Control, Key, Route, Server, Snapshot
from gongqi.resources.serving.plane.spool import LIMIT_BYTES, Spool

PREFIX = "/v1/"
MAX_CALLS = 1024  # under way at once in this process; each holds a body and a connection
TICK_SECONDS = 0.05  # how often what waits is written, and time-outs are looked for; most calls end within one
LOOK_SECONDS = 0.5  # how often the version is asked for: a revoked key stops within a second
ANEW_LOOKS = 20  # after which all is read anew: an organisation may have been suspended, a credential changed
SEND_SECONDS = 60.0  # a caller that does not read for so long has left
SLOW_TICKS = 20  # ticks between two rounds of what need not be quick

DIALECTS = {
    "/v1/chat/completions": openai.CHAT,
    "/v1/completions": openai.COMPLETIONS,
    "/v1/embeddings": openai.EMBEDDINGS,
    responses.PATH: responses.RESPONSES,
    "/v1/messages": anthropic.MESSAGES,
    "/v1/messages/count_tokens": anthropic.COUNT_TOKENS,
}
_PLAIN = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]

log = structlog.get_logger("gongqi.serving.plane")
Headers = list[tuple[bytes, bytes]]


class Plane:
    """The data plane of one process. `start` within the event loop that serves; `close` before that loop ends."""

    def __init__(
        self, name: str, control: Control, words: Words, root: Path, *, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self.name = name
        self.snapshot = EMPTY
        self.now = time.monotonic
        self.calls: set[Call] = set()
        self.bodies = Bodies(self.now)
        self.limits = Limits()
        self.health = Health()
        self.retries = Retries(control, self.now)
        self.control = control
        self._root = root
        self._limit_bytes = limit_bytes
        self._words = words
        self._heads: dict[tuple[str, bytes], bytes] = {}
        self._count = 0
        self._mark = secrets.token_hex(4)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = Pool(self.loop, self.now)
        self.spool = Spool(self._root, self.name, limit_bytes=self._limit_bytes)
        self.purses = Purses(self.name, self.control, self.spool, self.now)
        await self._look()
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._watch_version())]

    def _forget(self, segment: int) -> None:
        """Delete what is settled, but for what the calls under way began in: there they are looked for after a death."""
        self.spool.forget(min([segment, *(call.segment for call in self.calls)]))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.purses.close()
        self.pool.close()
        self.spool.close()

    # ---- ASGI

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._count = count = self._count + 1
        id = f"gen_{time.time_ns() // 1_000_000:012x}{self._mark}{count:08x}"
        call_or_none: list[Call] = []
        try:
            await self._answer(scope, receive, send, id, call_or_none)
        except Exception as error:  # the door
            if call_or_none and call_or_none[0].has_begun_answer:
                log.error("a call broke after its answer had begun", call=id, exc_info=error)
                raise
            await self._refuse(scope, send, id, error)

    async def _answer(self, scope: dict[str, Any], receive: Receive, send: Send, id: str, begun: list[Call]) -> None:
        path, method = scope["path"], scope["method"]
        key = self._key(scope["headers"])
        dialect = DIALECTS.get(path)
        if dialect is not None and method == "POST":
            await self._complete(scope, receive, send, id, key, dialect, begun)
        elif method == "GET" and path == "/v1/models":
            await self._json(send, id, self._list(key))
        elif method == "GET" and path.startswith("/v1/models/"):
            await self._json(send, id, self._route(path.removeprefix("/v1/models/"), key).entry)
        elif path.startswith(responses.PATH + "/"):
            await self._json(send, id, await responses.of_kept(self.control, key, method, path))
        elif method == "GET" and path in ("/v1/usage",):
            await self._usage(scope, send, id, key)
        elif dialect is not None or path in ("/v1/models", "/v1/usage"):
            raise Refused("serving.method-not-allowed", method=method[:20], path=path[:100])
        else:
            raise Refused("serving.path-unknown", path=path[:100])

    async def _complete(
        self,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        id: str,
        key: Key,
        dialect: Dialect,
        begun: list[Call],
    ) -> None:
        if self.bodies.coming + self.spool.under_way >= MAX_CALLS:
            raise Unavailable("serving.plane-full")
        if self.spool.is_full:
            raise Unavailable("serving.spool-full", retry_after_seconds=5)
        body = await self.bodies.read(scope["headers"], receive)
        try:
            await self._admit(scope, receive, send, id, key, dialect, begun, body)
        finally:
            self.bodies.free(len(body))

    async def _admit(
        self,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        id: str,
        key: Key,
        dialect: Dialect,
        begun: list[Call],
        body: bytes,
    ) -> None:
        named = self.retries.named(key, scope["headers"], scope["path"], body, id)
        if named is not None and (answer := self.retries.before(named)) is not None:
            for message in answer:
                await send(message)
            return
        asked = dialect.read(body, scope["headers"])
        route = self._within_reach(dialect, self._route(asked.model, key))
        if dialect.recalled is not None:
            body = await dialect.recalled(self.control, key, asked, body)
        if dialect.alone is not None and not route.targets:
            await self._json(send, id, dialect.alone(body), names=dialect.manners.names)
            return
        bound = dialect.bound(asked, body, route)
        reserved = metering.reserve(bound, route.tariff)
        expected = min(request.prompt_estimate(body), bound.input) + bound.output
        gauge = self.limits.enter(key, expected, self.now())
        self.spool.under_way += 1
        used = 0
        call: Call | None = None
        try:
            if named is not None:
                await self.retries.claim(named)
                send = named.recording(send)
            held = self.purses.take(key, route.tariff.unit, reserved) if reserved else None
            if held is None and reserved:
                held = await self.purses.wait(key, route.tariff.unit, reserved)
            call = Call(
                self, id=id, key=key, route=route, dialect=dialect, asked=asked, body=body, bound=bound,
                reserved=reserved, held=held, receive=receive,
            )  # fmt: skip
            begun.append(call)
            self.calls.add(call)
            try:
                await call.run(send)
            finally:
                if call.watcher is not None:
                    call.watcher.cancel()
                self.calls.discard(call)
                used = call.charge.tokens.input + call.charge.tokens.output
        finally:
            self.spool.under_way -= 1
            self.limits.leave(gauge, expected, used)
            if named is not None:
                await self.retries.over(named, call)

    # ---- who and what

    def _key(self, headers: Headers) -> Key:
        """Raises Refused: serving.key-needed, serving.key-invalid."""
        for name, value in headers:
            if name == b"authorization":
                scheme, _, secret = value.partition(b" ")
                if scheme.lower() != b"bearer":
                    continue
            elif name == b"x-api-key":
                secret = value
            else:
                continue
            key = self.snapshot.keys.get(sha256(secret.strip()).digest())
            if key is None or key.expires_at <= time.time():
                raise Refused("serving.key-invalid")
            return key
        raise Refused("serving.key-needed")

    def _route(self, name: str, key: Key) -> Route:
        """Raises Refused serving.route-unknown, also for a model that the key may not use."""
        route = self.snapshot.routes.get(name)
        if route is None or (key.routes is not None and route.id not in key.routes):
            raise Refused("serving.route-unknown", model=name[:100])
        return route

    @staticmethod
    def _within_reach(dialect: Dialect, route: Route) -> Route:
        """The route, to those of its servers that this API has a way to. Raises Refused: serving.kind-differs,
        serving.api-unspoken."""
        if route.kind != dialect.kind and {route.kind, dialect.kind} != {"chat", "completions"}:
            raise Refused("serving.kind-differs", model=route.name, kind=route.kind)
        targets = tuple([target for target in route.targets if target.server.speaks in dialect.ways])
        if dialect.alone is not None:
            return replace(route, targets=targets, tariff=metering.free(route.tariff))
        if not targets:
            raise Refused("serving.api-unspoken", model=route.name)
        return route if len(targets) == len(route.targets) else replace(route, targets=targets)

    def _list(self, key: Key) -> bytes:
        """All models of this key in one page, as both OpenAI's and Anthropic's clients read it."""
        routes = [each for each in self.snapshot.routes.values() if key.routes is None or each.id in key.routes]
        first, last = (orjson.dumps(routes[place].name) if routes else b"null" for place in (0, -1))
        form = b'{"object":"list","data":[%s],"has_more":false,"first_id":%s,"last_id":%s}'
        return form % (b",".join(route.entry for route in routes), first, last)

    async def _usage(self, scope: dict[str, Any], send: Send, id: str, key: Key) -> None:
        """What was charged, and why: one call (`?id=`) or the latest of this key."""
        query = scope.get("query_string", b"")
        wanted = query[3:].decode("ascii", "replace")[:64] if query.startswith(b"id=") else None
        language = self._language(scope)
        document = await asyncio.to_thread(self.control.explain, key.id, wanted, language)
        await self._json(send, id, orjson.dumps(document))

    # ---- answers

    def head_of(self, server: Server, path: bytes) -> bytes:
        """The head of a request to this server, up to the number that is the length of its body."""
        head = self._heads.get((server.id, path))
        if head is None:
            host = f"[{server.host}]" if ":" in server.host else server.host
            lines = [
                f"POST {server.path}{path.decode().removeprefix('/v1')} HTTP/1.1", f"host: {host}:{server.port}",
                "content-type: application/json", "accept-encoding: identity", "user-agent: gongqi",
            ]  # fmt: skip
            is_anthropic = server.speaks == anthropic.SPEAKER
            if is_anthropic:
                lines.append(f"anthropic-version: {anthropic.VERSION}")
            if server.credential:
                lines.append(f"{'x-api-key:' if is_anthropic else 'authorization: Bearer'} {server.credential}")
            head = self._heads[(server.id, path)] = ("\r\n".join(lines) + "\r\ncontent-length: ").encode()
        return head

    def headers(self, id: str, kind: bytes, length: int | None, names: tuple[bytes, ...]) -> Headers:
        given = [(b"content-type", kind), *((name, id.encode()) for name in names), *_PLAIN]
        if length is not None:
            given.append((b"content-length", b"%d" % length))
        return given

    def broken_off(self, manners: Manners, route: Route, ending: str, id: str) -> bytes:
        """The last event of an answer that did not come to its end."""
        error = Unavailable("serving.broken-off", model=route.name, ending=ending)
        return manners.broken_off(self._problem(error, 502, "en", id))

    async def _json(
        self, send: Send, id: str, body: bytes, status: int = 200, more: Headers | None = None,
        names: tuple[bytes, ...] = openai.MANNERS.names,
    ) -> None:  # fmt: skip
        headers = self.headers(id, b"application/json", len(body), names) + (more or [])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _refuse(self, scope: dict[str, Any], send: Send, id: str, error: Exception) -> None:
        if not isinstance(error, GongqiError):
            log.error("unforeseen", call=id, exc_info=error)
            error = Broken("kernel.broken")
        if error.code == "serving.caller-left":
            log.info("the caller left", call=id)
        language = self._language(scope)
        status, _, _ = self._words.error(error, language)
        more = [(b"content-language", tag(language).encode())]
        if isinstance(error, Unavailable):
            more.append((b"retry-after", b"%d" % error.retry_after_seconds))
        if status == 401:
            more.append((b"www-authenticate", b'Bearer realm="gongqi"'))
        with contextlib.suppress(OSError):
            manners = _manners(scope)
            status, body = manners.refusal(self._problem(error, status, language, id))
            await self._json(send, id, body, status, more, manners.names)

    def _problem(self, error: GongqiError, status: int, language: str, id: str) -> Problem:
        localized = {}
        for each in LANGUAGES:
            _, message, remedy = self._words.error(error, each)
            localized[each] = {"message": message, "remedy": remedy}
        text = localized[language]
        return Problem(status, error.code, f"{text['message']} {text['remedy']}", localized, id)

    @staticmethod
    def _language(scope: dict[str, Any]) -> str:
        accepted = next((value for name, value in scope["headers"] if name == b"accept-language"), None)
        return negotiate(accepted.decode("latin-1") if accepted else None)

    # ---- its clocks

    async def _tick(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            count += 1
            try:
                self._turn(count, self.now())
            except Exception as error:  # a clock that stops would stop every time-out
                log.error("the plane's clock missed a turn", exc_info=error)

    def _turn(self, count: int, now: float) -> None:
        for call in self.calls:
            if call.watcher is None and now - call.began > TICK_SECONDS:
                call.outlast()
        self.spool.write()
        self.bodies.tick(now)
        if count % 5 == 0:
            self.pool.tick(now)
            self._end_stuck(now)
        if count % SLOW_TICKS == 0:
            self.purses.return_idle(now)
            self.limits.forget_idle(now)
            self.retries.forget_old(now)

    def _end_stuck(self, now: float) -> None:
        moment = time.time()
        for call in list(self.calls):
            if call.key.expires_at <= moment:
                call.stop(metering.KEY_REVOKED)
            stuck = call.sending_since and now - call.sending_since > SEND_SECONDS
            if (stuck or now - call.began > TOTAL_SECONDS + SEND_SECONDS) and call.task is not None:
                call.stop(metering.CLIENT_GONE)
                call.task.cancel()

    async def _watch_version(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            count += 1
            try:
                await self._look(anew=count % ANEW_LOOKS == 0)
            except Exception as error:  # the database is away: go by what is known
                log.warning("the control plane cannot be asked", error=repr(error))

    async def _look(self, *, anew: bool = False) -> None:
        if anew or await asyncio.to_thread(self.control.version) != self.snapshot.version:
            self.swap(await asyncio.to_thread(self.control.snapshot))
        if self.spool.has_older:
            self._forget(await asyncio.to_thread(self.control.settled, self.name))

    def swap(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._heads.clear()
        for call in list(self.calls):
            if call.key.id not in snapshot.key_ids:
                call.stop(metering.KEY_REVOKED)


def _manners(scope: dict[str, Any]) -> Manners:
    """How the caller is told that it is refused: in the API of the address, or where several share one, of its client."""
    if (dialect := DIALECTS.get(scope["path"])) is not None:
        return dialect.manners
    is_anthropic = scope["path"].startswith("/v1/messages") or any(
        name == b"anthropic-version" for name, _ in scope["headers"]
    )
    return anthropic.MANNERS if is_anthropic else openai.MANNERS
