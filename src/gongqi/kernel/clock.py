"""Time that never runs backwards.

`SystemClock` follows the machine's clock forward but, when that clock jumps back, goes on at the pace of the monotonic
counter until the wall catches up. So within a process no two readings are ever in the wrong order; across processes the
books compare with what they have already written (see `books.evidence`). All times are aware UTC datetimes.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime: ...


class SystemClock:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wall_seconds = time.time()
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
