"""An answer's events: content counted as it passes, usage read from the tail.

Bytes go through untouched. Of each piece only the marks are looked for that say whether it may hold usage; an event
that does is read. The event that carries usage and no choice is dropped again when the caller had not asked for it.

An event may arrive in pieces: what follows the last blank line is kept back until the rest has come, so that what is
delivered always ends between two events, and what is cut off mid-event is never delivered.
"""

from __future__ import annotations

import re

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
    usage: Counts | None = None
    choices: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(Counted)


class Unusable(Exception):
    """What came is not what the server's API says: no JSON, or more bytes without an end of event than any event has."""


def usage_of(body: bytes) -> Tokens | None:
    """What a whole answer reports. Raises Unusable when it is no JSON at all."""
    try:
        read = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        if not _is_object(body):
            raise Unusable("not JSON") from None
        return None
    return _tokens(read.usage)


def _is_object(body: bytes) -> bool:
    """Whether it is JSON, though its usage is not as it should be."""
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


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
        if self._rest:
            data = self._rest + data
        end = _last_boundary(data)
        self._rest = data[end:]
        if len(self._rest) > MAX_EVENT_BYTES:
            raise Unusable
        if end == 0:
            return b""
        whole = data[:end] if self._rest else data
        if DONE in whole:
            self.done = True
        found = _USAGE.search(whole)
        if found is None:
            self._count(whole)
            return whole
        start = max(0, whole.rfind(b"data:", 0, found.start()))
        head = whole[:start]
        self._count(head)
        return head + self._read(whole[start:])

    def _count(self, whole: bytes) -> None:
        """The event that only says who speaks comes first and is no content; nor is the mark of the end."""
        start = 0
        if not self.events:
            said = _CONTENT.search(whole)
            if said is None:
                return
            start = max(0, whole.rfind(b"data:", 0, said.start()))
        self.events += whole.count(b"data:", start) - (DONE in whole)

    def _read(self, whole: bytes) -> bytes:
        """Event by event, from the first that carries usage: usually the last but one of the answer."""
        kept: list[bytes] = []
        for event in _each(whole):
            data = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:")).strip()
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


def _last_boundary(data: bytes) -> int:
    """Where the last whole event ends."""
    plain = data.rfind(b"\n\n")
    carriage = data.rfind(b"\r\n\r\n")
    return max(plain + 2 if plain >= 0 else 0, carriage + 4 if carriage >= 0 else 0)


def _each(whole: bytes) -> list[bytes]:
    """The events, each with its blank line."""
    separator = b"\r\n\r\n" if b"\r\n\r\n" in whole else b"\n\n"
    return [event + separator for event in whole.split(separator) if event]
