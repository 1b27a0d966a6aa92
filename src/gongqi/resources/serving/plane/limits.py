"""How much a key may do in a minute, and at once: rations in hand, drawn from a bucket that all processes share.

A key's first call waits for its first ration; from then on calls spend from memory, and the next ration is asked for
before the last is spent. Rations of all keys that run low are drawn together, one draw after the other. Tokens are taken
by estimate when a call is admitted and corrected by what it came to when it ends; what is then owed goes back to the
bucket. Who asks for more than there is is refused, and until there can be some the bucket is not asked again.

Where the bucket cannot be asked, a process draws from one of its own: calls go on, and the limit holds in each process.
Calls at once are counted in each process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gongqi.kernel.errors import Unavailable
from gongqi.resources.serving import rates
from gongqi.resources.serving.plane.snapshot import Control, Key
from gongqi.resources.serving.rates import Answer, Ask, Drawn, Want

IDLE_SECONDS = 10.0  # after which what is in hand is given back
WAIT_SECONDS = 2.0  # for a draw, before one goes by a bucket of one's own
LONGEST_DRY_SECONDS = 1.0  # until the bucket is asked again: another process may have given back
SHORTEST_DRY_SECONDS = 0.05
MAX_ASKS = 500  # keys in one draw

log = structlog.get_logger("gongqi.serving.limits")


class Hand:
    """Of one limit: `left` is in hand, below zero where it is owed; `least` and `most` are waited for."""

    __slots__ = ("dry_until", "least", "left", "limit", "low", "most", "ration", "ready_at")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ration = rates.ration(limit)
        self.low = self.ration // 4
        self.left = self.least = self.most = 0
        self.dry_until = self.ready_at = 0.0

    def need(self, amount: int) -> None:
        self.least = min(self.least or amount, amount)
        self.most += amount

    def want(self, *, leaves: bool) -> Want:
        """What is asked for now, and what is given back or owed, which from here on is the bucket's affair."""
        back = self.left if leaves else min(self.left, 0)
        self.left -= back
        wish = 0 if leaves else self.ration
        want = Want(back, max(0, self.least - self.left), max(0, self.most - self.left, wish - self.left))
        self.least = self.most = 0
        return want

    def drawn(self, want: Want, drawn: Drawn, now: float) -> None:
        self.left += drawn.granted
        self.ready_at = now + drawn.wait / 1000
        if drawn.granted < want.most:
            self.dry_until = max(now + SHORTEST_DRY_SECONDS, min(self.ready_at, now + LONGEST_DRY_SECONDS))


class Gauge:
    """One key in this process: what it has in hand, its calls under way."""

    __slots__ = ("calls", "id", "leaves", "own", "requests", "tokens", "used_at")

    def __init__(self, key: Key, now: float) -> None:
        self.id = key.id
        self.requests = Hand(key.requests_per_minute)
        self.tokens = Hand(key.tokens_per_minute)
        self.calls = 0
        self.used_at = now
        self.leaves = False
        self.own: tuple[rates.Bucket, rates.Bucket] | None = None  # while the other cannot be asked

    def ask(self) -> Ask:
        requests, tokens = (hand.want(leaves=self.leaves) for hand in (self.requests, self.tokens))
        return Ask(self.id, self.requests.limit, self.tokens.limit, requests, tokens)

    def drawn(self, ask: Ask, answer: Answer, now: float) -> None:
        self.requests.drawn(ask.requests, answer.requests, now)
        self.tokens.drawn(ask.tokens, answer.tokens, now)

    def draw_alone(self, ask: Ask, now: float) -> None:
        at = int(now * 1000)
        limits = (self.requests.limit, self.tokens.limit)
        requests, tokens = self.own or [rates.full(limit, at) for limit in limits]
        requests, some = rates.draw(requests, limits[0], at, ask.requests)
        tokens, more = rates.draw(tokens, limits[1], at, ask.tokens)
        self.own = requests, tokens
        self.drawn(ask, Answer(some, more), now)


