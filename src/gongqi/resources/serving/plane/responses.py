"""OpenAI's Responses: to servers that speak them bytes pass; to servers that speak chat, or Anthropic's Messages, they are
translated.

(platform.openai.com/docs/api-reference/responses.) **Nothing is kept unless the caller says `"store": true`.** OpenAI keeps
where nothing is said; we do not, and no server is let to: what goes to one says `"store": false`. Kept is input and
response, under the key that asked, for `retention` (`serving.kept`); `previous_response_id` is resolved here, so that it
means the same whichever server answers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import orjson
import structlog

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import Tokens, sensible
from gongqi.resources.serving.plane import openai, request, stream
from gongqi.resources.serving.plane.chat_as_messages import ChatAsMessages
from gongqi.resources.serving.plane.dialect import Answered, Dialect, Headers, Manners, Overheard, Problem
from gongqi.resources.serving.plane.responses_as_chat import Document, ResponsesAsChat
from gongqi.resources.serving.plane.snapshot import Control, Key, Route

PATH = "/v1/responses"
SPEAKER = "openai-responses"
MAX_ID = 128
_NOT_TEXT = (b'"input_image"', b'"input_file"', b'"input_audio"', b'"computer_screenshot"')
_LAST = (b"event: response.completed", b"event: response.incomplete")
_BROKEN = (b"event: response.failed", b"event: error")

log = structlog.get_logger("gongqi.serving.responses")


class Asked(msgspec.Struct):
    """What is read of a request."""

    model: str
    stream: bool | None = None
    store: bool | None = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    background: bool | None = None


_decoder = msgspec.json.Decoder(Asked)


def read(body: bytes, _headers: Headers) -> Asked:
    """Raises Refused: serving.request-unreadable, serving.untranslatable."""
    request.require_once(body)
    asked = request.decoded(_decoder, body)
    if asked.max_output_tokens is not None and asked.max_output_tokens < 1:
        raise Refused("serving.request-unreadable", why="max_output_tokens < 1")
    if asked.background:
        raise Refused("serving.untranslatable", what="background")
    return asked


def bound(asked: Asked, body: bytes, route: Route) -> Tokens:
    prompt = request.prompt_bound(body, route, _NOT_TEXT)
    return Tokens(prompt, 0, request.output_bound(asked.max_output_tokens or route.output_tokens, route))


# ---- to servers that speak it


class Details(msgspec.Struct):
    cached_tokens: int | None = None


class Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Details | None = None


class Told(msgspec.Struct):
    usage: Counts | None = None
    response: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_told = msgspec.json.Decoder(Told)


class Passage:
    """A way on which the model's name changes, and that nothing is kept there. `response` is what came, once it has."""

    path = b"/v1/responses"
    fields = b""

    def __init__(self, asked: Asked, body: bytes, _call: str, _bound: Tokens) -> None:
        self._asked = asked
        self._body = body
        self._events: Events | None = None
        self._answer = b""

    @property
    def response(self) -> Document:
        return orjson.loads(self._answer if self._events is None else self._events.response)

    def forwarded(self, model: str) -> bytes:
        if self._asked.store is None and b'"store"' not in self._body and b"\\u00" not in self._body:
            body = request.renamed(self._body, self._asked.model, model)
            start = body.index(b"{") + 1
            return b'%s"store":false,%s' % (body[:start], body[start:])
        return msgspec.json.encode(request.whole(self._body) | {"model": model, "store": False})

    def answered(self, body: bytes) -> Answered:
        self._answer = body
        told = _read(body)
        stream.require_answer(told.error, told.output)
        return Answered(body, _tokens(told.usage))

    def events(self) -> Events:
        self._events = Events()
        return self._events

    def turned_down(self, status: int, body: bytes) -> bytes:
        return body


class Events:
    """The events of one response; bytes pass. Usage is in the last."""

    closing = 0

    def __init__(self) -> None:
        self.reported: Tokens | None = None
        self.events = 0
        self.done = False
        self.response = b""
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        whole, self._rest = stream.whole_events(self._rest + data)
        for event in stream.each(whole):
            if event.startswith(_LAST):
                self.done = True
                [document] = stream.documents(event)
                self.response = bytes(_read(document).response)
                self.reported = _tokens(_read(self.response).usage)
            elif event.startswith(_BROKEN):
                raise stream.Unusable("an error in place of an answer")
            elif event.partition(b"\n")[0].rstrip().endswith(b".delta"):
                self.events += 1
        return whole


def _read(document: bytes) -> Told:
    """Raises stream.Unusable when it is no object; usage that is not as it should be is none."""
    try:
        return _told.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = stream.require_object(document)
        return Told(None, *(found.get(name, msgspec.Raw()) for name in ("response", "output", "error")))


def _tokens(counts: Counts | None) -> Tokens | None:
    if counts is None:
        return None
    cached = counts.input_tokens_details.cached_tokens if counts.input_tokens_details else None
    return sensible(counts.input_tokens, cached or 0, counts.output_tokens)


