"""Anthropic's Messages: to servers that speak it bytes pass; to servers that speak OpenAI's chat they are translated.

(platform.claude.com/docs/en/api: messages, messages-streaming, messages-count-tokens, errors.) The key comes as
`x-api-key` or as bearer. Tokens are counted as Anthropic reports them: what it read from its prompt cache is cached input,
what it wrote there is input. Counting a prompt's tokens costs nothing; where no server of the model can count them they
are estimated, and the answer says so.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import NONE, Tokens, estimated_tokens
from gongqi.resources.serving.plane import messages, openai, request, stream
from gongqi.resources.serving.plane.dialect import Answered, Dialect, Headers, Manners, Problem
from gongqi.resources.serving.plane.messages_as_chat import MessagesAsChat
from gongqi.resources.serving.plane.snapshot import Route

SPEAKER = "anthropic"
VERSION = "2023-06-01"
TOOLS_TOKENS = 1024  # what a prompt with tools holds beside its own bytes: Anthropic adds up to some 700
PICTURE_TOKENS = 1600  # of one picture, when they are estimated: the most that Anthropic counts for one
_NOT_TEXT = (b'"image"', b'"document"', b'"container_upload"')
_BETA = re.compile(rb"[A-Za-z0-9][A-Za-z0-9,. _-]{0,499}")
TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error",
    413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error",
    504: "timeout_error",
}  # fmt: skip
OVERLOADED = 529  # the status that Anthropic's clients know for "try again later"


class Body(msgspec.Struct):
    """What is read of a request."""

    model: str
    max_tokens: int = -1
    stream: bool | None = None


class Asked(NamedTuple):
    """And the caller's header `anthropic-beta`."""

    model: str
    max_tokens: int
    stream: bool | None
    beta: bytes


_decoder = msgspec.json.Decoder(Body)


def read(body: bytes, headers: Headers) -> Asked:
    """Raises Refused serving.request-unreadable."""
    asked = read_count(body, headers)
    if asked.max_tokens < 0:
        raise Refused("serving.request-unreadable", why="max_tokens")
    return asked


def read_count(body: bytes, headers: Headers) -> Asked:
    request.require_once(body)
    asked = request.decoded(_decoder, body)
    return Asked(asked.model, asked.max_tokens, asked.stream, headers.get(b"anthropic-beta", b""))


def bound(asked: Asked, body: bytes, route: Route) -> Tokens:
    prompt = request.prompt_bound(body, route, _NOT_TEXT)
    if b'"tools"' in body:
        prompt = min(prompt + TOOLS_TOKENS, route.context_tokens)
    return Tokens(prompt, 0, request.output_bound(asked.max_tokens, route))


# ---- to servers that speak it


class Passage:
    """A way on which only the model's name changes."""

    __slots__ = ("_asked", "_body", "fields", "path")

    def __init__(self, path: bytes, asked: Asked, body: bytes, _call: str, _bound: Tokens) -> None:
        self.path = path
        self._asked = asked
        self._body = body
        self.fields = b"anthropic-beta: %s\r\n" % asked.beta if _BETA.fullmatch(asked.beta) else b""

    def forwarded(self, model: str) -> bytes:
        return request.renamed(self._body, self._asked.model, model)

    def answered(self, body: bytes) -> Answered:
        told = messages.read(body)
        stream.require_answer(told.error, told.content)
        return Answered(body, None if told.usage is None else told.usage.tokens())

    def events(self) -> messages.Events:
        return messages.Events()

    def turned_down(self, status: int, body: bytes) -> bytes:
        return body


class Counting(Passage):
    """The count of a prompt, which costs nothing."""

    __slots__ = ()

    def answered(self, body: bytes) -> Answered:
        stream.require_answer(messages.read(body).error)
        return Answered(body, NONE)


# ---- how it fails


def refusal(problem: Problem) -> tuple[int, bytes]:
    status = OVERLOADED if problem.status == 503 else problem.status
    return status, orjson.dumps(_document(problem))


def broken_off(problem: Problem) -> bytes:
    return b"event: error\ndata: %s\n\n" % orjson.dumps(_document(problem))


def _document(problem: Problem) -> dict[str, Any]:
    details = {"error_code": problem.code, "localized": problem.localized}
    kind = TYPES.get(problem.status, "api_error")
    told = {"type": kind, "message": problem.message, "details": details}
    return {"type": "error", "error": told, "request_id": problem.call}


# ---- counting where nobody can be asked


def estimate(body: bytes) -> bytes:
    """The answer to a question for a prompt's tokens. Raises Refused serving.request-unreadable."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused("serving.request-unreadable", why=str(error)[:200]) from error
    text, pictures = _weigh([asked.get(part) for part in ("system", "messages", "tools")])
    tokens = max(1, estimated_tokens(text) + pictures * PICTURE_TOKENS)
    return orjson.dumps({"input_tokens": tokens, "estimated": True})


def _weigh(values: list[Any]) -> tuple[int, int]:
    """(bytes of text, pictures) in these; what a picture is made of counts as no text."""
    text = pictures = 0
    while values:
        value = values.pop()
        if isinstance(value, str):
            text += len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            if value.get("type") in ("image", "document"):
                pictures += 1
            else:
                values += value.values()
                text += sum(map(len, value)) if "input_schema" not in value else 0
    return text, pictures


MANNERS = Manners(refusal, broken_off, (b"x-request-id", b"request-id"))


def _passage(asked: Asked, body: bytes, call: str, bound: Tokens) -> Passage:
    return Passage(b"/v1/messages", asked, body, call, bound)


def _counting(asked: Asked, body: bytes, call: str, bound: Tokens) -> Passage:
    return Counting(b"/v1/messages/count_tokens", asked, body, call, bound)


MESSAGES = Dialect("chat", read, bound, {SPEAKER: _passage, **dict.fromkeys(openai.SPEAKERS, MessagesAsChat)}, MANNERS)
COUNT_TOKENS = Dialect("chat", read_count, lambda *_: NONE, {SPEAKER: _counting}, MANNERS, alone=estimate)
