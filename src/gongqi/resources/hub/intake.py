"""Uploads under way in this process: how many an organisation has, how many bytes they bring, how fast they come.

What is limited is what an upload holds while it lasts: a connection, a place on disk, a place in the queue of
inspections. The counts are of one process; with several, each admits as many, and the quota is asked again at the end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.hub.quotas import exceeded

UPLOADS_AT_ONCE = 16  # of one organisation: clients that push a folder use 5 to 8
RETRY_SECONDS = 5
PACE_SECONDS = 30  # long enough for a stall that mends itself
PACE_BYTES_PER_SECOND = (
    8 << 10
)  # a tenth of the slowest line anyone would push a model over; a thousandth of a common one


@dataclass(slots=True)
class _UnderWay:
    uploads: int = 0
    size: int = 0


class Intake:
    """What is under way, by organisation; and the places in which uploads are inspected, one for each core."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, _UnderWay] = {}
        self.inspections = anyio.CapacityLimiter(max(2, os.cpu_count() or 1))

    @contextmanager
    def admit(self, org: str, *, size: int | None, room_bytes: int | None) -> Iterator[Share]:
        """A place for one upload of `size` bytes, None when that is not known beforehand; `room_bytes` None means that
        they cost nothing. Raises Unavailable hub.uploads-too-many, Refused hub.quota-exceeded."""
        with self._lock:
            under_way = self._under_way.setdefault(org, _UnderWay())
            if under_way.uploads >= UPLOADS_AT_ONCE:
                raise Unavailable("hub.uploads-too-many", retry_after_seconds=RETRY_SECONDS, limit=UPLOADS_AT_ONCE)
            under_way.uploads += 1
        share = Share(self._lock, under_way, room_bytes)
        try:
            if size is not None:
                share.grow(size)
                share.is_declared = True
            yield share
        finally:
            with self._lock:
                under_way.uploads -= 1
                under_way.size -= share.size
                if not under_way.uploads:
                    del self._under_way[org]


@dataclass(slots=True)
class Share:
    """One upload's part of its organisation's room."""

    _lock: threading.Lock
    _under_way: _UnderWay
    _room_bytes: int | None
    size: int = 0
    is_declared: bool = False

    def arrived(self, count: int) -> None:
        """So many bytes have come in. Raises Refused hub.quota-exceeded."""
        if not self.is_declared:
            self.grow(count)

    def grow(self, count: int) -> None:
        with self._lock:
            if self._room_bytes is None:
                return
            if self._under_way.size + count > self._room_bytes:
                raise exceeded(self._room_bytes - self._under_way.size + self.size, self.size + count)
            self._under_way.size += count
            self.size += count


@dataclass(slots=True)
class Pace:
    """How fast bytes come, judged every PACE_SECONDS: who sends less holds a place that others wait for.

    The time that the disk takes is counted too, and does no harm: it is asked once a megabyte, which is more than the
    pace demands of half a minute.
    """

    began: float  # seconds, by a clock that never jumps
    count: int = 0

    def arrived(self, count: int, *, now: float) -> None:
        """Raises Refused hub.upload-too-slow."""
        self.count += count
        if now - self.began < PACE_SECONDS:
            return
        if self.count < PACE_SECONDS * PACE_BYTES_PER_SECOND:
            raise too_slow()
        self.began, self.count = now, 0


def too_slow() -> Refused:
    return Refused("hub.upload-too-slow", bytes_per_second=PACE_BYTES_PER_SECOND, seconds=PACE_SECONDS)
