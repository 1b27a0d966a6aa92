"""Anthropic's Messages: to servers that speak it bytes pass; to servers that speak OpenAI's chat they are translated.

(platform.claude.com/docs/en/api: messages, messages-streaming, messages-count-tokens, errors.) The key comes as
`x-api-key` or as bearer. Tokens are counted as Anthropic reports them: what it read from its prompt cache is cached input,
what it wrote there is input. Counting a prompt's tokens costs nothing; where no server of the model can count them they
are estimated, and the answer says so.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import NONE, Tokens, estimated_tokens, sensible
from gongqi.resources.serving.plane import openai, request, stream
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


class Asked(msgspec.Struct):
    """What is read of a request. `beta` is the caller's header of that name."""

    model: str
    max_tokens: int = -1
    stream: bool | None = None
    beta: bytes = b""


_decoder = msgspec.json.Decoder(Asked)


def read(body: bytes, headers: Headers) -> Asked:
    """Raises Refused serving.request-unreadable."""
    asked = read_count(body, headers)
    if asked.max_tokens < 0:
        raise Refused("serving.request-unreadable", why="max_tokens")
    return asked


def read_count(body: bytes, headers: Headers) -> Asked:
    asked = request.decoded(_decoder, body)
    asked.beta = next((value for name, value in headers if name == b"anthropic-beta"), b"")
    return asked


def bound(asked: Asked, body: bytes, route: Route) -> Tokens:
    prompt = request.prompt_bound(body, route, _NOT_TEXT)
    if b'"tools"' in body:
        prompt = min(prompt + TOOLS_TOKENS, route.context_tokens)
    return Tokens(prompt, 0, request.output_bound(asked.max_tokens, route))


# ---- to servers that speak it


class Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None

    def over(self, earlier: Counts) -> Counts:
        """What is said later holds; what is not said again stays."""
        later = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(earlier, **later)

    def tokens(self) -> Tokens | None:
        if self.input_tokens is None or self.output_tokens is None:
            return None
        read, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        if self.input_tokens < 0 or read < 0 or written < 0:
            return None
        return sensible(self.input_tokens + read + written, read, self.output_tokens)


class Told(msgspec.Struct):
    """An answer, or one event of it."""

    type: str = ""
    usage: Counts | None = None
    message: Told | None = None


_told = msgspec.json.Decoder(Told)


class Passage:
    """A way on which only the model's name changes."""

    __slots__ = ("_asked", "_body", "fields", "path")

    def __init__(self, path: bytes, asked: Asked, body: bytes, _call: str) -> None:
        self.path = path
        self._asked = asked
        self._body = body
        self.fields = b"anthropic-beta: %s\r\n" % asked.beta if _BETA.fullmatch(asked.beta) else b""

    def forwarded(self, model: str) -> bytes:
        return request.renamed(self._body, self._asked.model, model)

    def answered(self, body: bytes) -> Answered:
        counts = _read(body).usage
        return Answered(body, None if counts is None else counts.tokens())

    def events(self) -> Events:
        return Events()

    def turned_down(self, status: int, body: bytes) -> bytes:
        return body


class Counting(Passage):
    """The count of a prompt, which costs nothing."""

    __slots__ = ()

    def answered(self, body: bytes) -> Answered:
        _read(body)
        return Answered(body, NONE)


class Events:
    """The events of one answer; bytes pass. Usage is in the first event and in the last but one."""

    __slots__ = ("_counts", "_rest", "done", "events")
    closing = 0

    def __init__(self) -> None:
        self.events = 0
        self.done = False
        self._counts = Counts()
        self._rest = b""

    @property
    def reported(self) -> Tokens | None:
        return self._counts.tokens()

    def feed(self, data: bytes) -> bytes:
        whole, self._rest = stream.whole_events(self._rest + data)
        for event in stream.each(whole):
            if event.startswith(b"event: content_block_delta"):
                self.events += 1
            elif event.startswith((b"event: message_start", b"event: message_delta")):
                self._count(event)
            elif event.startswith(b"event: message_stop"):
                self.done = True
            elif event.startswith(b"event: error"):
                raise stream.Unusable("an error in place of an answer")
        return whole

    def _count(self, event: bytes) -> None:
        for document in stream.documents(event):
            told = _read(document)
            counts = told.message.usage if told.message is not None else told.usage
            if counts is not None:
                self._counts = counts.over(self._counts)


def _read(document: bytes) -> Told:
    """Raises stream.Unusable when it is no object; usage that is not as it should be is none."""
    try:
        return _told.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        stream.require_object(document)
        return Told()


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


def _passage(asked: Asked, body: bytes, call: str) -> Passage:
    return Passage(b"/v1/messages", asked, body, call)


def _counting(asked: Asked, body: bytes, call: str) -> Passage:
    return Counting(b"/v1/messages/count_tokens", asked, body, call)


MESSAGES = Dialect("chat", read, bound, {SPEAKER: _passage, **dict.fromkeys(openai.SPEAKERS, MessagesAsChat)}, MANNERS)
COUNT_TOKENS = Dialect("chat", read_count, lambda *_: NONE, {SPEAKER: _counting}, MANNERS, alone=estimate)
