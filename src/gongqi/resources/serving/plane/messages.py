"""Anthropic's answers: usage read, content counted, and each event read for those who retell it in another API."""

from __future__ import annotations

import msgspec

from gongqi.resources.serving.metering import Tokens, sensible
from gongqi.resources.serving.plane import stream


class Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None

    def over(self, earlier: Counts) -> Counts:
        """What is said later holds; what is not said again stays."""
        later = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(earlier, **later)

    def tokens(self) -> Tokens | None:
        """What was read from the prompt cache is cached input; what was written there is input."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        read, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        if self.input_tokens < 0 or read < 0 or written < 0:
            return None
        return sensible(self.input_tokens + read + written, read, self.output_tokens)


class Told(msgspec.Struct):
    """An answer, or one event of it, as far as it counts."""

    type: str = ""
    usage: Counts | None = None
    message: Told | None = None
    content: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw()


class Answer(msgspec.Struct):
    content: list[Block]
    stop_reason: str | None = None


class Delta(msgspec.Struct):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class Event(msgspec.Struct):
    type: str
    index: int = 0
    content_block: Block = msgspec.field(default_factory=Block)
    delta: Delta = msgspec.field(default_factory=Delta)


_told = msgspec.json.Decoder(Told)
_answer = msgspec.json.Decoder(Answer)
_event = msgspec.json.Decoder(Event)


def read(document: bytes) -> Told:
    """Raises stream.Unusable when it is no object; usage that is not as it should be is none."""
    try:
        return _told.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = stream.require_object(document)
        return Told(content=found.get("content", msgspec.Raw()), error=found.get("error", msgspec.Raw()))


def read_answer(body: bytes) -> Answer:
    """Raises stream.Unusable."""
    try:
        return _answer.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise stream.Unusable(type(error).__name__) from None


def read_event(document: bytes) -> Event:
    """Raises stream.Unusable."""
    try:
        return _event.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise stream.Unusable(type(error).__name__) from None


class Events:
    """The events of one answer; bytes pass. Usage is in the first event and in the last but one."""

    __slots__ = ("_counts", "_rest", "done", "events")
    closing = 0

    def __init__(self) -> None:
        self.events = 0
        self.done = False
        self._counts = Counts()
        self._rest = b""

    @property
    def reported(self) -> Tokens | None:
        return self._counts.tokens()

    def feed(self, data: bytes) -> bytes:
        whole, self._rest = stream.whole_events(self._rest + data)
        for event in stream.each(whole):
            if event.startswith(b"event: content_block_delta"):
                self.events += 1
            elif event.startswith((b"event: message_start", b"event: message_delta")):
                self._count(event)
            elif event.startswith(b"event: message_stop"):
                self.done = True
            elif event.startswith(b"event: error"):
                raise stream.Unusable("an error in place of an answer")
        return whole

    def _count(self, event: bytes) -> None:
        for document in stream.documents(event):
            told = read(document)
            counts = told.message.usage if told.message is not None else told.usage
            if counts is not None:
                self._counts = counts.over(self._counts)
