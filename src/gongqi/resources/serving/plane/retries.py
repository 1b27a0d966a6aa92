"""Calls that may come again: an `Idempotency-Key` names a call, which is made once and charged once, however often asked.

Who comes again gets the same answer, from memory, while it is there; a call that is under way is said to be; a call
that was answered but whose answer is not there any more is refused, with its number, rather than made and charged anew.
What came to nothing and cost nothing is tried again. The name is claimed in the database, so that all of this holds
across processes and restarts, for a day; only calls that bring a key pay for that look.

A key is one request's: with another body it is refused. An agent that makes up a new key for each try makes new calls;
what bounds those are limits and budgets.

Answers are in memory alone, KEEP_SECONDS and MAX_BYTES of them; on disk are digests and numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import structlog

from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.resources.serving import metering
from gongqi.resources.serving.plane.call import Call, Send
from gongqi.resources.serving.plane.dialect import Headers
from gongqi.resources.serving.plane.snapshot import Control, Key

MAX_NAME_BYTES = 255
KEEP_SECONDS = 600.0  # longer than clients retry
MAX_ANSWER_BYTES = 1 << 20
MAX_BYTES = 64 << 20  # of all answers that are kept
MAX_NAMES = 20_000  # remembered here; the others are looked up

log = structlog.get_logger("gongqi.serving.retries")


class Named:
    """One call under its name, as this process knows it. `answer`: the messages it was given in, once it is over."""

    __slots__ = ("answer", "at", "call", "fingerprint", "is_over", "name", "owner", "size")

    def __init__(self, owner: str, name: str, fingerprint: str, call: str, at: float) -> None:
        self.owner = owner
        self.name = name
        self.fingerprint = fingerprint
        self.call = call
        self.at = at
        self.is_over = False
        self.answer: list[dict[str, Any]] | None = None
        self.size = 0

    @property
    def is_whole(self) -> bool:
        """Whether the answer was given to its end."""
        last = self.answer[-1] if self.answer else {}
        return last.get("type") == "http.response.body" and not last.get("more_body")

    def recording(self, send: Send) -> Send:
        """Remember what is sent, as long as it is not too much."""
        self.answer = []

        async def recorded(message: dict[str, Any]) -> None:
            if self.answer is not None:
                self.size += len(message.get("body", b""))
                self.answer.append(message)
                if self.size > MAX_ANSWER_BYTES:
                    self.answer, self.size = None, 0
            await send(message)

        return recorded


class Retries:
    def __init__(self, control: Control, clock: Callable[[], float]) -> None:
        self._control = control
        self._clock = clock
        self._known: dict[tuple[str, str], Named] = {}  # oldest first
        self._bytes = 0

    def named(self, key: Key, headers: Headers, path: str, body: bytes, call: str) -> Named | None:
        """The call by its name, None when it has none. Raises Refused kernel.idempotency-key-invalid."""
        name = headers.get(b"idempotency-key")
        if name is None:
            return None
        if not 0 < len(name) <= MAX_NAME_BYTES:
            raise Refused("kernel.idempotency-key-invalid", limit=MAX_NAME_BYTES)
        fingerprint = sha256(b"%s\0%s" % (path.encode(), body)).hexdigest()
        return Named(key.id, sha256(name).hexdigest(), fingerprint, call, self._clock())

    def before(self, again: Named) -> list[dict[str, Any]] | None:
        """The answer it was given before. Raises Refused: serving.retry-differs, serving.retry-answered,
        serving.retry-under-way."""
        known = self._known.get((again.owner, again.name))
        if known is None:
            return None
        if known.fingerprint != again.fingerprint:
            raise Refused("serving.retry-differs", call=known.call)
        if not known.is_over:
            raise Refused("serving.retry-under-way", call=known.call)
        if known.answer is None:
            raise Refused("serving.retry-answered", call=known.call)
        return known.answer

    async def claim(self, named: Named) -> None:
        """Make the name this call's. Raises as `before` does, and Unavailable serving.retry-unclaimed."""
        place = (named.owner, named.name)
        if place in self._known:  # since it was looked for
            raise Refused("serving.retry-under-way", call=self._known[place].call)
        if len(self._known) >= MAX_NAMES:
            self._drop(next(iter(self._known)))
        self._known[place] = named  # before anything is waited for: who comes meanwhile sees it under way
        try:
            found = await asyncio.to_thread(self._control.claim, named.owner, named.name, named.fingerprint, named.call)
        except Exception as error:  # without the database nobody can say whether it was answered
            self._drop(place)
            raise Unavailable("serving.retry-unclaimed", retry_after_seconds=2, detail=repr(error)) from error
        if found is None:
            return
        self._drop(place)
        if found.fingerprint != named.fingerprint:
            raise Refused("serving.retry-differs", call=found.call)
        if found.is_over:
            raise Refused("serving.retry-answered", call=found.call)
        raise Refused("serving.retry-under-way", call=found.call)

    async def over(self, named: Named, call: Call | None) -> None:
        """The call has ended, or was refused before it began (None)."""
        place = (named.owner, named.name)
        if self._known.get(place) is not named:
            return
        if call is None or (call.charge.nanos == 0 and call.ending != metering.COMPLETE):
            self._drop(place)  # nothing was had for it: it may be tried again
            await self._give_up(named)
            return
        named.is_over = True
        if call.ending != metering.COMPLETE or not named.is_whole:
            named.answer, named.size = None, 0
        self._bytes += named.size
        for oldest in list(self._known.values()):
            if self._bytes <= MAX_BYTES:
                break
            self._forget_answer(oldest)

    def forget_old(self, now: float) -> None:
        for place, named in list(self._known.items()):
            if now - named.at <= KEEP_SECONDS:
                break
            if named.is_over:
                self._drop(place)

    async def _give_up(self, named: Named) -> None:
        try:
            await asyncio.shield(asyncio.to_thread(self._control.unclaim, named.owner, named.name, named.call))
        except (GongqiError, OSError) as error:
            log.warning("a name of a call was not given up", call=named.call, error=repr(error))

    def _drop(self, place: tuple[str, str]) -> None:
        named = self._known.pop(place, None)
        if named is not None:
            self._forget_answer(named)

    def _forget_answer(self, named: Named) -> None:
        if named.is_over and named.answer is not None:
            self._bytes -= named.size
            named.answer, named.size = None, 0
