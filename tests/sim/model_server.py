"""A model server that does what it is told, also everything bad: scripted by the name of the model asked for.

`python tests/sim/model_server.py PORT` serves by hand. A model's name is a list of words divided by `+`: `words=20` answers
that many tokens, `stall`, `cut=3` (end of file after three events), `half=3` (in the middle of the fourth), `nousage`,
`absurd`, `negative`, `broken` (no JSON), `refuse` (drops the connection), `status=500`, `after=7` (Retry-After),
`slow=0.01` (seconds between events), `gzip` (a compressed answer), `redirect`, `dribble` (one byte at a time), `late=1`
(seconds before the answer), `close` (no keep-alive), `nodone` (no [DONE]), `crlf`, `think` (thought before the answer),
`calls=2` (so many tools are called, if there are any), `finish=length` (the reason of the end), `says=data:` (one word
more), `cached` (three tokens of the prompt were), `fails` (an error in the middle of a stream), `mangled` (arguments that
are no JSON), `errs` (an error under the status 200, of a stream in its first event), `nothing` (a
stream without events), `echo=3` (what was asked last, in
pieces of three characters).

Every answer is real in form: chat completions, completions, embeddings and responses as OpenAI's API has them, messages
as Anthropic's has them, with usage counted from the words that were sent. `Upstream.seen` keeps the requests, `bodies` their
bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

PROMPT_TOKENS = 7
THOUGHTS = ("first ", "then ")


class Upstream:
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.open = 0
        self.left = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left += 1
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        sent = await reader.readexactly(int(fields.get(b"content-length", b"0")))
        body = json.loads(sent or b"{}")
        self.seen.append(body)
        self.bodies.append(sent)
        self.heads.append(head)
        path = unquote(head.split(b" ", 2)[1].decode())
        model = _named(path) if "/models/" in path else body["model"]
        words = (each.partition("=") for each in str(model).split("+"))
        does = {word: value for word, _, value in words}
        answer = asyncio.ensure_future(self._answer(path, body, does, writer))
        gone = asyncio.ensure_future(_closed(reader))
        await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not answer.done():
            answer.cancel()
            self.left += 1
            return False
        return answer.result() and "close" not in does

    async def _answer(self, path: str, body: dict[str, Any], does: dict[str, str], writer: Any) -> bool:
        if "refuse" in does:
            writer.transport.abort()
            return False
        if "late" in does:
            await asyncio.sleep(float(does["late"]))
        if "stall" in does:
            await asyncio.sleep(3600)
        if "status" in does:
            return await self._fail(int(does["status"]), does, writer)
        if "redirect" in does:
            writer.write(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n")
            return True
        if "errs" in does:
            error = {"type": "error", "error": {"message": "scripted", "type": "scripted"}}
            if not body.get("stream"):
                return await self._whole(writer, does, error)
            head = b"" if "/completions" in path.removeprefix("/v1/chat") else b"event: error\n"
            return await self._send(
                writer, does, [b"%sdata: %s\n\ndata: [DONE]\n\n" % (head, json.dumps(error).encode())]
            )
        if "/models/" in path:
            return await self._whole(writer, does, _inference(path, body))
        if path.endswith("/embeddings"):
            return await self._whole(writer, does, _embeddings(body, does))
        if path.endswith("/count_tokens"):
            return await self._whole(writer, does, {"input_tokens": 42})
        count = int(does.get("words") or 5)
        words = [f"w{number} " for number in range(count)]
        if "echo" in does:
            asked, size = _asked(body), int(does["echo"])
            words = [asked[at : at + size] for at in range(0, len(asked), size)]
        if "says" in does:
            words.append(does["says"].replace("_", " "))
        if "nothing" in does and body.get("stream"):
            return await self._send(writer, does, [])
        if path.endswith("/responses"):
            if body.get("stream"):
                return await self._send(writer, does, _response_events(body, does, words))
            return await self._whole(writer, does, _response(body, does, words))
        if path.endswith("/messages"):
            if body.get("stream"):
                return await self._send(writer, does, _message_events(body, does, words))
            return await self._whole(writer, does, _message(body, does, words))
        if body.get("stream"):
            return await self._stream(path, body, does, words, writer)
        return await self._whole(writer, does, _completion(path, body, does, words))

    async def _fail(self, status: int, does: dict[str, str], writer: Any) -> bool:
        error = json.dumps({"error": {"message": f"scripted {status}", "type": "scripted", "code": None}}).encode()
        after = f"retry-after: {does['after']}\r\n".encode() if "after" in does else b""
        head = b"HTTP/1.1 %d Scripted\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
        writer.write(head % (status, after, len(error)) + error)
        await writer.drain()
        return True

    async def _whole(self, writer: Any, does: dict[str, str], answer: dict[str, Any]) -> bool:
        body = b"{not json" if "broken" in does else json.dumps(answer, separators=(",", ":")).encode()
        more = b""
        if "gzip" in does:
            body, more = gzip.compress(body), b"content-encoding: gzip\r\n"
        data = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n" % (more, len(body))
        data += body
        if "cut" in does:
            writer.write(data[: len(data) - 20])
            await writer.drain()
            return False
        if "dribble" in does:
            for byte in data:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
        else:
            writer.write(data)
        await writer.drain()
        return True

    async def _stream(
        self, path: str, body: dict[str, Any], does: dict[str, str], words: list[str], writer: Any
    ) -> bool:
        chat = path.endswith("/chat/completions")
        kind = "chat.completion.chunk" if chat else "text_completion"
        line = b"\r\n\r\n" if "crlf" in does else b"\n\n"
        plain = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": body["model"]}

        def event(choices: list[Any], **more: Any) -> bytes:
            return b"data: " + json.dumps(plain | {"choices": choices} | more, separators=(",", ":")).encode() + line

        def said(word: str) -> list[Any]:
            delta = {"delta": {"content": word}} if chat else {"text": word}
            return [{"index": 0, "finish_reason": None, **delta}]

        def delta(**more: Any) -> list[Any]:
            return [{"index": 0, "finish_reason": None, "delta": more}]

        events = [event(delta(role="assistant", content=""))] if chat else []
        if "think" in does:
            events += [event(delta(reasoning_content=thought)) for thought in THOUGHTS]
        called = _called(body, does) if chat else []
        for number, call in enumerate(called):
            told = call["function"]
            begun = {"index": number, "id": call["id"], "type": "function", "function": {**told, "arguments": ""}}
            events.append(event(delta(tool_calls=[begun])))
            for part in (told["arguments"][:5], told["arguments"][5:]):
                events.append(event(delta(tool_calls=[{"index": number, "function": {"arguments": part}}])))
        if not called:
            events += [event(said(word)) for word in words]
        if "fails" in does:
            events.append(b'data: {"error": {"message": "scripted"}}' + line)
        finish = does.get("finish") or ("tool_calls" if called else "stop")
        end = {"index": 0, "finish_reason": finish, **({"delta": {}} if chat else {"text": ""})}
        events.append(event([end]))
        if (body.get("stream_options") or {}).get("include_usage") and "nousage" not in does:
            events.append(event([], usage=_usage(does, len(words))))
        if "nodone" not in does:
            events.append(b"data: [DONE]" + line)
        return await self._send(writer, does, events)

    async def _send(self, writer: Any, does: dict[str, str], events: list[bytes]) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        cut = int(does.get("cut") or does.get("half") or -1) + 1  # the first event says only who speaks
        for number, data in enumerate(events):
            if number == cut and "half" in does:
                _chunk(writer, data[: len(data) // 2])
                await writer.drain()
            if number == cut and cut:
                await asyncio.sleep(0.05)
                return False
            if "stallat" in does and number == int(does["stallat"]) + 1:
                await asyncio.sleep(3600)
            if "dribble" in does:
                for byte in data:
                    _chunk(writer, bytes((byte,)))
                    await writer.drain()
            else:
                _chunk(writer, data)
            await writer.drain()
            if "slow" in does:
                await asyncio.sleep(float(does["slow"]))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _asked(body: dict[str, Any]) -> str:
    """The last text of a request, in whichever API."""
    last = body["messages"][-1]["content"] if "messages" in body else body.get("input", body.get("prompt"))
    while not isinstance(last, str):
        last = last[-1] if isinstance(last, list) else last.get("text", last.get("content"))
    return last


async def _closed(reader: asyncio.StreamReader) -> None:
    """Until the other side has gone. What it sends meanwhile would be a pipelined request, which no client here sends."""
    while not reader.at_eof():
        await asyncio.sleep(0.01)


def _chunk(writer: Any, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _usage(does: dict[str, str], output: int) -> dict[str, Any]:
    if "absurd" in does:
        return {"prompt_tokens": 1_000_000, "completion_tokens": 2_000_000, "total_tokens": 3_000_000}
    if "negative" in does:
        return {"prompt_tokens": -5, "completion_tokens": output, "total_tokens": output}
    cached = {"prompt_tokens_details": {"cached_tokens": 3}} if "cached" in does else {}
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": output,
        "total_tokens": PROMPT_TOKENS + output,
        **cached,
    }


def _completion(path: str, body: dict[str, Any], does: dict[str, str], words: list[str]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(words)}
    if called := _called(body, does):
        message |= {"content": None, "tool_calls": called}
    if "think" in does:
        message["reasoning_content"] = "".join(THOUGHTS)
    finish = does.get("finish") or ("tool_calls" if called else "stop")
    if (body.get("response_format") or {}).get("type") == "json_schema":
        message["content"] = json.dumps({"city": "西安"})
    told = {"message": message} if path.endswith("/chat/completions") else {"text": "".join(words)}
    answer = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [{"index": 0, "finish_reason": finish, "logprobs": None, **told}],
    }  # fmt: skip
    return answer if "nousage" in does else answer | {"usage": _usage(does, len(words))}


def _called(body: dict[str, Any], does: dict[str, str]) -> list[dict[str, Any]]:
    """The first tool, so many times."""
    if not body.get("tools"):
        return []
    arguments = "{not" if "mangled" in does else json.dumps({"city": "Xi'an"})
    told = {"name": body["tools"][0]["function"]["name"], "arguments": arguments}
    return [{"id": f"t{n + 1}", "type": "function", "function": told} for n in range(int(does.get("calls") or 1))]


def _message(body: dict[str, Any], does: dict[str, str], words: list[str]) -> dict[str, Any]:
    """As Anthropic's Messages answer."""
    content: list[Any] = [{"type": "text", "text": "".join(words)}]
    if body.get("tools"):
        content = [{"type": "tool_use", "id": "tu1", "name": body["tools"][0]["name"], "input": {"city": "Xi'an"}}]
    told = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": content}
    told |= {"stop_reason": "tool_use" if body.get("tools") else "end_turn", "stop_sequence": None}
    return told if "nousage" in does else told | {"usage": _message_usage(does, len(words))}


