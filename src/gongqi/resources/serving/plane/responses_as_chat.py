"""OpenAI's Responses, said to a server that speaks chat, and its answer said back as items.

The same rule as for Messages: what has a counterpart is translated, what only changes how much is thought or cached falls
away, what would change the answer (tools that run at OpenAI, files by number, prompts kept there) is refused and named.

A response repeats its whole text at its end, so here, and only here, an answer is held: up to MAX_HELD characters.

Order of a stream, as OpenAI's: `response.created`, `response.in_progress`; for each item `response.output_item.added`,
what it says piece by piece, `response.output_item.done`; then `response.completed` or `response.incomplete`. All are
numbered.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import Tokens, estimated_tokens
from gongqi.resources.serving.plane import chat, request, stream
from gongqi.resources.serving.plane.dialect import Answered

MAX_HELD = 4 << 20
SAME = ("temperature", "top_p", "parallel_tool_calls", "user", "prompt_cache_key")
REFUSED = ("background", "conversation", "prompt")
SHOWN = {  # what a response repeats of its request, and what it says where nothing was asked
    "instructions": None, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None}, "temperature": None,
    "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": None, "truncation": "disabled",
}  # fmt: skip
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

Document = dict[str, Any]


class ResponsesAsChat:
    """The way of one call."""

    path = b"/v1/chat/completions"
    fields = b""

    def __init__(self, asked: Any, body: bytes, call: str, _bound: Tokens) -> None:
        self._asked = asked
        self._body = body
        self._answer = Telling(call.removeprefix("gen_"), asked, request.prompt_estimate(body))

    @property
    def response(self) -> Document:
        return self._answer.response

    def forwarded(self, model: str) -> bytes:
        try:
            document = request.whole(self._body)
            self._answer.repeat(document)
            return msgspec.json.encode(as_chat(document) | {"model": model})
        except (AttributeError, KeyError, TypeError) as error:
            raise Refused("serving.request-unreadable", why=f"{type(error).__name__}: {error}"[:200]) from error

    def answered(self, body: bytes) -> Answered:
        reported = stream.usage_of(body)
        for piece in chat.pieces(body):
            self._answer.tell(piece)
        self._answer.end(reported or Tokens(request.prompt_estimate(self._body), 0, estimated_tokens(len(body))))
        return Answered(orjson.dumps(self._answer.response), reported)

    def events(self) -> Retelling:
        return Retelling(self._answer)

    def turned_down(self, status: int, body: bytes) -> bytes:
        return body


# ---- the request


def as_chat(document: Document) -> Document:
    for name in REFUSED:
        if document.get(name):
            raise Refused("serving.untranslatable", what=name)
    messages: list[Document] = []
    if instructions := document.get("instructions"):
        messages.append({"role": "system", "content": instructions})
    given = document["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        _add(messages, item)
    told: Document = {"messages": messages}
    told |= {name: document[name] for name in SAME if document.get(name) is not None}
    if (limit := document.get("max_output_tokens")) is not None:
        told["max_tokens"] = limit
    if tools := document.get("tools"):
        told["tools"] = [_tool(tool) for tool in tools]
    if choice := document.get("tool_choice"):
        told["tool_choice"] = _choice(choice)
    if effort := (document.get("reasoning") or {}).get("effort"):
        told["reasoning_effort"] = effort
    form = (document.get("text") or {}).get("format") or {"type": "text"}
    if form["type"] == "json_schema":
        schema = {name: value for name, value in form.items() if name != "type"}
        told["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form["type"] != "text":
        told["response_format"] = form
    if document.get("stream"):
        told |= {"stream": True, "stream_options": {"include_usage": True}}
    return told


def _add(messages: list[Document], item: Document) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        role = "system" if item["role"] == "developer" else item["role"]
        messages.append({"role": role, "content": _content(item["content"])})
    elif kind == "function_call":
        called = {"name": item["name"], "arguments": item["arguments"]}
        if not (messages and messages[-1]["role"] == "assistant"):
            messages.append({"role": "assistant", "content": None})
        calls = messages[-1].setdefault("tool_calls", [])
        calls.append({"id": item["call_id"], "type": "function", "function": called})
    elif kind == "function_call_output":
        messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
    elif kind != "reasoning":  # no other model can read what this one thought
        raise Refused("serving.untranslatable", what=kind)


def _content(content: Any) -> Any:
    """One text where it is all text, which every server takes."""
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(part: Document) -> Document:
    kind = part["type"]
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": part["text"]}
    if kind == "refusal":
        return {"type": "text", "text": part["refusal"]}
    if kind == "input_image" and part.get("image_url"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file" and part.get("file_data"):
        return {"type": "file", "file": {name: part[name] for name in ("filename", "file_data") if name in part}}
    raise Refused("serving.untranslatable", what=kind)


def _tool(tool: Document) -> Document:
    if tool["type"] != "function":
        raise Refused("serving.untranslatable", what=tool["type"])
    function = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": function}


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    if choice["type"] != "function":
        raise Refused("serving.untranslatable", what=choice["type"])
    return {"type": "function", "function": {"name": choice["name"]}}


# ---- the answer


def usage_of(tokens: Tokens) -> Document:
    return {
        "input_tokens": tokens.input, "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.input + tokens.output,
    }  # fmt: skip


class Telling:
    """A response as it comes to be. Each step returns the events that tell of it; one item is open at a time."""

    def __init__(self, mark: str, asked: Any, prompt: int) -> None:
        self.prompt = prompt
        self._mark = mark
        self._number = 0
        self._held = 0
        self._open: tuple[str, int] | None = None
        self._text: list[str] = []
        self._reason = ""
        self.response: Document = {
            "id": f"resp_{mark}", "object": "response", "created_at": int(time.time()), "status": "in_progress",
            "background": False, "error": None, "incomplete_details": None, "model": asked.model, "output": [],
            "store": bool(asked.store), "usage": None, "previous_response_id": asked.previous_response_id,
        }  # fmt: skip

    def repeat(self, document: Document) -> None:
        self.response |= {name: given if (given := document.get(name)) is not None else SHOWN[name] for name in SHOWN}

    def begin(self) -> list[bytes]:
        return [self._event(f"response.{kind}", response=self.response) for kind in ("created", "in_progress")]

    def tell(self, piece: chat.Piece) -> list[bytes]:
        self._held += len(piece.text)
        if self._held > MAX_HELD:
            raise stream.Unusable("a response longer than is held")
        if piece.kind == chat.END:
            self._reason = piece.text
            return []
        if piece.kind == chat.CALL and self._open == (chat.CALL, piece.number):
            return []  # some servers say with each piece whose it is
        if piece.kind == chat.CALL:
            return self._begin_item(piece)
        if piece.kind == chat.ARGUMENTS:
            if self._open != (chat.CALL, piece.number):
                raise stream.Unusable("arguments of a call that is not open")
            self._text.append(piece.text)
            return [self._of_item("function_call_arguments.delta", delta=piece.text)]
        begun = [] if self._open == (piece.kind, 0) else self._begin_item(piece)
        self._text.append(piece.text)
        form = FORMS[piece.kind]
        more = {"logprobs": []} if piece.kind == chat.TEXT else {}
        return [*begun, self._of_item(f"{form.event}.delta", content_index=0, delta=piece.text, **more)]

    def end(self, counted: Tokens) -> list[bytes]:
        done = self._end_item()
        why = INCOMPLETE.get(self._reason)
        status = "completed" if why is None else "incomplete"
        self.response |= {"status": status, "usage": usage_of(counted), "completed_at": int(time.time())}
        if why is not None:
            self.response["incomplete_details"] = {"reason": why}
        return [*done, self._event(f"response.{status}", response=self.response)]

    # ---- items

    @property
    def _item(self) -> Document:
        return self.response["output"][-1]

    def _begin_item(self, piece: chat.Piece) -> list[bytes]:
        done = self._end_item()
        self._open = (piece.kind, piece.number)
        id = f"{PREFIXES[piece.kind]}_{self._mark}_{len(self.response['output'])}"
        if piece.kind == chat.CALL:
            item: Document = {"type": "function_call", "call_id": piece.id or id, "name": piece.name, "arguments": ""}
        elif piece.kind == chat.THOUGHT:
            item = {"type": "reasoning", "summary": [], "content": []}
        else:
            item = {"type": "message", "role": "assistant", "content": []}
        self.response["output"].append({"id": id, "status": "in_progress", **item})
        added = self._of_output("added")
        if piece.kind == chat.CALL:
            return [*done, added]
        part = self._of_item("content_part.added", content_index=0, part=FORMS[piece.kind].part(""))
        return [*done, added, part]

    def _end_item(self) -> list[bytes]:
        if self._open is None:
            return []
        kind, text = self._open[0], "".join(self._text)
        self._open = None
        self._text.clear()
        self._item["status"] = "completed"
        if kind == chat.CALL:
            self._item["arguments"] = text
            return [self._of_item("function_call_arguments.done", arguments=text), self._of_output("done")]
        form = FORMS[kind]
        self._item["content"] = [form.part(text)]
        more = {"logprobs": []} if kind == chat.TEXT else {}
        return [
            self._of_item(f"{form.event}.done", content_index=0, **{form.word: text}, **more),
            self._of_item("content_part.done", content_index=0, part=form.part(text)),
            self._of_output("done"),
        ]

    def _of_output(self, step: str) -> bytes:
        place = len(self.response["output"]) - 1
        return self._event(f"response.output_item.{step}", output_index=place, item=self._item)

    def _of_item(self, step: str, **more: Any) -> bytes:
        place = len(self.response["output"]) - 1
        return self._event(f"response.{step}", item_id=self._item["id"], output_index=place, **more)

    def _event(self, name: str, **more: Any) -> bytes:
        document = {"type": name, "sequence_number": self._number, **more}
        self._number += 1
        return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(document))


class Form(msgspec.Struct, frozen=True):
    """How a kind of text is told: the name of its events, of its part, of the text in both."""

    event: str
    type: str
    word: str

    def part(self, text: str) -> Document:
        more = {"annotations": [], "logprobs": []} if self.type == "output_text" else {}
        return {"type": self.type, self.word: text, **more}


FORMS = {
    chat.TEXT: Form("output_text", "output_text", "text"),
    chat.REFUSAL: Form("refusal", "refusal", "refusal"),
    chat.THOUGHT: Form("reasoning_text", "reasoning_text", "text"),
}
PREFIXES = {chat.TEXT: "msg", chat.REFUSAL: "msg", chat.THOUGHT: "rs", chat.CALL: "fc"}


class Retelling(chat.Retold):
    """The events of one response."""

    def __init__(self, telling: Telling) -> None:
        super().__init__()
        self._telling = telling

    def begin(self) -> list[bytes]:
        return self._telling.begin()

    def tell(self, piece: chat.Piece) -> list[bytes]:
        return self._telling.tell(piece)

    def end(self) -> list[bytes]:
        counted = self.reported or Tokens(self._telling.prompt, 0, max(1, self.events - self.closing))
        return self._telling.end(counted)
