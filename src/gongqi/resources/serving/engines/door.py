"""OpenAI's API on the socket of an engine: a bare ASGI callable, heard by the gateway of this home and by nobody else.

Who calls, what they may and what it costs the gateway has seen to. What is checked here is what only the model can say
of a request. Refusals have the shape that OpenAI's clients know, in both languages, and the gateway passes them on.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from gongqi.kernel.errors import Broken, GongqiError, Refused, Unavailable
from gongqi.kernel.words import Words
from gongqi.resources.serving.plane import openai
from gongqi.resources.serving.plane.bodies import Bodies
from gongqi.resources.serving.plane.dialect import OUTPUT_BOUND, headers_of, problem_of

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

log = structlog.get_logger("gongqi.serving.engine")


class Visit:
    """One request: its body, its one answer, or its stream. `output_tokens`: the most that the gateway has set aside
    for, 0 where it does not say."""

    __slots__ = ("_receive", "_send", "body", "has_begun", "output_tokens", "path")

    def __init__(self, path: str, body: bytes, receive: Receive, send: Send, *, output_tokens: int = 0) -> None:
        self.path = path
        self.body = body
        self.output_tokens = output_tokens
        self.has_begun = False
        self._receive = receive
        self._send = send

    async def answer(self, document: bytes, status: int = 200, retry_after_seconds: int | None = None) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(document))]
        if retry_after_seconds is not None:
            headers.append((b"retry-after", b"%d" % retry_after_seconds))
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": document})

    async def event(self, document: bytes) -> None:
        """One event of a stream; the first begins it."""
        if not self.has_begun:
            self.has_begun = True
            headers = [(b"content-type", b"text/event-stream")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"data: %s\n\n" % document, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def leaving(self) -> None:
        """Returns when the caller has hung up: the whole request has been received, so nothing else can come."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Engine(Protocol):
    """`waiting`: how much waits. `since`: when the run under way began, None when there is none. `done`: how many runs there
    were, and rows in all of them."""

    paths: tuple[str, ...]

    @property
    def waiting(self) -> int: ...
    @property
    def since(self) -> float | None: ...
    @property
    def done(self) -> tuple[int, int]: ...

    async def attend(self, visit: Visit) -> None:
        """Answer. Raises what the caller is to be told."""
        ...


class Door:
    def __init__(self, engine: Engine, words: Words, clock: Callable[[], float]) -> None:
        self.bodies = Bodies(clock)
        self._engine = engine
        self._words = words

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        visit = Visit(scope["path"], b"", receive, send, output_tokens=int(headers.get(OUTPUT_BOUND, 0)))
        try:
            if visit.path not in self._engine.paths:
                raise Refused("serving.path-unknown", path=visit.path[:100])
            if scope["method"] != "POST":
                raise Refused("serving.method-not-allowed", method=scope["method"][:20], path=visit.path)
            visit.body = await self.bodies.read(headers, receive)
            try:
                await self._engine.attend(visit)
            finally:
                self.bodies.free(len(visit.body))
        except Exception as error:  # the door
            if visit.has_begun:
                raise  # what breaks off is cut, and the gateway says so
            await self._refuse(visit, error)

    async def _refuse(self, visit: Visit, error: Exception) -> None:
        if not isinstance(error, GongqiError):
            log.error("unforeseen", exc_info=error)
            error = Broken("kernel.broken")
        elif error.detail:
            log.warning("a run failed", code=error.code, detail=error.detail)
        status, document = openai.refusal(problem_of(self._words, error, "en", secrets.token_hex(8)))
        wait = error.retry_after_seconds if isinstance(error, Unavailable) else None
        await visit.answer(document, status, wait)
