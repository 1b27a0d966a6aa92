"""Connections out of the house, to places that an operator has named and that may be lied about by everybody on the way.

- An address is checked when it is connected to, not when it is looked up before: what a name resolves to must be public
  (RFC 6890), whatever the name is. A source that an operator keeps inside may be at a private address, at its own host
  and port alone.
- A redirect is followed a few times, within the endpoint, or by https to anywhere public. The token stays at the endpoint.
- Nothing is compressed, so that a length is a length; an answer is read with a bound, a file in pieces.
- Failures are one of two: the caller's to fix (Refused), or of the moment (Unavailable, with the other's Retry-After).

Never within a transaction: the other side decides how long it takes.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore
import orjson

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.hub.counting import MIRROR_AGENT

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # between two pieces: a line may be thin, but not silent
AGENT = f"{MIRROR_AGENT}1"  # what is copied here is not a download there: its readers are ours
MAX_REDIRECTS = 5
MAX_ANSWER_BYTES = 16 << 20  # a page of a thousand files is 400 kB
MAX_RETRY_SECONDS = 3600
RETRY_SECONDS = 5
KEPT_CONNECTIONS = 8
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in IPv6 clothes (RFC 6052)


def is_public(address: str) -> bool:
    """Whether anybody on the Internet may be at this address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped or ip.sixtofour:
            ip = ip.ipv4_mapped or ip.sixtofour or ip
        elif ip in NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


class _Backend(httpcore.NetworkBackend):
    """Connects to the address that it has checked, so that a name cannot answer twice in two ways."""

    def __init__(self, inside: tuple[str, int] | None) -> None:
        self._inside = inside
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        if (host, port) != self._inside and not all(map(is_public, addresses)):
            raise Refused("hub.source-address-private", host=host[:200])
        return self._sockets.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        raise Refused("hub.source-address-private", host=path[:200])


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `url` is where from in the end."""

    status: int
    headers: Mapping[str, str]
    url: str
    chunks: Iterator[bytes]


class Outside:
    """One endpoint, as one source is allowed to reach it. May be used by many threads at once."""

    def __init__(self, endpoint: str, *, token: str | None = None, is_inside: bool = False) -> None:
        self.endpoint = endpoint
        self._token = token
        self._origin = _origin(endpoint)
        _, host, port = self._origin
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            network_backend=_Backend((host, port) if is_inside else None),
            max_keepalive_connections=KEPT_CONNECTIONS,
            keepalive_expiry=30,
        )

    @contextmanager
    def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, follow: bool = True
    ) -> Iterator[Answer]:
        """The answer to one request, after redirects. Raises Refused hub.source-*, Unavailable hub.source-unreachable."""
        url = self.endpoint + path if path.startswith("/") else path
        for _ in range(MAX_REDIRECTS + 1):
            sent = {"user-agent": AGENT, "accept-encoding": "identity", "accept": "*/*", **(headers or {})}
            if self._token and _origin(url) == self._origin:
                sent["authorization"] = f"Bearer {self._token}"
            with self._open(method, url, sent) as response:
                named = {
                    name.decode("ascii", "replace").lower(): value.decode("latin-1") for name, value in response.headers
                }
                to = named.get("location", "")
                if response.status in (301, 302, 303, 307, 308) and to and (follow or self.is_home(urljoin(url, to))):
                    url = self._allowed(urljoin(url, to))
                    continue
                yield Answer(response.status, named, url, _pieces(response))
                return
        raise Refused("hub.source-redirects", limit=MAX_REDIRECTS)

    def read(self, path: str, *, limit_bytes: int = MAX_ANSWER_BYTES) -> tuple[Answer, bytes]:
        """A whole answer that is not a file's."""
        held = bytearray()
        with self.ask(path) as answer:
            for chunk in answer.chunks:
                held += chunk
                if len(held) > limit_bytes:
                    raise Refused("hub.source-answer-too-large", limit_bytes=limit_bytes)
            return answer, bytes(held)

    def read_json(self, path: str) -> tuple[Answer, Any]:
        """A whole answer that must be JSON. Raises also what `check` raises."""
        answer, content = self.read(path)
        check(answer)
        try:
            return answer, orjson.loads(content)
        except ValueError as error:
            raise Refused("hub.source-answer-odd", what="JSON") from error

    def is_home(self, url: str) -> bool:
        """Whether this address is of the endpoint itself."""
        return _origin(url) == self._origin

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def _open(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[httpcore.Response]:
        waits = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": READ_SECONDS, "pool": READ_SECONDS}
        try:
            with self._pool.stream(
                method, url, headers=list(headers.items()), extensions={"timeout": waits}
            ) as response:
                yield response
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise unreachable(detail=f"{type(error).__name__}: {error}") from error

    def _allowed(self, url: str) -> str:
        """An address that we were sent to. Where it leads is checked again when it is connected to."""
        if not (self.is_home(url) or _origin(url)[0] == "https"):
            raise Refused("hub.source-redirect-refused", host=(urlsplit(url).hostname or "")[:200])
        return url


def unreachable(*, retry_after_seconds: int = RETRY_SECONDS, detail: str | None = None) -> Unavailable:
    return Unavailable("hub.source-unreachable", retry_after_seconds=retry_after_seconds, detail=detail)


def check(answer: Answer) -> None:
    """Raises for an answer that is none: Refused hub.source-absent, hub.source-closed; Unavailable otherwise."""
    if answer.status < 300:
        return
    if answer.status in (404, 410):
        raise Refused("hub.source-absent", status=answer.status)
    if answer.status in (401, 403, 451):
        raise Refused("hub.source-closed", status=answer.status)
    if answer.status == 429 or answer.status >= 500:
        after = answer.headers.get("retry-after", "")
        wait = (
            min(int(after), MAX_RETRY_SECONDS)
            if after.isascii() and after.isdigit() and len(after) < 6
            else RETRY_SECONDS
        )
        raise unreachable(retry_after_seconds=max(wait, 1), detail=f"status {answer.status}")
    raise Refused("hub.source-answer-odd", what=f"status {answer.status}")


def _pause(headers: Mapping[str, str]) -> int:
    """How long the other asks us to wait, within reason."""
    after = headers.get("retry-after", "")
    return min(max(int(after), 1), MAX_RETRY_SECONDS) if re.fullmatch(r"[0-9]{1,6}", after) else RETRY_SECONDS


def _origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port). Raises Refused hub.source-endpoint-invalid."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError as error:
        raise Refused("hub.source-endpoint-invalid", endpoint=url[:200]) from error
    if not (parts.hostname and port) or parts.username or parts.password:
        raise Refused("hub.source-endpoint-invalid", endpoint=url[:200])
    return parts.scheme, parts.hostname, port


def _pieces(response: httpcore.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_stream()
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise unreachable(detail=f"{type(error).__name__}: {error}") from error
