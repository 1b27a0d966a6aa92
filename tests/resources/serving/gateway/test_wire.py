"""The protocol of a process that is a gateway alone: what HTTP/1.1 asks of a server, and what a hostile caller may try."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gongqi.resources.serving.plane import wire
from gongqi.resources.serving.plane.turn import Turn
from gongqi.resources.serving.plane.wire import Wires
from tests.house.conftest import wait_for

PIECE = b"x" * 65_536
LARGE = 32 << 20
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"


class Echo:
    """Answers with what it was asked: `/` at once, `/stream` in events, `/refuse` unread, `/flood` much, `/hold` never."""

    def __init__(self) -> None:
        self.left = threading.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope["path"]
        body, more = b"", path not in ("/refuse", "/leave")
        if path == "/leave":
            await asyncio.sleep(3600)
        if path == "/later":
            await asyncio.sleep(0.3)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        if path == "/hold":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
            return
        if path == "/break":
            raise RuntimeError("as asked")
        if path == "/headers":
            body = b" ".join(name for name, _ in scope["headers"])
        if path == "/large":
            body = b"x" * LARGE
        told = body or f"{scope['method']} {path} {scope['query_string'].decode()}".encode()
        if path in ("/stream", "/flood"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(3 if path == "/stream" else 160):
                await send(
                    {"type": "http.response.body", "body": told if path == "/stream" else PIECE, "more_body": True}
                )
                await asyncio.sleep(0)
            await send({"type": "http.response.body"})
            return
        length = [(b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": told})


class Place:
    """A loop that serves; `say` opens a connection, sends, and hears all until the other side closes."""

    def __init__(self) -> None:
        self.app = Echo()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def listen() -> Wires:
            self.wires = Wires(self.app, self._loop)
            self._server = await self._loop.create_server(self.wires, "127.0.0.1", 0)
            return self.wires

        self.do(listen())
        self.port = self._server.sockets[0].getsockname()[1]

    def tasks(self) -> list[Any]:
        return [each.task for each in list(self.wires.open) if each.exchange is not None]

    async def give_up(self) -> None:
        for task in self.tasks():
            task.cancel()

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def connect(self, data: bytes = b"") -> socket.socket:
        line = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        line.sendall(data)
        return line

    def say(self, data: bytes) -> bytes:
        with self.connect(data) as line:
            return everything(line)

    def close(self) -> None:
        async def end() -> None:
            self._server.close()  # on its own loop: it counts its connections there
            tasks = self.tasks()
            await self.wires.close(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def everything(line: socket.socket, least: int | None = None) -> bytes:
    """All until the other side closes, or as many bytes as are waited for."""
    heard = b""
    while (least is None or len(heard) < least) and (data := line.recv(65_536)):
        heard += data
    return heard


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


def get(path: str, *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: x", *headers, "", ""]).encode()


def test_one_connection_carries_one_exchange_after_the_other(place: Place) -> None:
    with place.connect(get("/a%20b?c=d")) as line:
        first = line.recv(65_536)
        assert first.startswith(b"HTTP/1.1 200 OK\r\ndate: ") and first.endswith(b"\r\n\r\nGET /a b c=d")
        line.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe")
        line.sendall(b"llo")
        assert line.recv(65_536).endswith(b"\r\n\r\nhello")
        line.sendall(get("/stream", "connection: close"))
        told = everything(line)
    assert b"transfer-encoding: chunked" in told and b"connection: close" in told
    assert told.endswith(3 * b"c\r\nGET /stream \r\n" + b"0\r\n\r\n")


def test_a_request_that_does_not_wait_for_its_turn_is_not_taken(place: Place) -> None:
    told = place.say(get("/first") + get("/second"))
    assert told.count(b"HTTP/1.1 200") == 1 and told.endswith(b"GET /first ")


def test_an_old_client_is_answered_and_hung_up_on(place: Place) -> None:
    assert place.say(get("/", version="1.0")).endswith(b"GET / ")


def test_a_body_that_waits_to_be_asked_for_is_asked_for(place: Place) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    with place.connect(head) as line:
        assert line.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(b"hi")
        assert everything(line).endswith(b"\r\n\r\nhi")


def test_what_is_left_of_a_body_after_its_refusal_is_no_request(place: Place) -> None:
    smuggled = get("/smuggled")
    head = b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (len(smuggled) + 1)
    told = place.say(head)
    assert told.count(b"HTTP/1.1 200") == 1 and told.endswith(b"POST /refuse ")
    told = place.say(head + smuggled)
    assert told.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"what\r\n\r\n", b"400 Bad Request"),
        (get("/", "content-length: 1", "transfer-encoding: chunked"), b"400 Bad Request"),
        (get("/", "a: " + "b" * 40_000), b"431 Request Header Fields Too Large"),
        (get("/" + "a" * 40_000), b"431 Request Header Fields Too Large"),
        (get("/", *["a: " + "b" * 1000] * 40), b"431 Request Header Fields Too Large"),
    ],
)
def test_a_head_that_is_none_is_turned_away(place: Place, request_: bytes, status: bytes) -> None:
    told = place.say(request_)
    assert told.startswith(b"HTTP/1.1 " + status) and b"connection: close" in told


def test_a_whole_head_is_weighed_without_the_body_that_came_with_it(place: Place) -> None:
    body = b"x" * 2 * wire.MAX_HEAD_BYTES
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert place.say(head + body).startswith(b"HTTP/1.1 200")


def test_what_is_said_in_one_turn_is_said_at_its_end_and_not_to_who_has_left() -> None:
    async def say() -> tuple[bytes, bytes, bytes]:
        loop = asyncio.get_running_loop()
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        (stays, _), (leaves, _) = [await loop.connect_accepted_socket(asyncio.Protocol, each) for each in ours]
        turn = Turn(loop)
        for transport, data in ((stays, b"one "), (leaves, b"lost"), (stays, b"two ")):
            turn.say(transport, data)
        leaves.abort()
        for each in theirs:
            each.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs[0].recv(100)
        await asyncio.sleep(0.01)
        told = theirs[0].recv(100)
        turn.say(stays, b"last")
        turn.end()
        stays.close()
        await asyncio.sleep(0.01)
        try:
            return told, theirs[0].recv(100), theirs[1].recv(100)
        finally:
            for each in theirs:
                each.close()

    assert asyncio.run(say()) == (b"one two ", b"last", b"")


def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(wire, "TICK_SECONDS", 0.05)
    place = Place()
    assert place.say(b"GET / HTTP/1.1\r\nhost:") == b""
    place.close()


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nhost: ", CHUNKED + b"1\r\nx\r\n0\r\nlast: "])
def test_a_header_without_end_is_not_waited_for(place: Place, head: bytes) -> None:
    with place.connect(head) as line, pytest.raises(ConnectionError):
        for _ in range(4096):  # 64 MiB
            line.sendall(b"x" * 16_384)


@pytest.mark.heavy
def test_a_body_that_nobody_reads_is_not_taken_from_the_line(place: Place) -> None:
    with place.connect(b"POST /leave HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n") as line:
        line.settimeout(1.0)
        with pytest.raises(TimeoutError):
            for _ in range(4096):
                line.sendall(b"x" * 16_384)
        [held] = [each.exchange._held for each in place.wires.open]
        assert held <= 2 * wire.MAX_UNREAD_BYTES
    body = b"x" * 1_000_000
    with place.connect(b"POST /later HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)) as line:
        assert everything(line, len(body)).endswith(body)
        line.sendall(get("/again"))
        assert line.recv(65_536).endswith(b"GET /again ")


def test_a_trailer_is_no_header(place: Place) -> None:
    head = CHUNKED.replace(b"POST /", b"POST /headers")
    told = place.say(head + b"2\r\nhi\r\n0\r\nx-api-key: stolen\r\n\r\n")
    assert told.endswith(b"host transfer-encoding connection")


def test_an_answer_to_head_has_no_body(place: Place) -> None:
    for path in ("/", "/stream"):
        told = place.say(get(path, "connection: close").replace(b"GET", b"HEAD"))
        assert told.startswith(b"HTTP/1.1 200 OK") and told.endswith(b"\r\n\r\n") and told.count(b"\r\n\r\n") == 1


def test_an_old_client_is_sent_no_chunks(place: Place) -> None:
    told = place.say(get("/stream", "connection: keep-alive", version="1.0"))
    head, _, body = told.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head and body == 3 * b"GET /stream "


def test_an_answer_that_is_given_up_ends_its_connection(place: Place) -> None:
    with place.connect(get("/hold")) as line:
        wait_for(lambda: tasks if (tasks := place.tasks()) else None)
        place.do(place.give_up())
        assert everything(line) == b""


@pytest.mark.heavy
def test_who_does_not_take_an_answer_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(wire, "TICK_SECONDS", 0.05)
    with place.connect(get("/large")):
        wait_for(lambda: True if place.wires.open else None)
        wait_for(lambda: True if not place.wires.open else None)
    with place.connect(get("/large", "connection: close")) as line:  # who takes some, however slowly, is
        heard = line.recv(1 << 20)
        while piece := line.recv(1 << 20):
            heard += piece
            time.sleep(0.01)
    assert heard.count(b"x") == LARGE


def test_more_connections_than_are_taken_are_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_CONNECTIONS", 1)
    with place.connect(get("/")) as line:
        assert line.recv(65_536)
        heard = b""
        with contextlib.suppress(ConnectionError):  # what was sent before the end is a reset, what comes after is not
            heard = place.say(get("/"))
        assert heard == b""


def test_the_application_hears_that_its_caller_has_left(place: Place) -> None:
    with place.connect(get("/hold")):
        assert not place.app.left.wait(0.1)
    assert place.app.left.wait(20)


def test_an_answer_that_breaks_ends_the_connection(place: Place) -> None:
    with contextlib.suppress(ConnectionError):
        assert place.say(get("/break")) == b""


def test_a_slow_reader_slows_the_writer_and_gets_all(place: Place) -> None:
    with place.connect(get("/flood", "connection: close")) as line:
        threading.Event().wait(0.3)
        [held] = [each.transport.get_write_buffer_size() for each in place.wires.open]
        assert 0 < held < 4 * len(PIECE), "what is not read is not written"
        assert everything(line).count(b"x") == 160 * len(PIECE)


def test_a_server_that_ends_waits_for_the_rest_of_a_request(place: Place) -> None:
    with place.connect(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe") as line:
        wait_for(lambda: tasks if (tasks := place.tasks()) else None)
        closing = threading.Thread(target=lambda: place.do(place.wires.close(20)))
        closing.start()
        time.sleep(0.1)
        line.sendall(b"llo")
        assert everything(line).endswith(b"\r\n\r\nhello")
        closing.join()


def test_a_server_that_ends_lets_what_is_under_way_end(place: Place) -> None:
    with place.connect(get("/flood")) as line, place.connect(get("/")) as idle:
        assert idle.recv(65_536)
        closing = threading.Thread(target=lambda: place.do(place.wires.close(20)))
        closing.start()
        assert everything(line).count(b"x") == 160 * len(PIECE)
        assert idle.recv(1) == b""
        closing.join()
