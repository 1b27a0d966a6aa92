"""Anthropic's Messages, said to a server that speaks OpenAI's chat, and its answer said back.

What has a counterpart is translated; what only changes how much is thought or cached (`cache_control`, `thinking`,
`service_tier`) falls away; what would change the answer without one (server tools, files, containers) is refused and
named. Thought comes back as `thinking` blocks to those who asked for it, without a signature: it cannot be handed on to
Anthropic's own servers.

Order of a stream, as Anthropic's: `message_start`, for each block `content_block_start`, its deltas,
`content_block_stop`; then `message_delta` with reason and usage, `message_stop`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import Tokens, estimated_tokens
from gongqi.resources.serving.plane import chat, request, stream
from gongqi.resources.serving.plane.dialect import Answered

SAME = ("temperature", "top_p", "top_k")  # called alike on both sides
REFUSED = ("container", "mcp_servers")
REASONS = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use",
    "content_filter": "refusal",
}  # fmt: skip
EFFORTS = {"xhigh": "high", "max": "high"}  # OpenAI's servers commonly end there
SCHEMA_NAME = "answer"  # OpenAI wants one and shows it to nobody

Document = dict[str, Any]


class MessagesAsChat:
    """The way of one call."""

    path = b"/v1/chat/completions"
    fields = b""

    def __init__(self, asked: Any, body: bytes, call: str, _bound: Tokens) -> None:
        self._asked = asked
        self._body = body
        self._id = "msg_" + call.removeprefix("gen_")
        self._wants_thought = False

    def forwarded(self, model: str) -> bytes:
        try:
            document = request.whole(self._body)
            thinking = document.get("thinking") or {}
            self._wants_thought = thinking.get("type", "disabled") != "disabled"
            return msgspec.json.encode(as_chat(document) | {"model": model})
        except (AttributeError, KeyError, TypeError) as error:
            raise Refused("serving.request-unreadable", why=f"{type(error).__name__}: {error}"[:200]) from error

    def answered(self, body: bytes) -> Answered:
        reported = stream.usage_of(body)
        blocks: list[Document] = []
        arguments: dict[int, str] = {}
        reason, stopped_at = "end_turn", None
        for piece in chat.pieces(body):
            if piece.kind == chat.THOUGHT and self._wants_thought:
                blocks.append({"type": "thinking", "thinking": piece.text, "signature": ""})
            elif piece.kind in (chat.TEXT, chat.REFUSAL):
                blocks.append({"type": "text", "text": piece.text})
                reason = "refusal" if piece.kind == chat.REFUSAL else reason
            elif piece.kind == chat.CALL:
                blocks.append({"type": "tool_use", "id": _call_id(piece), "name": piece.name, "input": piece.number})
            elif piece.kind == chat.ARGUMENTS:
                arguments[piece.number] = piece.text
            elif piece.kind == chat.END and reason != "refusal":
                reason, stopped_at = reason_of(piece)
        for block in blocks:
            if block["type"] == "tool_use":
                block["input"] = _input(arguments.get(block["input"], ""))
                reason = "tool_use" if reason == "end_turn" else reason
        counted = reported or Tokens(request.prompt_estimate(self._body), 0, estimated_tokens(len(body)))
        told = _message(self._id, self._asked.model, blocks, usage_of(counted)) | {
            "stop_reason": reason, "stop_sequence": stopped_at
        }  # fmt: skip
        return Answered(orjson.dumps(told), reported)

    def events(self) -> Retelling:
        prompt = request.prompt_estimate(self._body)
        return Retelling(self._id, self._asked.model, prompt, wants_thought=self._wants_thought)

    def turned_down(self, status: int, body: bytes) -> bytes:
        kind = "request_too_large" if status == 413 else "invalid_request_error"
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": request.complaint(body)}})


# ---- the request


def as_chat(document: Document) -> Document:
    for name in REFUSED:
        if document.get(name):
            raise Refused("serving.untranslatable", what=name)
    messages: list[Document] = []
    if system := document.get("system"):
        messages.append({"role": "system", "content": _text(system)})
    for message in document["messages"]:
        messages += _user(message) if message["role"] == "user" else [_other(message)]
    told: Document = {"messages": messages, "max_tokens": document["max_tokens"]}
    told |= {name: document[name] for name in SAME if document.get(name) is not None}
    if document.get("stop_sequences"):
        told["stop"] = document["stop_sequences"]
    if tools := document.get("tools"):
        told["tools"] = [_tool(tool) for tool in tools]
    if choice := document.get("tool_choice"):
        told |= _choice(choice)
    if user := (document.get("metadata") or {}).get("user_id"):
        told["user"] = user
    config = document.get("output_config") or {}
    if form := config.get("format"):
        schema = {"name": SCHEMA_NAME, "schema": form["schema"], "strict": True}
        told["response_format"] = {"type": "json_schema", "json_schema": schema}
    if effort := config.get("effort"):
        told["reasoning_effort"] = EFFORTS.get(effort, effort)
    if document.get("stream"):
        told |= {"stream": True, "stream_options": {"include_usage": True}}
    return told


def _user(message: Document) -> list[Document]:
    """Results of tools are messages of their own in chat, and come before what else the user says."""
    content = message["content"]
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results, parts = [], []
    for block in content:
        if block["type"] == "tool_result":
            said = _text(block.get("content") or "")
            results.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": said})
        else:
            parts.append(_part(block))
    if not parts:
        return results
    if all(part["type"] == "text" for part in parts):
        return [*results, {"role": "user", "content": "\n".join(part["text"] for part in parts)}]
    return [*results, {"role": "user", "content": parts}]


def _other(message: Document) -> Document:
    role, content = message["role"], message["content"]
    if isinstance(content, str) or role != "assistant":
        return {"role": role, "content": _text(content)}
    text, calls = [], []
    for block in content:
        if block["type"] == "text":
            text.append(block["text"])
        elif block["type"] == "tool_use":
            called = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
            calls.append({"id": block["id"], "type": "function", "function": called})
        elif block["type"] not in ("thinking", "redacted_thinking"):  # no other model can read these
            raise Refused("serving.untranslatable", what=block["type"])
    told: Document = {"role": "assistant", "content": "".join(text) or None}
    return told | {"tool_calls": calls} if calls else told


def _part(block: Document) -> Document:
    kind, source = block["type"], block.get("source") or {}
    if kind == "text":
        return {"type": "text", "text": block["text"]}
    if kind == "image" and source.get("type") == "base64":
        return {"type": "image_url", "image_url": {"url": f"data:{source['media_type']};base64,{source['data']}"}}
    if kind == "image" and source.get("type") == "url":
        return {"type": "image_url", "image_url": {"url": source["url"]}}
    if kind == "document" and source.get("type") == "text":
        return {"type": "text", "text": source["data"]}
    if kind == "document" and source.get("type") == "base64":
        file = {
            "filename": block.get("title") or "document",
            "file_data": f"data:{source['media_type']};base64,{source['data']}",
        }
        return {"type": "file", "file": file}
    raise Refused("serving.untranslatable", what=f"{kind} {source.get('type', '')}".strip())


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    for block in content:
        if block["type"] != "text":
            raise Refused("serving.untranslatable", what=block["type"])
    return "\n".join(block["text"] for block in content)


def _tool(tool: Document) -> Document:
    if tool.get("type") not in (None, "custom"):
        raise Refused("serving.untranslatable", what=tool["type"])
    told = {"name": tool["name"], "parameters": tool["input_schema"]}
    told |= {name: tool[name] for name in ("description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": told}


def _choice(choice: Document) -> Document:
    words: Document = {"auto": "auto", "any": "required", "none": "none"}
    kind = choice["type"]
    told = {"type": "function", "function": {"name": choice["name"]}} if kind == "tool" else words[kind]
    parallel = {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}
    return {"tool_choice": told} | parallel


# ---- the answer


def _message(id: str, model: str, blocks: list[Document], usage: Document) -> Document:
    return {
        "id": id, "type": "message", "role": "assistant", "model": model, "content": blocks, "stop_reason": None,
        "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def usage_of(tokens: Tokens) -> Document:
    return {
        "input_tokens": tokens.input - tokens.cached, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens.cached, "output_tokens": tokens.output,
    }  # fmt: skip


def reason_of(end: chat.Piece) -> tuple[str, str | None]:
    if end.text == "stop" and end.name:
        return "stop_sequence", end.name
    return REASONS.get(end.text, "end_turn"), None


def _call_id(piece: chat.Piece) -> str:
    return piece.id or f"toolu_{piece.number}"


def _input(arguments: str) -> Document:
    """Raises stream.Unusable: what a tool is called with is an object."""
    try:
        given = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise stream.Unusable("arguments that are no object")
    return given


class Retelling(chat.Retold):
    """The events of one answer: at most one block is open, and none is opened again."""

    def __init__(self, id: str, model: str, prompt: int, *, wants_thought: bool) -> None:
        super().__init__()
        self._id = id
        self._model = model
        self._prompt = prompt
        self._wants_thought = wants_thought
        self._open: tuple[str, int] | None = None
        self._blocks = 0
        self._reason: tuple[str, str | None] = ("end_turn", None)
        self._calls = 0

    def begin(self) -> list[bytes]:
        message = _message(self._id, self._model, [], usage_of(Tokens()))
        return [_event("message_start", message=message)]

    def tell(self, piece: chat.Piece) -> list[bytes]:
        if piece.kind in (chat.TEXT, chat.REFUSAL):
            if piece.kind == chat.REFUSAL:
                self._reason = ("refusal", None)
            return [*self._within("text"), self._delta("text_delta", text=piece.text)]
        if piece.kind == chat.THOUGHT:
            if not self._wants_thought:
                return []
            return [*self._within("thinking"), self._delta("thinking_delta", thinking=piece.text)]
        if piece.kind == chat.CALL:
            if self._open == ("tool_use", piece.number):
                return []  # some servers say with each piece whose it is
            return self._call(piece)
        if piece.kind == chat.ARGUMENTS:
            if self._open != ("tool_use", piece.number):
                raise stream.Unusable("arguments of a call that is not open")
            return [self._delta("input_json_delta", partial_json=piece.text)]
        if self._reason[0] != "refusal":
            self._reason = reason_of(piece)
        return []

    def end(self) -> list[bytes]:
        reason, stopped_at = self._reason
        if self._calls and reason == "end_turn":
            reason = "tool_use"
        counted = self.reported or Tokens(self._prompt, 0, max(1, self.events - self.closing))
        delta = {"stop_reason": reason, "stop_sequence": stopped_at}
        return [*self._close(), _event("message_delta", delta=delta, usage=usage_of(counted)), _event("message_stop")]

    def _within(self, kind: str) -> list[bytes]:
        if self._open == (kind, 0):
            return []
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}
        return self._start((kind, 0), {"type": kind, **empty[kind]})

    def _call(self, piece: chat.Piece) -> list[bytes]:
        if piece.number < self._calls:
            raise stream.Unusable("a call that has ended goes on")
        self._calls = piece.number + 1
        block = {"type": "tool_use", "id": _call_id(piece), "name": piece.name, "input": {}}
        return self._start(("tool_use", piece.number), block)

    def _start(self, opened: tuple[str, int], block: Document) -> list[bytes]:
        closed = self._close()
        self._open = opened
        return [*closed, _event("content_block_start", index=self._blocks, content_block=block)]

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        self._blocks += 1
        return [_event("content_block_stop", index=self._blocks - 1)]

    def _delta(self, kind: str, **said: str) -> bytes:
        return _event("content_block_delta", index=self._blocks, delta={"type": kind, **said})


def _event(name: str, **said: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps({"type": name, **said}))
