"""The APIs that are spoken at the door: what the plane needs to know of each, and the ways from each to a model server.

An address of the door has a `Dialect`: how a request is read and bounded, and how a refusal is worded. From a dialect to
what a server `speaks` leads a `Way`, made anew for each attempt; a dialect has no way to a server that it cannot be
brought to. Where both sides speak the same, bytes pass; elsewhere the way translates, an answer whole, a stream event by
event, and never holds more of it than one event.

Law: a way changes words, never money. What is counted is counted on the server's bytes, before they are translated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from gongqi.kernel.errors import GongqiError
from gongqi.kernel.words import LANGUAGES, Words
from gongqi.resources.serving.metering import Tokens
from gongqi.resources.serving.plane.snapshot import Control, Key, Route

Headers = Mapping[bytes, bytes]  # by name in small letters; of one that is given twice, the first
Lines = Sequence[tuple[bytes, bytes]]
OUTPUT_BOUND = b"gongqi-output-tokens"  # to engines of this home: the most that a call may write, whoever bounded it
_PLAIN = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Asked(Protocol):
    """What is read of a request before anything else is known of it."""

    model: str
    stream: bool | None


class Answered(NamedTuple):
    """An answer in one piece, as the caller is to have it. `reported` is None when the server does not say."""

    body: bytes
    reported: Tokens | None


class Events(Protocol):
    """An answer's events. `feed` gives what may be delivered now and raises `stream.Unusable`; `events` counts those
    with content, about one a token, of which the last `closing` of a complete answer say nothing; `done`: the server has
    said its last word."""

    @property
    def reported(self) -> Tokens | None: ...
    @property
    def events(self) -> int: ...
    @property
    def closing(self) -> int: ...
    @property
    def done(self) -> bool: ...

    def feed(self, data: bytes) -> bytes: ...


class Overheard:
    """A server's events, told otherwise than they were heard. What counts is what the server sent."""

    def __init__(self, heard: Events) -> None:
        self._heard = heard
        self.closing = heard.closing

    @property
    def reported(self) -> Tokens | None:
        return self._heard.reported

    @property
    def events(self) -> int:
        return self._heard.events

    @property
    def done(self) -> bool:
        return self._heard.done


class Way(Protocol):
    """From one call to one server and back. `path` is where at the server, `/v1` standing for its base address; `fields`
    are header lines beside those that every request has."""

    @property
    def path(self) -> bytes: ...
    @property
    def fields(self) -> bytes: ...

    def forwarded(self, model: str) -> bytes:
        """The body as the server is to have it. Raises Refused when it cannot be said there."""
        ...

    def answered(self, body: bytes) -> Answered:
        """Raises stream.Unusable when it is no answer."""
        ...

    def events(self) -> Events: ...

    def turned_down(self, status: int, body: bytes) -> bytes:
        """What the server says against the request itself, in the caller's words."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal: `localized` has message and remedy in each language, `message` is both in the caller's."""

    status: int
    code: str
    message: str
    localized: Mapping[str, Any]
    call: str


def headers_of(scope: Mapping[str, Any]) -> Headers:
    return dict(reversed(scope["headers"]))


def problem_of(words: Words, error: GongqiError, language: str, call: str) -> Problem:
    """What a caller is told, in the words of the catalogue."""
    status, localized = 0, {}
    for each in LANGUAGES:
        status, message, remedy = words.error(error, each)
        localized[each] = {"message": message, "remedy": remedy}
    text = localized[language]
    return Problem(status, error.code, f"{text['message']} {text['remedy']}", localized, call)


@dataclass(frozen=True, slots=True)
class Manners:
    """How an API fails: a refusal (status and body), and the last event of an answer that breaks off; and the headers
    by which it names a call."""

    refusal: Callable[[Problem], tuple[int, bytes]]
    broken_off: Callable[[Problem], bytes]
    names: tuple[bytes, ...] = (b"x-request-id",)

    def headers(self, call: str, kind: bytes, length: int | None) -> list[tuple[bytes, bytes]]:
        """Of an answer; `length` None where it streams."""
        id = call.encode()
        given = [(b"content-type", kind), *_PLAIN]
        for name in self.names:
            given.append((name, id))
        if length is not None:
            given.append((b"content-length", b"%d" % length))
        return given


@dataclass(frozen=True, slots=True)
class Dialect:
    """One address. `kind` is that of the models it asks for; `ways` go by what a server speaks. What costs nothing has
    `alone`: the gateway's own answer, where no server can be asked. An API that keeps answers has `recalled`, which
    completes a request's body with what was said before, and `kept`, which is told of a whole answer or of a complete
    stream's last events, and returns what may be said. Where the address names the model and not the body, `named` reads
    it."""

    kind: str
    read: Callable[[bytes, Headers], Any]
    bound: Callable[[Any, bytes, Route], Tokens]
    ways: Mapping[str, Callable[[Any, bytes, str, Tokens], Way]]
    manners: Manners
    alone: Callable[[bytes], bytes] | None = None
    recalled: Callable[[Control, Key, Any, bytes], Awaitable[bytes]] | None = None
    kept: Callable[[Control, Key, Any, bytes, Any, bytes], Awaitable[bytes]] | None = None
    named: Callable[[str], str] | None = None
