"""OpenAI's chat, said to a server that speaks Anthropic's Messages, and its answer said back.

The same rule as for the other translations: what has a counterpart is translated, what only changes how much is thought
or cached falls away, what would change the answer (several choices, probabilities, penalties, sound) is refused and named.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import Tokens
from gongqi.resources.serving.plane import messages, request, stream
from gongqi.resources.serving.plane.dialect import Answered, Overheard

SAME = ("top_p", "stream")
REFUSED = (
    "logprobs",
    "logit_bias",
    "audio",
    "functions",
    "frequency_penalty",
    "presence_penalty",
    "web_search_options",
)
FINISHES = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "refusal": "content_filter",
}  # fmt: skip
EFFORTS = {"none": "low", "minimal": "low"}

Document = dict[str, Any]


class ChatAsMessages:
    """The way of one call."""

    path = b"/v1/messages"
    fields = b""

    def __init__(self, asked: request.Asked, body: bytes, call: str, bound: Tokens) -> None:
        self._asked = asked
        self._body = body
        self._limit = bound.output  # of one choice; more are refused
        self._id = "chatcmpl-" + call.removeprefix("gen_")

    def forwarded(self, model: str) -> bytes:
        try:
            told = as_messages(request.whole(self._body), self._limit)
        except (AttributeError, KeyError, TypeError, msgspec.DecodeError) as error:
            raise Refused("serving.request-unreadable", why=f"{type(error).__name__}: {error}"[:200]) from error
        return msgspec.json.encode(told | {"model": model})

    def answered(self, body: bytes) -> Answered:
        answer = messages.read_answer(body)
        counts = messages.read(body).usage
        reported = None if counts is None else counts.tokens()
        text, thought, calls = "", "", []
        for block in answer.content:
            if block.type == "text":
                text += block.text
            elif block.type == "thinking":
                thought += block.thinking
            elif block.type == "tool_use":
                function = {"name": block.name, "arguments": bytes(block.input).decode() or "{}"}
                calls.append({"id": block.id, "type": "function", "function": function})
        said: Document = {"role": "assistant", "content": text or None, "refusal": None}
        said |= {"reasoning_content": thought} if thought else {}
        said |= {"tool_calls": calls} if calls else {}
        finish = FINISHES.get(answer.stop_reason or "", "stop")
        choice = {"index": 0, "message": said, "finish_reason": finish, "logprobs": None}
        told = _head(self._id, "chat.completion", self._asked.model) | {"choices": [choice]}
        return Answered(orjson.dumps(told | ({"usage": usage_of(reported)} if reported else {})), reported)

    def events(self) -> Retelling:
        options = self._asked.stream_options
        wants_usage = isinstance(options, request.StreamOptions) and bool(options.include_usage)
        return Retelling(self._id, self._asked.model, wants_usage=wants_usage)

    def turned_down(self, status: int, body: bytes) -> bytes:
        told = {"message": request.complaint(body), "type": "invalid_request_error", "param": None, "code": None}
        return orjson.dumps({"error": told})


# ---- the request


def as_messages(document: Document, limit: int) -> Document:
    for name in REFUSED:
        if document.get(name):
            raise Refused("serving.untranslatable", what=name)
    if (document.get("n") or 1) > 1:
        raise Refused("serving.untranslatable", what="n")
    system: list[Document] = []
    turns: list[Document] = []
    for message in document["messages"]:
        if message["role"] in ("system", "developer"):
            system += _parts(message["content"])
        else:
            role, blocks = _turn(message)
            if not blocks:
                continue  # Anthropic knows no empty turn
            if turns and turns[-1]["role"] == role:  # results of tools called at once belong together
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": role, "content": blocks})
    told: Document = {"messages": turns, "max_tokens": limit}
    told |= {"system": system} if system else {}
    told |= {name: document[name] for name in SAME if document.get(name) is not None}
    if (temperature := document.get("temperature")) is not None:
        told["temperature"] = min(temperature, 1)  # Anthropic's end at 1
    if stop := document.get("stop"):
        told["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if user := document.get("user"):
        told["metadata"] = {"user_id": user}
    if tools := document.get("tools"):
        told["tools"] = [_tool(tool) for tool in tools]
        told |= _choice(document.get("tool_choice") or "auto", document.get("parallel_tool_calls"))
    if config := _config(document):
        told["output_config"] = config
    return told


def _config(document: Document) -> Document:
    config: Document = {}
    if effort := document.get("reasoning_effort"):
        config["effort"] = EFFORTS.get(effort, effort)
    form: Document = document.get("response_format") or {"type": "text"}
    if form["type"] == "json_schema":
        config["format"] = {"type": "json_schema", "schema": form["json_schema"]["schema"]}
    elif form["type"] != "text":
        raise Refused("serving.untranslatable", what=form["type"])
    return config


def _turn(message: Document) -> tuple[str, list[Document]]:
    role, content = message["role"], message.get("content")
    if role == "tool":
        return "user", [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": _parts(content)}]
    if role not in ("user", "assistant"):
        raise Refused("serving.untranslatable", what=role)
    blocks = _parts(content or message.get("refusal"))
    for call in message.get("tool_calls") or ():
        function = call["function"]
        given = msgspec.json.decode(function["arguments"] or "{}")
        blocks.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
    return role, blocks


def _parts(content: Any) -> list[Document]:
    if content is None or content == "":
        return []  # Anthropic knows no empty text
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_part(part) for part in content]


def _part(part: Document) -> Document:
    kind = part["type"]
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part[kind]}
    if kind == "image_url":
        return {"type": "image", "source": _source(part["image_url"]["url"])}
    if kind == "file" and part["file"].get("file_data"):
        return {"type": "document", "source": _source(part["file"]["file_data"])}
    raise Refused("serving.untranslatable", what=kind)


def _source(url: str) -> Document:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "base64", "media_type": kind, "data": data}


def _tool(tool: Document) -> Document:
    if tool["type"] != "function":
        raise Refused("serving.untranslatable", what=tool["type"])
    function = tool["function"]
    told = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return told | {name: function[name] for name in ("description", "strict") if function.get(name) is not None}


def _choice(choice: Any, parallel: bool | None) -> Document:
    words = {"auto": "auto", "required": "any", "none": "none"}
    is_word = isinstance(choice, str)
    told: Document = {"type": words[choice]} if is_word else {"type": "tool", "name": choice["function"]["name"]}
    if parallel is False and told["type"] != "none":
        told["disable_parallel_tool_use"] = True
    return {"tool_choice": told}


# ---- the answer


def usage_of(tokens: Tokens) -> Document:
    return {
        "prompt_tokens": tokens.input, "completion_tokens": tokens.output, "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
    }  # fmt: skip


def _head(id: str, kind: str, model: str) -> Document:
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}


class Retelling(Overheard):
    """The events of one answer as chunks."""

    def __init__(self, id: str, model: str, *, wants_usage: bool) -> None:
        super().__init__(messages.Events())
        self._head = _head(id, "chat.completion.chunk", model)
        self._wants_usage = wants_usage
        self._calls: dict[int, int] = {}  # blocks that are calls of tools, and which
        self._unsaid: int | None = None  # a call of which no argument has been said

    def feed(self, data: bytes) -> bytes:
        whole = self._heard.feed(data)
        return b"".join(self._tell(messages.read_event(document)) for document in stream.documents(whole))

    def _tell(self, event: messages.Event) -> bytes:
        if event.type == "message_start":
            return self._chunk({"role": "assistant", "content": ""})
        if event.type == "content_block_start" and event.content_block.type == "tool_use":
            number = self._unsaid = self._calls[event.index] = len(self._calls)
            block = event.content_block
            function = {"name": block.name, "arguments": ""}
            return self._chunk(
                {"tool_calls": [{"index": number, "id": block.id, "type": "function", "function": function}]}
            )
        if event.type == "content_block_delta":
            return self._delta(event)
        if event.type == "content_block_stop" and self._unsaid is not None:  # OpenAI's clients read JSON
            return self._arguments(self._unsaid, "{}")
        if event.type == "message_delta":
            return self._chunk({}, FINISHES.get(event.delta.stop_reason or "", "stop"))
        if event.type == "message_stop":
            usage = self._usage() if self._wants_usage and self.reported is not None else b""
            return usage + stream.DONE + b"\n\n"
        return b""

    def _delta(self, event: messages.Event) -> bytes:
        delta = event.delta
        if delta.text:
            return self._chunk({"content": delta.text})
        if delta.thinking:
            return self._chunk({"reasoning_content": delta.thinking})
        if delta.partial_json and event.index in self._calls:
            return self._arguments(self._calls[event.index], delta.partial_json)
        return b""

    def _arguments(self, number: int, said: str) -> bytes:
        self._unsaid = None
        return self._chunk({"tool_calls": [{"index": number, "function": {"arguments": said}}]})

    def _chunk(self, delta: Document, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return b"data: %s\n\n" % orjson.dumps(self._head | {"choices": [choice]})

    def _usage(self) -> bytes:
        assert self.reported is not None, "it was asked whether there is any"
        return b"data: %s\n\n" % orjson.dumps(self._head | {"choices": [], "usage": usage_of(self.reported)})
