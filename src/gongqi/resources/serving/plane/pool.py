"""Connections to model servers: HTTP/1.1 by httptools over plain TCP or TLS, kept open, one exchange at a time on each.

Addresses are set by operators and checked when a connection is made: the host is resolved here, each address is held
against the rules, and the connection goes to the address that was checked, so that a name cannot mean one thing when
it is looked at and another when it is used (DNS rebinding; OWASP SSRF cheat sheet). Redirects are not followed. Answers
must come uncompressed; nothing is ever inflated. An engine of this home is reached by its socket in the home instead.

Time-outs are watched by one clock for all connections (`Pool.tick`) rather than by a timer for each exchange.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Callable

import httptools
import structlog

from gongqi.kernel.sockets import short_name
from gongqi.resources.serving.plane.snapshot import Server
from gongqi.resources.serving.plane.turn import Turn

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 60.0  # between two pieces of an answer
TOTAL_SECONDS = 900.0  # the longest answer
DRAIN_SECONDS = 2.0  # between a stream's last event and the end of its message
KEEP_SECONDS = 30.0  # an unused connection; servers commonly close after 60 to 75
KEEP_CONNECTIONS = 128  # unused ones for each server
MAX_ANSWER_BYTES = 32 << 20  # of an answer in one piece: 2,048 embeddings of 1,536 numbers as text
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 << 10
HIGH_WATER_BYTES = 256 << 10  # of a stream that its reader does not keep up with

_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)  # of Amazon and most others, Alibaba, Azure, Oracle; Amazon's and Google's by IPv6
_CARRIERS = tuple(
    map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96"))
)  # of an IPv4 address at the end
_AT_HOME = tuple(
    map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10"))
)  # RFC 8215, RFC 3879; Pythons differ on them

log = structlog.get_logger("gongqi.serving.pool")


class Failed(Exception):
    """No answer from a server. `kind`: unreachable, forbidden, timed-out, broken, too-large, cut, stopped."""

    def __init__(self, kind: str, why: str = "") -> None:
        super().__init__(f"{kind}: {why}")
        self.kind = kind


def is_allowed(address: str, *, private: bool) -> bool:
    """Whether a server may be at this address. Never where clouds keep their secrets, nor what is no host at all."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if not private and any(ip in each for each in _AT_HOME):
            return False
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and not ip.is_loopback and any(ip in each for each in _CARRIERS):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_allowed(str(inner), private=private)
    if ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return ip.is_global or (private and (ip.is_loopback or ip.is_private))


