"""The mark of generated content on an answer: for machines in a header and a member of the document, for people in its text.

The header `gongqi-generated` is on every answer that a rule asks to be marked, as JSON; the same members stand at the
beginning of the document, or of a stream's first event, where clients of these APIs read over what they do not know.

A text for people is added where the caller has said that answers are shown to the public as they come. It is never put
where a machine reads: not into an answer whose form was asked for (JSON, a grammar), not where tools are called; the header
`gongqi-shown: no` then leaves it to whoever shows the answer. The headers of a stream go before what it says: there `yes`
says that a text will be put at its end, unless it calls tools or says nothing. What is added is the gateway's, and no token
of it is charged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.plane import request, stream
from gongqi.resources.serving.plane.dialect import Events, Lines, Overheard
from gongqi.resources.serving.plane.duties import Label

GENERATED, SHOWN = b"gongqi-generated", b"gongqi-shown"
MARKS = (GENERATED, SHOWN)
_OPENING = re.compile(rb"(?:^|\n)data:[ ]?\{")
_END = re.compile(rb"\s*\}")
FORMS = (  # by which an answer is asked for in a form: OpenAI's, vLLM's and llama.cpp's
    "response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "grammar",
    "json_schema",
)  # fmt: skip

Document = dict[str, Any]


class Marks:
    """The labels of one call."""

    __slots__ = ("_members", "_said", "text")

    def __init__(self, labels: Sequence[Label], call: str, body: bytes) -> None:
        said = {label.member: _filled(label.fields, call) for label in labels if label.member}
        self._said = json.dumps(said, separators=(",", ":")).encode()
        self._members = orjson.dumps(said)[1:-1]
        texts = [label.text for label in labels if label.text]
        self.text: str | None = None  # where none is asked for
        if texts:
            self.text = "" if has_form(body) else "".join(dict.fromkeys(texts))

    def lines(self) -> Lines:
        shown = [] if self.text is None else [(SHOWN, b"yes" if self.text else b"no")]
        return [(GENERATED, self._said), *shown] if self._members else shown

    def whole(self, body: bytes) -> bytes:
        """An answer in one piece. Where there is no text that it could be put to, the header says so."""
        if self.text:
            try:
                document = request.whole(body)
                is_shown = _show(document, self.text)
            except (AttributeError, KeyError, TypeError, Refused):  # of no form that is known
                is_shown = False
            if is_shown:
                body = msgspec.json.encode(document)
            else:
                self.text = ""
        return self._opened(body, body.index(b"{") + 1) if self._members else body

    def kept(self, response: Document) -> Document:
        """A response as a stream has told it, with the text for people."""
        if self.text:
            _show(response, self.text)
        return response

    def first(self, whole: bytes) -> bytes:
        """The events that come first; the same object while none of them has a document: some servers begin with a
        comment."""
        found = _OPENING.search(whole) if self._members else None
        return whole if found is None else self._opened(whole, found.end())

    def _opened(self, told: bytes, start: int) -> bytes:
        comma = b"" if _END.match(told, start) else b","
        return b"%s%s%s%s" % (told[:start], self._members, comma, told[start:])


def has_form(body: bytes) -> bool:
    """Whether a request asks for an answer of a form."""
    document = request.whole(body)
    forms = [document.get(name) for name in FORMS]
    for name in ("text", "output_config"):
        config = document.get(name)
        forms.append(config.get("format") if isinstance(config, dict) else None)
    return any(form and not (isinstance(form, dict) and form.get("type") == "text") for form in forms)


def _filled(fields: Any, call: str) -> Any:
    return (
        {name: value.replace("{call}", call) for name, value in fields.items()} if isinstance(fields, dict) else fields
    )


def _show(document: Document, text: str) -> bool:
    """Whether there was anything that the text could be put to."""
    is_shown = False
    for choice in document.get("choices") or ():
        message = choice.get("message")
        if message is None and isinstance(choice.get("text"), str):
            choice["text"] += text
            is_shown = True
        elif message and isinstance(message.get("content"), str) and message["content"] and not _calls(message):
            message["content"] += text
            is_shown = True
    content = document.get("content")
    if isinstance(content, list) and content and document.get("stop_reason") != "tool_use":
        content.append({"type": "text", "text": text})
        is_shown = True
    for item in document.get("output") or ():  # calls are items of their own
        is_shown = _lengthen(item, text) or is_shown
    return is_shown


def _calls(said: Document) -> bool:
    """Whether a message, or a piece of one, calls a tool."""
    return bool(said.get("tool_calls") or said.get("function_call"))


def _lengthen(item: Document, text: str) -> bool:
    """The last text of an item of a response."""
    parts = [part for part in item.get("content") or () if part.get("type") == "output_text"]
    if parts:
        parts[-1]["text"] += text
    return bool(parts)


class Marked(Overheard):
    """The events of an answer with its marks. `text` is said at the end of what a choice, a message or an item says."""

    def __init__(self, heard: Events, marks: Marks) -> None:
        super().__init__(heard)
        self._marks = marks
        self._has_begun = False
        self._speaking: set[int] = set()  # choices that have said something
        self._calling: set[int] = set()  # and those that call tools
        self._blocks = 0
        self._items: set[str] = set()  # of a response, whose text was added to
        self._more = 0

    def feed(self, data: bytes) -> bytes:
        whole = self._heard.feed(data)
        if not whole:
            return whole
        if self._marks.text:
            whole = b"".join([self._event(event) for event in stream.each(whole)])
        if not self._has_begun:
            marked = self._marks.first(whole)
            self._has_begun, whole = marked is not whole, marked
        return whole

    def _event(self, event: bytes) -> bytes:
        content = stream.data_of(event)
        if not content or content == b"[DONE]":
            return event
        try:
            document = orjson.loads(content)
            if "choices" in document:
                return self._chunk(event, document)
            kind = document.get("type")
            if not isinstance(kind, str):  # a failure, or figures alone
                return event
            if kind.startswith("response."):
                return self._of_response(kind, document)
            return self._of_message(kind, event, document)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise stream.Unusable(type(error).__name__) from None

    # ---- chat and completions

    def _chunk(self, event: bytes, document: Document) -> bytes:
        told = b""
        changed = False
        for choice in document["choices"]:
            number, delta = choice.get("index", 0), choice.get("delta")
            said = choice.get("text") if delta is None else delta.get("content")
            if said:
                self._speaking.add(number)
            if delta and _calls(delta):
                self._calling.add(number)
            if choice.get("finish_reason") is None or number not in self._speaking - self._calling:
                continue
            self._speaking.discard(number)
            if said:
                changed = True
                (choice if delta is None else delta)["text" if delta is None else "content"] = said + self._marks.text
            else:
                more = {"text": self._marks.text} if delta is None else {"delta": {"content": self._marks.text}}
                head = {name: value for name, value in document.items() if name not in ("choices", "usage")}
                told += _said("", head | {"choices": [{"index": number, **more, "finish_reason": None}]})
        return told + (_said("", document) if changed else event)

    # ---- messages

    def _of_message(self, kind: str, event: bytes, document: Document) -> bytes:
        if kind == "content_block_start":
            self._blocks = document["index"] + 1
            is_call = document["content_block"]["type"] not in ("text", "thinking", "redacted_thinking")
            (self._calling if is_call else self._speaking).add(0)
        if kind != "message_delta" or self._calling or not self._speaking:
            return event
        self._speaking.clear()
        at = {"index": self._blocks}
        begun = {"type": "content_block_start", **at, "content_block": {"type": "text", "text": ""}}
        said = {"type": "content_block_delta", **at, "delta": {"type": "text_delta", "text": self._marks.text}}
        ended = {"type": "content_block_stop", **at}
        return b"".join(_said(each["type"], each) for each in (begun, said, ended)) + event

    # ---- responses

    def _of_response(self, kind: str, document: Document) -> bytes:
        text = self._marks.text
        assert text is not None, "it is asked for"
        told = b""
        if kind == "response.output_text.done":
            at = {name: document[name] for name in ("item_id", "output_index", "content_index")}
            self._items.add(document["item_id"])
            delta = {"type": "response.output_text.delta", **at, "delta": text, "logprobs": []}
            told = self._numbered(delta | {"sequence_number": document["sequence_number"]})
            self._more += 1
            document["text"] += text
        elif kind == "response.content_part.done" and document["item_id"] in self._items:
            document["part"]["text"] += text
        elif kind == "response.output_item.done":
            self._of_item(document["item"], text)
        elif kind in ("response.completed", "response.incomplete"):
            for item in document["response"]["output"]:
                self._of_item(item, text)
        return told + self._numbered(document)

    def _of_item(self, item: Document, text: str) -> None:
        if item.get("id") in self._items:
            _lengthen(item, text)

    def _numbered(self, document: Document) -> bytes:
        document["sequence_number"] += self._more
        return _said(document["type"], document)


def _said(name: str, document: Document) -> bytes:
    head = b"event: %s\n" % name.encode() if name else b""
    return b"%sdata: %s\n\n" % (head, orjson.dumps(document))
