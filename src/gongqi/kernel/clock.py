"""Time that never runs backwards.

`SystemClock` follows the machine's clock forward but, when that clock jumps back, goes on at the pace of the monotonic
counter until the wall catches up. So within a process no two readings are ever in the wrong order. Across a restart it
begins no earlier than what was last recorded, so that no lease and no timer waits for the old time. A clock that
stands more than a day behind was more probably wrong before than now: then the machine's is followed, and whoever
assembles the kernel brings forward what waits. All times are aware UTC datetimes.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

MAX_CARRIED_SECONDS = 86_400.0  # what a wrong time zone or a restored machine is off by; beyond, dates would be wrong


class Clock(Protocol):
    def now(self) -> datetime: ...


class SystemClock:
    """`not_before` is what was last recorded; `behind_seconds` is how far the machine stood behind it at the start."""

    def __init__(self, *, not_before: datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._wall_seconds = time.time()
        self.behind_seconds = max(not_before.timestamp() - self._wall_seconds, 0.0) if not_before else 0.0
        if self.behind_seconds <= MAX_CARRIED_SECONDS:
            self._wall_seconds += self.behind_seconds
        self._monotonic_seconds = time.monotonic()

    def now(self) -> datetime:
        with self._lock:
            wall, monotonic = time.time(), time.monotonic()
            carried = self._wall_seconds + (monotonic - self._monotonic_seconds)
            self._wall_seconds = max(wall, carried)
            self._monotonic_seconds = monotonic
            return datetime.fromtimestamp(self._wall_seconds, UTC)


class FixedClock:
    """A clock for tests and for law evaluated `as_of` a date: it moves only when told."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, **delta: float) -> None:
        self._now += timedelta(**delta)
