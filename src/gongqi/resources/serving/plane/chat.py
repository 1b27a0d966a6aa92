"""OpenAI's chat answers, read piece by piece for those who retell them in another API.

A `Piece` is the smallest thing that is said: some text, some thought, the beginning of a call of a tool, some of its
arguments, the reason of the end. A stream and an answer in one piece come as the same pieces, so a translation is
written once. Only the first choice is told: the other APIs know no second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from gongqi.resources.serving.plane import stream
from gongqi.resources.serving.plane.dialect import Overheard

MAX_CALLS = 256  # calls of tools in one answer; what is open is remembered by number

TEXT, THOUGHT, REFUSAL, CALL, ARGUMENTS, END = "text", "thought", "refusal", "call", "arguments", "end"


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class Called(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: Function | None = None


class Said(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None  # as vLLM, SGLang and DeepSeek call it
    reasoning: str | None = None  # as Ollama and newer vLLM call it
    refusal: str | None = None
    tool_calls: list[Called] | None = None


class Choice(msgspec.Struct):
    index: int = 0
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None  # vLLM: the text that it stopped at


class Answer(msgspec.Struct):
    choices: list[Choice] = []
    error: msgspec.Raw = msgspec.Raw()


class Piece(NamedTuple):
    """`number` tells calls of tools apart. An END's text is the reason, its `name` the text that was stopped at."""

    kind: str
    text: str = ""
    number: int = 0
    id: str = ""
    name: str = ""


_decoder = msgspec.json.Decoder(Answer)


def pieces(document: bytes) -> Iterator[Piece]:
    """Of a whole answer, or of one event of a stream. Raises stream.Unusable."""
    try:
        answer = _decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise stream.Unusable(type(error).__name__) from None
    if bytes(answer.error) not in (b"", b"null"):
        raise stream.Unusable("an error in place of an answer")
    for choice in answer.choices:
        if choice.index == 0:
            yield from _of(choice)


def _of(choice: Choice) -> Iterator[Piece]:
    said = choice.delta or choice.message
    if said is not None:
        if thought := said.reasoning_content or said.reasoning:
            yield Piece(THOUGHT, thought)
        if said.content:
            yield Piece(TEXT, said.content)
        if said.refusal:
            yield Piece(REFUSAL, said.refusal)
        for place, called in enumerate(said.tool_calls or ()):
            number = called.index if choice.message is None else place
            if not 0 <= number < MAX_CALLS:
                raise stream.Unusable("calls of tools without end")
            function = called.function or Function()
            if function.name:
                yield Piece(CALL, number=number, id=called.id or "", name=function.name)
            if function.arguments:
                yield Piece(ARGUMENTS, function.arguments, number)
    if choice.finish_reason is not None:
        stopped_at = choice.stop_reason if isinstance(choice.stop_reason, str) else ""
        yield Piece(END, choice.finish_reason, name=stopped_at)


class Retold(Overheard):
    """A chat stream's events, retold. Who retells writes `begin`, `tell` and `end`."""

    def __init__(self) -> None:
        super().__init__(stream.Events(keeps_usage=False))
        self._has_begun = False

    def feed(self, data: bytes) -> bytes:
        whole = self._heard.feed(data)
        if not whole and not self._heard.done:
            return b""
        told: list[bytes] = []
        if not self._has_begun:
            self._has_begun = True
            told += self.begin()
        for document in stream.documents(whole):
            for piece in pieces(document):
                told += self.tell(piece)
        if self._heard.done:
            told += self.end()
        return b"".join(told)

    def begin(self) -> list[bytes]:
        raise NotImplementedError

    def tell(self, piece: Piece) -> list[bytes]:
        raise NotImplementedError

    def end(self) -> list[bytes]:
        raise NotImplementedError