class Answer:
    """Status, headers and, unless it streams, the whole body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes | None) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Connection(asyncio.Protocol):
    """One connection. `exchange` begins an exchange; `read` gives the pieces of an answer that streams."""

    def __init__(self, pool: Pool, server: Server) -> None:
        self.server = server
        self.deadline = self.ends_at = self.idle_since = 0.0
        self.is_busy = False
        self._pool = pool
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[bool] | None = None
        self._failure: Failed | None = None
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._limit_bytes = 0
        self._streams = self._is_streaming = self._has_head = self._is_complete = self._is_paused = False
        self._is_draining = False
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._frame_bytes = 0  # that came since there was a head or a piece of a body
        self._seen_bytes = False
        self._must_close = False
        self._used = 0

    # ---- for the caller

    @property
    def is_stale(self) -> bool:
        """Whether the failure may only mean that the server had closed this connection while it was unused."""
        return self._used > 1 and not self._seen_bytes

    async def exchange(self, data: bytes, *, streams: bool, limit_bytes: int | None = None) -> Answer:
        """Send `data`; the answer's head, with its body, of `limit_bytes` at most, unless it is a stream of events.
        Raises Failed."""
        self._used += 1
        self._limit_bytes = limit_bytes or MAX_ANSWER_BYTES
        self._streams = streams
        self._is_streaming = self._has_head = self._is_complete = self._seen_bytes = False
        self._headers = {}
        self._header_bytes = self._frame_bytes = 0
        now = self._pool.now()
        self.ends_at = now + TOTAL_SECONDS
        self.deadline = min(now + self.server.first_byte_seconds, self.ends_at)
        if self._failure is not None:
            raise self._failure
        self._pool.turn.say(self._transport, data)
        await self._wait()
        status = self._parser.get_status_code()
        if self._is_streaming:
            return Answer(status, self._headers, None)
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        return Answer(status, self._headers, body)

    async def read(self) -> bytes:
        """The next bytes of a stream, b"" at its end. Raises Failed."""
        while not self._pieces:
            if self._is_complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        if self._is_paused:
            self._is_paused = False
            self.deadline = min(self._pool.now() + IDLE_SECONDS, self.ends_at)  # the reader was slow, not the server
            self._transport.resume_reading()
        return data

    def release(self) -> None:
        """Give the connection back; it is closed unless its exchange has come to a clean end."""
        self.is_busy = False
        if self._is_complete and not self._must_close and self._failure is None and not self._pieces:
            self._pool.keep(self)
        else:
            self.close()

    def release_after_end(self) -> None:
        """Give back the connection of a stream that has said its last word: the end of its message may still be on
        the way, and is waited for, so that the connection can be used again."""
        if self._is_complete or self._failure is not None:
            self._pieces.clear()
            self.release()
            return
        self._is_draining = True
        self.deadline = self._pool.now() + DRAIN_SECONDS

    def close(self) -> None:
        self._pool.drop(self)
        if self._transport is not None:
            self._transport.abort()

    def fail(self, failure: Failed) -> None:
        """End what is under way; whoever waits is told why."""
        if self._failure is None:
            self._failure = failure
        if self._is_draining:
            self.close()
        self._wake()

    def _wait(self) -> asyncio.Future[bool]:
        self._waiter = self._pool.loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            if self._failure is not None and not self._is_complete:
                waiter.set_exception(self._failure)
            else:
                waiter.set_result(True)

    # ---- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not self.is_busy:  # nobody asked
            self.close()
            return
        self._seen_bytes = True
        self._frame_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(Failed("broken", type(error).__name__))
            return
        if self._frame_bytes > MAX_HEADER_BYTES:  # the parser holds a header until all of it has come
            self.fail(Failed("broken", "headers"))
            return
        if self._is_streaming:
            self.deadline = min(self._pool.now() + IDLE_SECONDS, self.ends_at)
            if self._pieces or self._is_complete:
                self._wake()
            if self._held > HIGH_WATER_BYTES and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._must_close = True
        if not self.is_busy:
            self._pool.drop(self)
            return
        has_length = b"content-length" in self._headers or b"transfer-encoding" in self._headers
        if self._has_head and not has_length:  # its end is the end of the connection
            self._is_complete = True
            self._wake()
        else:
            self.fail(Failed("cut" if self._seen_bytes else "unreachable", "connection lost"))

    # ---- httptools'

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if len(self._headers) >= MAX_HEADERS or self._header_bytes > MAX_HEADER_BYTES:
            self.fail(Failed("broken", "headers"))
            return
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._frame_bytes = 0
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
            return
        if self._headers.get(b"content-encoding", b"identity") != b"identity":
            self.fail(Failed("broken", "compressed"))
            return
        self._has_head = True
        kind = self._headers.get(b"content-type", b"")
        if self._streams and status == 200 and kind.startswith(b"text/event-stream"):
            self._is_streaming = True
            self._wake()

    def on_body(self, data: bytes) -> None:
        self._frame_bytes = 0
        self._pieces.append(data)
        self._held += len(data)
        if not self._is_streaming and self._held > self._limit_bytes:
            self.fail(Failed("too-large"))

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return
        self._is_complete = True
        self._must_close = self._must_close or not self._parser.should_keep_alive()
        if self._is_draining:
            self._is_draining = False
            self._pieces.clear()
            self.release()
        self._wake()


class Pool:
    """All connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.loop = loop
        self.now = clock
        self.turn = Turn(loop)
        self._kept: dict[str, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._tls = ssl.create_default_context()

    def kept(self, server: Server) -> Connection | None:
        """A connection that is free."""
        kept = self._kept.get(server.id)
        while kept:
            connection = kept.pop()
            if connection.server is server or connection.server == server:  # not of an address it had before
                connection.server = server
                connection.is_busy = True
                return connection
            connection.close()
        return None

    async def fresh(self, server: Server) -> Connection:
        """A new connection. Raises Failed."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connect(server)
        except TimeoutError:
            raise Failed("unreachable", "connect timed out") from None
        connection.is_busy = True
        self._open.add(connection)
        return connection

    def keep(self, connection: Connection) -> None:
        kept = self._kept.get(connection.server.id)
        if kept is None:
            kept = self._kept[connection.server.id] = []
        if len(kept) >= KEEP_CONNECTIONS:
            connection.close()
            return
        connection.idle_since = self.now()
        kept.append(connection)

    def drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        kept = self._kept.get(connection.server.id, [])
        if connection in kept:
            kept.remove(connection)

    def tick(self, now: float) -> None:
        for connection in list(self._open):
            if connection.is_busy and connection.deadline < now:
                connection.fail(Failed("timed-out"))
            elif not connection.is_busy and now - connection.idle_since > KEEP_SECONDS:
                connection.close()

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()

    async def _connect(self, server: Server) -> Connection:
        if server.socket is not None:
            return await self._connect_within(server, server.socket)
        addresses = await self._resolve(server)
        failure: OSError | None = None
        for address in addresses:
            try:
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self, server), address, server.port, ssl=self._tls if server.tls else None,
                    server_hostname=server.host if server.tls else None,
                )  # fmt: skip
                return connection
            except OSError as error:  # ssl.SSLError is one
                failure = error
        raise Failed("unreachable", str(failure)) from failure

    async def _connect_within(self, server: Server, socket: str) -> Connection:
        try:
            with short_name(socket) as name:
                _, connection = await self.loop.create_unix_connection(lambda: Connection(self, server), name)
        except OSError as error:  # it is starting, or has died, or this is another home
            raise Failed("unreachable", str(error)) from error
        return connection

    async def _resolve(self, server: Server) -> list[str]:
        try:
            ipaddress.ip_address(server.host)
            found = [server.host]
        except ValueError:
            try:
                answers = await self.loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise Failed("unreachable", f"no address: {error}") from error
            found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
        allowed = [address for address in found if is_allowed(address, private=server.private)]
        if not allowed:
            log.warning("a model server's address is not allowed", server=server.name)
            raise Failed("forbidden")
        return allowed
