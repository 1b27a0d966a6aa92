"""The model server of the gateway's benchmark: as fast as Python can be, so that it is not what is measured.

`python -m bench.gateway_upstream PORT`: some 480 bytes of JSON, or 40 events and usage where the request streams.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httptools
import uvloop

CHUNKS = 40
USAGE = {"prompt_tokens": 20, "completion_tokens": CHUNKS, "total_tokens": 20 + CHUNKS}
PLAIN = {"id": "chatcmpl-bench", "created": 1, "model": "bench"}
MESSAGE = {"role": "assistant", "content": "The quick brown fox jumps over the lazy dog. " * 4}
BODY = json.dumps(
    PLAIN | {"object": "chat.completion", "usage": USAGE}
    | {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}
).encode()  # fmt: skip
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(choices: list[object], **more: object) -> bytes:
    told = PLAIN | {"object": "chat.completion.chunk", "choices": choices} | more
    data = b"data: " + json.dumps(told, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


EVENTS = [event([{"index": 0, "delta": {"content": "word "}, "finish_reason": None}])] * CHUNKS
TAIL = [event([], usage=USAGE), b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"]


class Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        if b'"stream":true' in body or b'"stream": true' in body:
            self.pieces = iter([HEAD, *EVENTS, *TAIL])
            self.next()
        else:
            self.transport.write(WHOLE)

    def next(self) -> None:
        """One event a turn of the loop: each is a write of its own, as from a model."""
        piece = next(self.pieces, None)
        if piece is not None and not self.transport.is_closing():
            self.transport.write(piece)
            asyncio.get_running_loop().call_soon(self.next)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