def _message_usage(does: dict[str, str], output: int) -> dict[str, Any]:
    """Ten tokens of the prompt where some were cached: four fresh, one written to the cache, five read from it."""
    cache = {"cache_creation_input_tokens": 1, "cache_read_input_tokens": 5} if "cached" in does else {}
    return {"input_tokens": 4 if "cached" in does else PROMPT_TOKENS, "output_tokens": output, **cache}


def _message_events(body: dict[str, Any], does: dict[str, str], words: list[str]) -> list[bytes]:
    whole = _message(body, does, words)
    usage = whole.pop("usage", None)
    begun = {**whole, "content": [], "stop_reason": None} | ({"usage": {**usage, "output_tokens": 1}} if usage else {})
    [block] = whole["content"]
    if block["type"] == "tool_use":
        empty, deltas = (
            {**block, "input": {}},
            [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}],
        )
    else:
        empty, deltas = {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in words]
    ended = {"output_tokens": usage["output_tokens"]} if usage else {"output_tokens": None}
    told = [
        ("message_start", {"message": begun}),
        ("content_block_start", {"index": 0, "content_block": empty}),
        ("ping", {}),
        *(("content_block_delta", {"index": 0, "delta": delta}) for delta in deltas),
        *([("error", {"error": {"type": "overloaded_error", "message": "scripted"}})] if "fails" in does else []),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None}, "usage": ended}),
        ("message_stop", {}),
    ]
    return [f"event: {name}\ndata: {json.dumps({'type': name, **more})}\n\n".encode() for name, more in told]


