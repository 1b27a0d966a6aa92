"""An answer's events: content counted as it passes, usage read from the tail.

Bytes go through untouched. Of each piece only the marks are looked for that say whether it may hold usage; an event
that does is read. The event that carries usage and no choice is dropped again when the caller had not asked for it.

An event may arrive in pieces: what follows the last blank line is kept back until the rest has come, so that what is
delivered always ends between two events, and what is cut off mid-event is never delivered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from gongqi.resources.serving.metering import Tokens, sensible

MAX_EVENT_BYTES = 1 << 20  # one event; more is not a stream of tokens
DONE = b"data: [DONE]"
_USAGE = re.compile(rb'"usage":\s*\{')  # not the null that some servers put into every event
_CONTENT = re.compile(
    rb'(?:content|arguments|text|reasoning|refusal)":[ ]?"(?!")'
)  # what a delta says, if it says anything


class Details(msgspec.Struct):
    cached_tokens: int | None = None


class Counts(msgspec.Struct):
    """`usage` as the OpenAI API words it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's word for the same


class Counted(msgspec.Struct):
    """An answer, or one event of it, as far as it counts. `data` are embeddings."""

    usage: Counts | None = None
    choices: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(Counted)


class Unusable(Exception):
    """What came is not what the server's API says: no JSON, an error in place of an answer, or more bytes without an end of
    event than any event has."""


def usage_of(body: bytes) -> Tokens | None:
    """What a whole answer reports. Raises Unusable when it is no JSON at all, or an error."""
    read = _counted(body)
    require_answer(read.error, read.choices, read.data)
    return _tokens(read.usage)


def require_answer(error: msgspec.Raw, *answers: msgspec.Raw) -> None:
    """Raises Unusable where a server, which says that all is well, tells of an error and answers nothing."""
    if error and _says(error) and not any(map(_says, answers)):
        raise Unusable("an error in place of an answer")


def _says(value: msgspec.Raw) -> bool:
    return bytes(value) not in (b"", b"null", b"[]")


def _counted(document: bytes) -> Counted:
    """Usage that is not as it should be is none. Raises Unusable unless it is an object."""
    try:
        return _decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = require_object(document)
        return Counted(None, *(found.get(name, msgspec.Raw()) for name in ("choices", "data", "error")))


def require_object(body: bytes) -> dict[str, msgspec.Raw]:
    """Its members. Raises Unusable unless it is JSON, though its usage is not as it should be."""
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unusable("not JSON") from None


def _tokens(counts: Counts | None) -> Tokens | None:
    if counts is None or counts.prompt_tokens is None:
        return None
    details = counts.prompt_tokens_details
    cached = (details.cached_tokens if details else None) or counts.prompt_cache_hit_tokens or 0
    return sensible(counts.prompt_tokens, cached, counts.completion_tokens or 0)


class Events:
    """The events of one answer. `feed` gives what may be delivered now; `reported`, `events` and `done` say the rest."""

    __slots__ = ("_rest", "done", "events", "keeps_usage", "reported")
    closing = 1  # the last event of a complete answer only says why it ended

    def __init__(self, *, keeps_usage: bool) -> None:
        self.keeps_usage = keeps_usage
        self.reported: Tokens | None = None
        self.events = 0  # from the first that carried content: about one a token
        self.done = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        whole, self._rest = whole_events(self._rest + data if self._rest else data)
        if not whole:
            return b""
        if _says_done(whole):
            self.done = True
        found = _USAGE.search(whole)
        if found is None:
            self._count(whole)
            return whole
        start = whole.rfind(b"\ndata:", 0, found.start()) + 1
        head = whole[:start]
        self._count(head)
        return head + self._read(whole[start:])

    def _count(self, whole: bytes) -> None:
        """The event that only says who speaks comes first and is no content; nor is the mark of the end. Raises Unusable
        where an error comes before any content."""
        start = 0
        if not self.events:
            if b"error" in whole:
                _require_no_error(whole)
            said = _CONTENT.search(whole)
            if said is None:
                return
            start = whole.rfind(b"\ndata:", 0, said.start()) + 1
        lines = whole.count(b"\ndata:", start) + whole.startswith(b"data:", start)
        self.events += lines - _says_done(whole)

    def _read(self, whole: bytes) -> bytes:
        """Event by event, from the first that carries usage: usually the last but one of the answer."""
        kept: list[bytes] = []
        for event in each(whole):
            data = data_of(event)
            if not data or data == b"[DONE]":
                kept.append(event)
                continue
            if _USAGE.search(data):
                try:
                    read = _decoder.decode(data)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    read = Counted()
                if (found := _tokens(read.usage)) is not None:
                    self.reported = found
                    if bytes(read.choices) == b"[]":
                        if self.keeps_usage:
                            kept.append(event)
                        continue
            self._count(event)
            kept.append(event)
        return b"".join(kept)


def whole_events(data: bytes) -> tuple[bytes, bytes]:
    """(the events that have come whole, the beginning of the next). Raises Unusable when that has no end."""
    end = _last_boundary(data)
    rest = data[end:]
    if len(rest) > MAX_EVENT_BYTES:
        raise Unusable("an event without end")
    return (data[:end] if rest else data), rest


def documents(whole: bytes) -> Iterator[bytes]:
    """What each event carries, but for the mark of the end."""
    for event in each(whole):
        data = data_of(event)
        if data and data != b"[DONE]":
            yield data


def data_of(event: bytes) -> bytes:
    return b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:")).strip()


def _require_no_error(whole: bytes) -> None:
    """In what comes up to the first content."""
    for event in each(whole):
        if event.startswith(b"event: error"):
            raise Unusable("an error in place of an answer")
        data = data_of(event)
        if data and data != b"[DONE]":
            read = _counted(data)
            require_answer(read.error, read.choices)
        if _CONTENT.search(event):
            return


def _says_done(whole: bytes) -> bool:
    """A text may say the same, but never at the beginning of a line: in JSON, an end of line is an escape."""
    return whole.startswith(DONE) or b"\n" + DONE in whole


def _last_boundary(data: bytes) -> int:
    """Where the last whole event ends."""
    plain = data.rfind(b"\n\n")
    carriage = data.rfind(b"\r\n\r\n")
    return max(plain + 2 if plain >= 0 else 0, carriage + 4 if carriage >= 0 else 0)


def each(whole: bytes) -> list[bytes]:
    """The events, each with its blank line."""
    separator = b"\r\n\r\n" if b"\r\n\r\n" in whole else b"\n\n"
    return [event + separator for event in whole.split(separator) if event]
