"""What is done to one attempt of a call by a duty: masked on its way out, put back and marked on its way in.

A call of which the law asks nothing has none of this. What is long is masked on a thread, so that the calls of others go
on meanwhile: as much as is looked at (`masking.MAX_LETTERS`) takes up to a second.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.plane.dialect import Answered, Dialect, Events, Lines, Way
from gongqi.resources.serving.plane.duties import Duty
from gongqi.resources.serving.plane.labels import Marked, Marks
from gongqi.resources.serving.plane.masking import Masks
from gongqi.resources.serving.plane.revealing import Revealed

LONG_BYTES = 16 << 10  # of a body; what is shorter takes ten milliseconds at most
THREADS = 2  # that mask, of all that a process has under way
GENERATED = ("chat", "completions")  # kinds of answers that say something
EMBEDDINGS = "embeddings"

_threads = ThreadPoolExecutor(THREADS, "masking")


async def guarded(duty: Duty, dialect: Dialect, model: str, call: str, body: bytes) -> Guard:
    """Raises as `Guard`."""
    if duty.mask is None or len(body) <= LONG_BYTES:
        return Guard(duty, dialect, model, call, body)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, Guard, duty, dialect, model, call, body)


class Guard:
    """`body` is what may leave. Raises Refused: serving.crossing-denied, serving.unmaskable, serving.masks-too-many,
    serving.logprobs-masked."""

    __slots__ = ("_marks", "_masks", "_streams", "body")

    def __init__(self, duty: Duty, dialect: Dialect, model: str, call: str, body: bytes) -> None:
        if duty.denied is not None:
            raise Refused("serving.crossing-denied", model=model, **duty.denied.spoken)
        is_generated = dialect.kind in GENERATED and dialect.alone is None
        self._marks = Marks(duty.labels, call, body) if duty.labels and is_generated else None
        self._masks: Masks | None = None
        self._streams = False
        if duty.mask is not None:
            masks = Masks(duty.mask, is_constant=dialect.kind == EMBEDDINGS)
            body = masks.body(body)
            self._masks = masks if masks.count else None
        self.body = body

    @property
    def masked(self) -> int:
        return 0 if self._masks is None else self._masks.count

    def reveal(self, told: bytes) -> bytes:
        return told if self._masks is None else self._masks.reveal(told)

    def answered(self, answered: Answered) -> Answered:
        return Answered(self.reveal(answered.body), answered.reported)

    def marked(self, body: bytes) -> bytes:
        return body if self._marks is None else self._marks.whole(body)

    def events(self, events: Events) -> Events:
        self._streams = True
        if self._masks is not None:
            events = Revealed(events, self._masks)
        return events if self._marks is None else Marked(events, self._marks)

    def lines(self, *, is_answer: bool) -> Lines:
        lines = [] if self._masks is None else [(b"gongqi-masked", b"%d" % self.masked)]
        return lines if self._marks is None or not is_answer else [*lines, *self._marks.lines()]

    def kept(self, response: dict[str, Any]) -> dict[str, Any]:
        """What a way says was answered, as the caller knows it: an answer in one piece is marked after it was kept."""
        response = orjson.loads(self.reveal(orjson.dumps(response)))
        return self._marks.kept(response) if self._streams and self._marks is not None else response

    def way(self, way: Way | None) -> Revealing:
        return Revealing(way, self)


class Revealing:
    """A way whose response is kept as the caller knows it."""

    def __init__(self, way: Any, guard: Guard) -> None:
        self._way = way
        self._guard = guard

    @property
    def response(self) -> dict[str, Any]:
        return self._guard.kept(self._way.response)