def _response(body: dict[str, Any], does: dict[str, str], words: list[str]) -> dict[str, Any]:
    """As OpenAI's Responses answer."""
    text = {"type": "output_text", "text": "".join(words), "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    told = {
        "id": f"resp_{len(json.dumps(body))}", "object": "response", "created_at": 1, "status": "completed",
        "error": None, "incomplete_details": None, "model": body["model"], "output": [item], "tools": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "store": body["store"],
    }  # fmt: skip
    details = {"input_tokens_details": {"cached_tokens": 3 if "cached" in does else 0}}
    counts = {"input_tokens": PROMPT_TOKENS, "output_tokens": len(words), "total_tokens": PROMPT_TOKENS + len(words)}
    return told if "nousage" in does else told | {"usage": counts | details}


def _response_events(body: dict[str, Any], does: dict[str, str], words: list[str]) -> list[bytes]:
    whole = _response(body, does, words)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {**whole["output"][0], "content": []}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    told: list[tuple[str, dict[str, Any]]] = [("created", {"response": begun})]
    told.append(("output_item.added", {"output_index": 0, "item": item}))
    told.append(("content_part.added", {**place, "part": part}))
    told += [("output_text.delta", {**place, "delta": word, "logprobs": []}) for word in words]
    if "fails" in does:
        told.append(("failed", {"response": {**whole, "status": "failed"}}))
    told += [
        ("output_text.done", {**place, "text": "".join(words), "logprobs": []}),
        ("completed", {"response": whole}),
    ]
    events = [{"type": f"response.{name}", "sequence_number": n, **more} for n, (name, more) in enumerate(told)]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def _embeddings(body: dict[str, Any], does: dict[str, str]) -> dict[str, Any]:
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": number, "embedding": [0.1, 0.2]} for number, _ in enumerate(given)]
    answer = {"object": "list", "data": data, "model": body["model"]}
    counts = {"prompt_tokens": 4 * len(given), "total_tokens": 4 * len(given)}
    return answer if "nousage" in does else answer | {"usage": counts}


def _named(path: str) -> str:
    return path.split("/models/")[1].split("/")[0]


def _inference(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """As the Open Inference Protocol answers: the first input doubled, a model's metadata, or that it is ready."""
    model = _named(path)
    if path.endswith("/ready"):
        return {"name": model, "ready": True}
    if not path.endswith("/infer"):
        port = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        return {
            "name": model,
            "versions": ["1"],
            "platform": "sim",
            "inputs": [port],
            "outputs": [port | {"name": "y"}],
        }
    given = body["inputs"][0]
    output = {**given, "name": "y", "data": [2 * value for value in given["data"]]}
    return {"model_name": model, "id": body.get("id"), "outputs": [output]}


@contextlib.contextmanager
def upstream() -> Iterator[Upstream]:
    """A server on a thread of its own, until the block ends."""
    made = Upstream()
    started = threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
        made.port = server.sockets[0].getsockname()[1]
        started.set()
        await server.serve_forever()

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    yield made
    loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
    thread.join(5)


async def _by_hand(port: int) -> None:
    server = await asyncio.start_server(Upstream().handle, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_by_hand(int(sys.argv[1])))