class Through:
    """To a server that speaks Anthropic's Messages: said as chat, and that as messages; and the answer back."""

    path = ChatAsMessages.path
    fields = ChatAsMessages.fields

    def __init__(self, asked: Asked, body: bytes, call: str, bound: Tokens) -> None:
        self._near = ResponsesAsChat(asked, body, call, bound)
        self._call = call
        self._bound = bound

    @property
    def response(self) -> Document:
        return self._near.response

    def forwarded(self, model: str) -> bytes:
        chat = self._near.forwarded(model)
        self._far = ChatAsMessages(request.read(chat), chat, self._call, self._bound)
        return self._far.forwarded(model)

    def answered(self, body: bytes) -> Answered:
        chat, reported = self._far.answered(body)
        return Answered(self._near.answered(chat).body, reported)

    def events(self) -> ThroughEvents:
        return ThroughEvents(self._near, self._far)

    def turned_down(self, status: int, body: bytes) -> bytes:
        return self._far.turned_down(status, body)


class ThroughEvents(Overheard):
    """Two retellings, one of what the other told."""

    def __init__(self, near: ResponsesAsChat, far: ChatAsMessages) -> None:
        super().__init__(far.events())
        self._near = near.events()

    def feed(self, data: bytes) -> bytes:
        return self._near.feed(self._heard.feed(data))


Way = Passage | ResponsesAsChat | Through


# ---- what is kept


async def recalled(control: Control, key: Key, asked: Asked, body: bytes) -> bytes:
    """The body with what was said before it. Raises Refused serving.response-unknown."""
    if asked.previous_response_id is None:
        return body
    kept = await asyncio.to_thread(control.recall, key.id, asked.previous_response_id[:MAX_ID])
    document = request.whole(body)
    document["input"] = [*kept["input"], *kept["response"]["output"], *items(document.get("input"))]
    del document["previous_response_id"]
    return msgspec.json.encode(document)


async def kept(control: Control, key: Key, asked: Asked, body: bytes, way: Way, said: bytes) -> bytes:
    """What may be said once the response is kept; where it could not be, it says so."""
    if not asked.store:
        return said
    response = way.response | {"store": True, "previous_response_id": asked.previous_response_id}
    given = items(request.whole(body).get("input"))
    try:
        await asyncio.to_thread(control.keep, key.id, response["id"], {"input": given, "response": response})
    except Exception as error:  # too large, or the database is away: the answer is the caller's all the same
        log.warning("a response was not kept", error=getattr(error, "code", type(error).__name__))
        response["store"] = False
    if not asked.stream:
        return orjson.dumps(response)
    return b"".join(_with(event, response) if event.startswith(_LAST) else event for event in stream.each(said))


def _with(event: bytes, response: Document) -> bytes:
    [document] = stream.documents(event)
    name = event.partition(b"\n")[0].rstrip()
    return b"%s\ndata: %s\n\n" % (name, orjson.dumps(orjson.loads(document) | {"response": response}))


def items(given: Any) -> list[Document]:
    """An input as items. Raises Refused serving.request-unreadable."""
    if given is None:
        return []
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list):
        raise Refused("serving.request-unreadable", why="input")
    return given


async def of_kept(control: Control, key: Key, method: str, path: str) -> bytes:
    """`GET /v1/responses/ID`, `GET /v1/responses/ID/input_items`, `DELETE /v1/responses/ID`. Raises Refused."""
    id, _, part = path.removeprefix(PATH + "/").partition("/")
    if method == "DELETE" and not part:
        await asyncio.to_thread(control.forget, key.id, id[:MAX_ID])
        return orjson.dumps({"id": id, "object": "response", "deleted": True})
    if part not in ("", "input_items"):
        raise Refused("serving.path-unknown", path=path[:100])
    if method != "GET":
        raise Refused("serving.method-not-allowed", method=method[:20], path=path[:100])
    found = await asyncio.to_thread(control.recall, key.id, id[:MAX_ID])
    if not part:
        return orjson.dumps(found["response"])
    given = [{"id": f"item_{place}", **item} for place, item in enumerate(found["input"])]
    first, last = (given[place]["id"] if given else None for place in (0, -1))
    return orjson.dumps({"object": "list", "data": given, "first_id": first, "last_id": last, "has_more": False})


# ---- how it fails


def broken_off(problem: Problem) -> bytes:
    told = {"type": "error", "code": problem.code, "message": problem.message, "param": None, "sequence_number": 0}
    error = {"message": problem.message, "type": "server_error", "code": problem.code, "param": None}
    return b"event: error\ndata: %s\n\n" % orjson.dumps(told | {"error": error, "localized": problem.localized})


MANNERS = Manners(openai.refusal, broken_off)
WAYS = {SPEAKER: Passage, "openai": ResponsesAsChat, "anthropic": Through}
RESPONSES = Dialect("chat", read, bound, WAYS, MANNERS, recalled=recalled, kept=kept)
