"""An answer's events with what stands behind the placeholders in them, wherever they are cut.

A placeholder may come in pieces, in the text of one event after the other. The end of a piece that may be the beginning of
a placeholder is held back until the next piece of the same text has come, or that text has ended. A text is told apart
by its place: the choice, block or item it belongs to, and the members that lead to it. Events in which nothing was
masked, while nothing is held, pass as bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from gongqi.resources.serving.plane import stream
from gongqi.resources.serving.plane.dialect import Events, Overheard
from gongqi.resources.serving.plane.masking import Masks

_WHOSE = ("index", "item_id", "output_index", "content_index", "summary_index")  # of an event that tells of one text
_ONCE = ("usage", "logprobs")  # what an event says that is not said again with what it held back
_KEPT = ("type",)
NUMBER = "sequence_number"  # of an event of a response

Place = tuple[Any, ...]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """`text` is held back from `document`, where it stands at `place`."""

    text: str
    head: bytes
    document: Document
    place: Place


class Revealed(Overheard):
    def __init__(self, heard: Events, masks: Masks) -> None:
        super().__init__(heard)
        self._masks = masks
        self._held: dict[Place, Held] = {}
        self._more = 0  # events said beside those that were heard, which are numbered

    def feed(self, data: bytes) -> bytes:
        whole = self._heard.feed(data)
        if not whole or not (self._held or self._more or b"@" in whole):
            return whole
        return b"".join([self._event(event) for event in stream.each(whole)])

    def _event(self, event: bytes) -> bytes:
        content = stream.data_of(event)
        if not content or content == b"[DONE]":
            return (self._let_go(lambda _: True, {}) if content else b"") + event
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise stream.Unusable("not JSON") from None
        if not isinstance(document, dict):
            raise stream.Unusable("no object")
        head = b"".join(line + b"\n" for line in event.splitlines() if line and not line.startswith(b"data:"))
        ends = _ends(document)
        told = self._told(document, _whose(document), False, head, document, ends)
        return self._let_go(ends, document) + self._said(head, told)

    def _told(
        self, value: Any, place: Place, is_piece: bool, head: bytes, document: Document, ends: Callable[[Place], bool]
    ) -> Any:
        if isinstance(value, str):
            return self._piece(value, place, head, document, ends) if is_piece else self._masks.reveal_text(value)
        if isinstance(value, list):
            return [
                self._told(each, (*place, _number(each, at)), is_piece, head, document, ends)
                for at, each in enumerate(value)
            ]
        if isinstance(value, dict):
            return {
                name: self._told(each, (*place, name), is_piece or _is_piece(name, place), head, document, ends)
                for name, each in value.items()
            }
        return value

    def _piece(self, said: str, place: Place, head: bytes, document: Document, ends: Callable[[Place], bool]) -> str:
        before = self._held.pop(place, None)
        text = said if before is None else before.text + said
        rest = ""
        if not ends(place):
            text, rest = self._masks.split(text)
        if rest:
            self._held[place] = Held(rest, head, document, place)
        return self._masks.reveal_text(text)

    def _let_go(self, which: Callable[[Place], bool], before: Document) -> bytes:
        """What is still held of texts that have ended is what it looks like, and no placeholder. It is said `before` the
        event with which they end, and has its number; those that follow move up."""
        told: list[bytes] = []
        for place in [place for place in self._held if which(place)]:
            held = self._held.pop(place)
            number = {name: value for name, value in before.items() if name == NUMBER}
            told.append(self._said(held.head, _alone(held.document, _whose(held.document), False, held) | number))
            self._more += 1
        return b"".join(told)

    def _said(self, head: bytes, document: Document) -> bytes:
        if self._more and isinstance(document.get(NUMBER), int):
            document = document | {NUMBER: document[NUMBER] + self._more}
        return b"%sdata: %s\n\n" % (head, orjson.dumps(document))


def _is_piece(name: str, place: Place) -> bool:
    """Whether what stands under this name is the next piece of a text: the deltas of all APIs, and of completions the
    text of a choice."""
    return name == "delta" or (name == "text" and len(place) == len(_WHOSE) + 2 and place[-2] == "choices")


def _whose(document: Document) -> Place:
    return tuple(each if isinstance(each := document.get(name), (int, str)) else None for name in _WHOSE)


def _number(value: Any, at: int) -> int:
    number = value.get("index") if isinstance(value, dict) else None
    return number if isinstance(number, int) else at


def _ends(document: Document) -> Callable[[Place], bool]:
    """Which texts end with this event."""
    kind = document.get("type", "")
    if kind == "content_block_stop":
        return lambda place: place[0] == document.get("index")
    if kind in ("message_delta", "message_stop", "response.completed", "response.incomplete"):
        return lambda _: True
    if isinstance(kind, str) and kind.endswith(".done"):
        return lambda place: place[1] == document.get("item_id", place[1])
    choices = document.get("choices")
    over = {
        _number(choice, at)
        for at, choice in enumerate(choices if isinstance(choices, list) else ())
        if isinstance(choice, dict) and choice.get("finish_reason") is not None
    }
    mark = len(_WHOSE)
    return lambda place: place[mark : mark + 1] == ("choices",) and place[mark + 1] in over


def _alone(value: Any, place: Place, is_piece: bool, held: Held) -> Any:
    """The event that held something back, saying that and nothing else."""
    if isinstance(value, list):
        return [_alone(each, (*place, _number(each, at)), is_piece, held) for at, each in enumerate(value)]
    if not isinstance(value, dict):
        return held.text if place == held.place else value
    told: Document = {}
    for name, each in value.items():
        there, within = (*place, name), is_piece or _is_piece(name, place)
        is_other = within and isinstance(each, str) and there != held.place and name not in _KEPT
        if name not in _ONCE and not is_other:
            told[name] = _alone(each, there, within, held)
    return told
