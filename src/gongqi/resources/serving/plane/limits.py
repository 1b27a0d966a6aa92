"""How much a key may do at once and in a minute. In memory; a bucket a key, refilled as time passes.

A bucket holds a minute's worth, so a minute after a pause may see at most twice the rate, and any longer time the rate
itself. Tokens are taken by estimate when a call is admitted and corrected by what it came to when it ends.
"""

from __future__ import annotations

from gongqi.kernel.errors import Unavailable
from gongqi.resources.serving.plane.snapshot import Key

MINUTE = 60.0


class Gauge:
    """One key's buckets: requests and tokens left, calls under way."""

    __slots__ = ("at", "calls", "requests", "tokens")

    def __init__(self, key: Key, now: float) -> None:
        self.requests = float(key.requests_per_minute)
        self.tokens = float(key.tokens_per_minute)
        self.calls = 0
        self.at = now


class Limits:
    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}

    def enter(self, key: Key, tokens: int, now: float) -> Gauge:
        """Count a call in. Raises Unavailable: serving.too-many-at-once, serving.too-many-requests,
        serving.too-many-tokens, each with the time after which there is room."""
        gauge = self._gauges.get(key.id)
        if gauge is None:
            gauge = self._gauges[key.id] = Gauge(key, now)
        _refill(gauge, key, now)
        if gauge.calls >= key.parallel:
            raise Unavailable("serving.too-many-at-once", limit=key.parallel)
        if gauge.requests < 1:
            wait = _seconds(1 - gauge.requests, key.requests_per_minute)
            raise Unavailable("serving.too-many-requests", retry_after_seconds=wait, limit=key.requests_per_minute)
        if gauge.tokens < min(tokens, key.tokens_per_minute):  # what is above the limit itself waits for a full bucket
            wait = _seconds(min(tokens, key.tokens_per_minute) - gauge.tokens, key.tokens_per_minute)
            raise Unavailable("serving.too-many-tokens", retry_after_seconds=wait, limit=key.tokens_per_minute)
        gauge.calls += 1
        gauge.requests -= 1
        gauge.tokens -= tokens
        return gauge

    def leave(self, gauge: Gauge, taken: int, used: int) -> None:
        gauge.calls -= 1
        gauge.tokens += taken - used

    def forget_idle(self, now: float) -> None:
        """Drop the gauges that would be full again: a new one is the same."""
        for key, gauge in list(self._gauges.items()):
            if not gauge.calls and now - gauge.at > 10 * MINUTE:
                del self._gauges[key]


def _refill(gauge: Gauge, key: Key, now: float) -> None:
    minutes = max(0.0, now - gauge.at) / MINUTE
    gauge.at = now
    gauge.requests = min(key.requests_per_minute, gauge.requests + minutes * key.requests_per_minute)
    gauge.tokens = min(key.tokens_per_minute, gauge.tokens + minutes * key.tokens_per_minute)


def _seconds(missing: float, a_minute: int) -> int:
    return max(1, int(missing * MINUTE / a_minute + 0.999))