class Limits:
    """`enter` counts a call in, `take` its tokens; each at once where there is enough in hand, or else after `wait…`.
    `leave` is for every call that entered."""

    def __init__(self, control: Control, clock: Callable[[], float]) -> None:
        self._control = control
        self._clock = clock
        self._gauges: dict[str, Gauge] = {}
        self._asking: set[Gauge] = set()
        self._next: asyncio.Future[None] | None = None  # the draw that those who ask now are in
        self._drawing: asyncio.Task[None] | None = None
        self._drawing_since = 0.0  # when the draw under way began

    def enter(self, key: Key) -> Gauge | None:
        """Raises Unavailable serving.too-many-at-once."""
        gauge = self._gauges.get(key.id)
        if gauge is None or gauge.requests.left < 1:
            return None
        if gauge.calls >= key.parallel:
            raise Unavailable("serving.too-many-at-once", limit=key.parallel)
        gauge.used_at = self._clock()
        gauge.calls += 1
        requests = gauge.requests
        requests.left -= 1
        if requests.left < requests.low:
            self._foresee(gauge, requests)
        return gauge

    async def wait_to_enter(self, key: Key) -> Gauge:
        """Raises Unavailable: serving.too-many-at-once, serving.too-many-requests, with the time until there is room."""
        gauge = self._gauges.get(key.id)
        if gauge is None:
            gauge = self._gauges[key.id] = Gauge(key, self._clock())
        await self._wait(gauge, gauge.requests, 1, "serving.too-many-requests")
        entered = self.enter(key)
        assert entered is not None, "it was waited for, and nobody else has run since"
        return entered

    def take(self, gauge: Gauge, tokens: int) -> bool:
        hand = gauge.tokens
        if hand.left < tokens:
            return False
        hand.left -= tokens
        if hand.left < hand.low:
            self._foresee(gauge, hand)
        return True

    async def wait_to_take(self, gauge: Gauge, tokens: int) -> None:
        """Raises Unavailable serving.too-many-tokens, with the time until there is room."""
        await self._wait(gauge, gauge.tokens, tokens, "serving.too-many-tokens")
        gauge.tokens.left -= tokens

    def leave(self, gauge: Gauge, taken: int, used: int) -> None:
        gauge.calls -= 1
        gauge.tokens.left += taken - used

    def return_idle(self, now: float) -> None:
        """Give back what is not used, and what is owed."""
        for gauge in self._gauges.values():
            if not gauge.calls and now - gauge.used_at > IDLE_SECONDS:
                gauge.leaves = True
                self._ask(gauge)

    def close(self) -> None:
        if self._drawing is not None:
            self._drawing.cancel()

    # ---- drawing

    def _foresee(self, gauge: Gauge, hand: Hand) -> None:
        """It runs low."""
        if gauge not in self._asking and gauge.used_at >= hand.dry_until:
            self._ask(gauge)

    async def _wait(self, gauge: Gauge, hand: Hand, amount: int, code: str) -> None:
        gauge.used_at = self._clock()
        deadline = (self._drawing_since or gauge.used_at) + WAIT_SECONDS
        gauge.leaves = False
        while hand.left < amount:
            now = self._clock()
            if now < hand.dry_until:
                wait = max(1, int(hand.ready_at - now + 0.999))
                raise Unavailable(code, retry_after_seconds=wait, limit=hand.limit)
            hand.need(amount)
            if now < deadline:
                await asyncio.wait([self._ask(gauge)], timeout=deadline - now)
            else:
                gauge.draw_alone(gauge.ask(), now)

    def _ask(self, gauge: Gauge) -> asyncio.Future[None]:
        self._asking.add(gauge)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._drawing is None:
            self._drawing = asyncio.create_task(self._draw_all())
        return self._next

    async def _draw_all(self) -> None:
        try:
            while self._asking:
                asking, told = list(self._asking), self._next
                self._asking, self._next = set(), None
                try:
                    for start in range(0, len(asking), MAX_ASKS):
                        await self._draw(asking[start : start + MAX_ASKS])
                finally:
                    if told is not None:
                        told.set_result(None)
        finally:
            self._drawing = None

    async def _draw(self, gauges: list[Gauge]) -> None:
        asks = [gauge.ask() for gauge in gauges]
        self._drawing_since = self._clock()
        try:
            answers = await asyncio.to_thread(self._control.draw, asks)
        except Exception as error:  # the database is away
            log.warning("limits hold in this process alone for now", error=repr(error))
            for gauge, ask in zip(gauges, asks, strict=True):
                gauge.draw_alone(ask, self._clock())
            return
        finally:
            self._drawing_since = 0.0
        now = self._clock()
        for gauge, ask, answer in zip(gauges, asks, answers, strict=True):
            gauge.own = None
            gauge.drawn(ask, answer, now)
            if gauge.leaves and not gauge.calls:
                self._gauges.pop(gauge.id, None)
