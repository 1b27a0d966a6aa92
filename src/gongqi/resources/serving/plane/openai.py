"""OpenAI's chat completions, completions and embeddings: to servers that speak the same bytes pass as they come; to
servers that speak Anthropic's Messages chat is translated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import orjson

from gongqi.resources.serving.metering import Tokens
from gongqi.resources.serving.plane import request, stream
from gongqi.resources.serving.plane.chat_as_messages import ChatAsMessages
from gongqi.resources.serving.plane.dialect import Answered, Dialect, Manners, Problem, Way

SPEAKERS = ("openai", "openai-responses")  # the second also speaks the Responses API
TYPES = {  # what OpenAI's clients tell errors apart by
    400: "invalid_request_error", 401: "authentication_error", 402: "insufficient_quota", 403: "permission_error",
    404: "not_found_error", 409: "conflict_error", 413: "invalid_request_error", 422: "invalid_request_error",
    429: "rate_limit_error",
}  # fmt: skip


class Passage:
    """A way on which only the model's name and the wish for usage change."""

    __slots__ = ("_asked", "_body", "path")
    fields = b""

    def __init__(self, path: bytes, asked: request.Asked, body: bytes, _call: str, _bound: Tokens) -> None:
        self.path = path
        self._asked = asked
        self._body = body

    def forwarded(self, model: str) -> bytes:
        return request.forwarded(self._asked, self._body, model, wants_usage=bool(self._asked.stream))

    def answered(self, body: bytes) -> Answered:
        return Answered(body, stream.usage_of(body))

    def events(self) -> stream.Events:
        options = self._asked.stream_options
        return stream.Events(keeps_usage=isinstance(options, request.StreamOptions) and bool(options.include_usage))

    def turned_down(self, status: int, body: bytes) -> bytes:
        return body


def refusal(problem: Problem) -> tuple[int, bytes]:
    return problem.status, _document(problem)


def broken_off(problem: Problem) -> bytes:
    return b"data: %s\n\n" % _document(problem)


def _document(problem: Problem) -> bytes:
    kind = TYPES.get(problem.status, "api_error")
    told = {"message": problem.message, "type": kind, "param": None, "code": problem.code}
    return orjson.dumps({"error": told | {"localized": problem.localized}})


MANNERS = Manners(refusal, broken_off)


def _dialect(kind: str, path: bytes, **ways: Callable[[request.Asked, bytes, str, Tokens], Way]) -> Dialect:
    way = partial(Passage, path)
    return Dialect(kind, request.read, request.bound, {**dict.fromkeys(SPEAKERS, way), **ways}, MANNERS)


CHAT = _dialect("chat", b"/v1/chat/completions", anthropic=ChatAsMessages)
COMPLETIONS = _dialect("completions", b"/v1/completions")
EMBEDDINGS = _dialect("embeddings", b"/v1/embeddings")
