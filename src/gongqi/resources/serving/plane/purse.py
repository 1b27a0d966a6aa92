"""Money in hand: leases that the control plane set aside, spent from in memory, asked for before they run out.

A lease is a slice of one key's budget, held in the ledger. A call takes its whole reserve out of one lease, and when it
ends puts back what it did not cost. So what calls can cost together never exceeds what was leased, and what was leased
never exceeds the budget nor the funds: nothing can be overspent, whether or not the database can be asked.

A lease from which nothing more will be taken, and whose last call has ended, is given back by a record in the spool:
behind the ends of its calls, so that whoever settles meets it last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.resources.serving.metering import NANO
from gongqi.resources.serving.plane.snapshot import Control, Granted, Key
from gongqi.resources.serving.plane.spool import Spool

FIRST_WISH_NANOS = 100 * NANO  # a slice is first a hundred units (¥1)
MAX_WISH_NANOS = 100_000 * NANO  # and at most this, for keys that spend a slice in less than SOON_SECONDS
SOON_SECONDS = 60.0  # so that the slice in hand and the next outlast a minute without the database
IDLE_SECONDS = 30.0  # after which what is not used is given back
QUIET_SECONDS = 1.0  # between two attempts to ask for more that failed
ASK_SECONDS = 10.0  # how long a call waits for its lease


class Slice:
    """One lease. `left` is neither spent nor reserved."""

    __slots__ = ("calls", "granted", "id", "is_open", "left")

    def __init__(self, granted: Granted) -> None:
        self.id = granted.id
        self.granted = self.left = granted.nanos
        self.calls = 0
        self.is_open = True


class _Purse:
    __slots__ = ("asked_at", "asking", "now", "quiet_until", "refusal", "refused_need", "then", "used_at", "wish")

    def __init__(self) -> None:
        self.now: Slice | None = None
        self.then: Slice | None = None
        self.asking: asyncio.Task[None] | None = None
        self.refusal: Refused | None = None
        self.refused_need = 0
        self.asked_at = self.quiet_until = 0.0
        self.used_at = 0.0
        self.wish = FIRST_WISH_NANOS


class Purses:
    """One purse for each key, unit and grant of aid."""

    def __init__(self, plane: str, control: Control, spool: Spool, clock: Callable[[], float]) -> None:
        self._plane = plane
        self._control = control
        self._spool = spool
        self._clock = clock
        self._purses: dict[tuple[str, str, str | None], _Purse] = {}

    def take(self, key: Key, unit: str, need: int, aid: str | None = None) -> Slice | None:
        """Reserve `need` nanos now, if they are in hand."""
        purse = self._purses.get((key.id, unit, aid))
        if purse is None:
            return None
        purse.used_at = self._clock()
        held = purse.now
        if (held is None or held.left < need) and purse.then is not None and purse.then.left >= need:
            self._retire(held)
            held = purse.now = purse.then
            purse.then = None
        if held is None or held.left < need:
            return None
        held.left -= need
        held.calls += 1
        runs_low = held.left * 4 < held.granted and purse.then is None
        if runs_low and purse.asking is None and purse.used_at >= purse.quiet_until:
            self._ask(purse, key, unit, need, aid)
        return held

    async def wait(self, key: Key, unit: str, need: int, aid: str | None = None) -> Slice:
        """Reserve `need` nanos, asking the control plane for them. Raises what it says, or Unavailable."""
        purse = self._purses.setdefault((key.id, unit, aid), _Purse())
        deadline = self._clock() + ASK_SECONDS
        while (held := self.take(key, unit, need, aid)) is None:
            if self._clock() > deadline:
                raise Unavailable("serving.lease-unavailable", retry_after_seconds=2)
            if purse.refusal is not None and need >= purse.refused_need and self._clock() < purse.quiet_until:
                raise purse.refusal.with_traceback(None)  # whoever asks again and again is not a load on the books
            asking = purse.asking or self._ask(purse, key, unit, need, aid)
            await asyncio.wait([asking], timeout=ASK_SECONDS)
            if asking.done() and (error := asking.exception()) is not None:
                raise error
        return held

    def give(self, held: Slice, reserved: int, spent: int) -> None:
        """End a call's reservation. Its record must have been added to the spool before."""
        held.left += reserved - spent
        held.calls -= 1
        if not held.is_open and not held.calls:
            self._spool.add(["l", held.id])

    def return_idle(self, now: float) -> None:
        for place, purse in list(self._purses.items()):
            if now - purse.used_at > IDLE_SECONDS and purse.asking is None:
                del self._purses[place]
                self._retire(purse.now)
                self._retire(purse.then)

    def close(self) -> None:
        for purse in self._purses.values():
            self._retire(purse.now)
            self._retire(purse.then)
        self._purses.clear()

    def _retire(self, held: Slice | None) -> None:
        if held is None or not held.is_open:
            return
        held.is_open = False
        if not held.calls:
            self._spool.add(["l", held.id])

    def _ask(self, purse: _Purse, key: Key, unit: str, need: int, aid: str | None) -> asyncio.Task[None]:
        now = self._clock()
        if purse.asked_at and now - purse.asked_at < SOON_SECONDS:
            purse.wish = min(purse.wish * 2, MAX_WISH_NANOS)
        purse.asked_at = now
        purse.asking = asyncio.ensure_future(self._fetch(purse, key, unit, need, aid))
        purse.asking.add_done_callback(_looked_at)
        return purse.asking

    async def _fetch(self, purse: _Purse, key: Key, unit: str, need: int, aid: str | None) -> None:
        wish = max(purse.wish, need)
        try:
            granted = await asyncio.to_thread(self._control.lease, self._plane, key.id, unit, need, wish, aid)
        except GongqiError as error:
            purse.quiet_until = self._clock() + QUIET_SECONDS
            if isinstance(error, Refused):
                purse.refusal, purse.refused_need = error, need
            raise
        except Exception as error:  # the database is away in a way nobody has a word for
            purse.quiet_until = self._clock() + QUIET_SECONDS
            raise Unavailable("serving.lease-unavailable", retry_after_seconds=2, detail=repr(error)) from error
        finally:
            purse.asking = None
        purse.refusal = None
        slice_ = Slice(granted)
        if self._purses.get((key.id, unit, aid)) is not purse:  # given up meanwhile
            self._retire(slice_)
            return
        self._retire(purse.then)
        purse.then = slice_


def _looked_at(task: asyncio.Task[None]) -> None:
    """Whoever waits is told; when nobody waits, the next call asks again."""
    if not task.cancelled():
        task.exception()
