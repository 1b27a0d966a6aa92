"""Rows of many callers, run together: what waits while a batch runs is in the next one, so nobody waits for a clock.

Callers take turns: each gives a slice to a batch and goes to the end of the line, so that one who brings thousands of
rows does not keep from the others those who bring one. Rows of about one length run together, because a batch is as wide
as its longest row.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gongqi.kernel.errors import Unavailable

MAX_ROWS = 32  # of a batch: more is no faster on a processor, and waits longer
MAX_TOKENS = 16_384  # of a batch, padding counted: bounds what one run takes in memory and time
SLICE_ROWS = 16  # of one caller, while others wait
MAX_WAITING_TOKENS = 1 << 20  # some minutes of a small model's time; beyond, callers come back later

Row = Sequence[int]


class _Job:
    """One caller's rows, longest first, and the vectors that have come."""

    __slots__ = ("done", "left", "order", "rows", "taken", "vectors")

    def __init__(self, rows: Sequence[Row], done: asyncio.Future[list[Any]]) -> None:
        self.rows = rows
        self.order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        self.vectors: list[Any] = [None] * len(rows)
        self.left = len(rows)
        self.taken = 0
        self.done = done


class Batches:
    """`run` is called on one thread, a batch at a time. To be used within one event loop."""

    def __init__(self, run: Callable[[Sequence[Row]], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._waiting: deque[_Job] = deque()
        self._worker: asyncio.Task[None] | None = None
        self.waiting_tokens = 0
        self.batches = self.rows = 0  # that were run
        self.since: float | None = None  # when the run under way began, by the loop's clock

    async def vectors(self, rows: Sequence[Row]) -> list[Any]:
        """One vector for each row. Raises Unavailable: serving.engine-busy, and what `run` raises."""
        tokens = sum(map(len, rows))
        if self._waiting and self.waiting_tokens + tokens > MAX_WAITING_TOKENS:
            raise Unavailable("serving.engine-busy", retry_after_seconds=2)
        job = _Job(rows, self._loop.create_future())
        self.waiting_tokens += tokens
        self._waiting.append(job)
        if self._worker is None:
            self._worker = self._loop.create_task(self._work())
        return await job.done

    async def _work(self) -> None:
        try:
            while batch := self._next():
                self.since = self._loop.time()
                self.batches += 1
                self.rows += len(batch)
                try:
                    vectors = await self._loop.run_in_executor(self._thread, self._run, [row for _, _, row in batch])
                except Exception as error:  # whatever it is, it is theirs who are in this batch
                    self._fail({job for job, *_ in batch}, error)
                    continue
                for (job, place, _), vector in zip(batch, vectors, strict=True):
                    job.vectors[place] = vector
                    job.left -= 1
                    if not job.left and not job.done.done():
                        job.done.set_result(job.vectors)
        finally:
            self.since = None
            self._worker = None

    def _next(self) -> list[tuple[_Job, int, Row]]:
        """As many rows as run together, from who waits, in turn."""
        batch: list[tuple[_Job, int, Row]] = []
        width = 0
        while self._waiting and len(batch) < MAX_ROWS:
            job = self._waiting.popleft()
            if job.done.done():  # its caller has left
                self._forget(job)
                continue
            for _ in range(SLICE_ROWS if self._waiting else MAX_ROWS):
                place = job.order[job.taken]
                row = job.rows[place]
                if len(batch) >= MAX_ROWS or (batch and max(width, len(row)) * (len(batch) + 1) > MAX_TOKENS):
                    self._waiting.appendleft(job)
                    return batch
                width = max(width, len(row))
                batch.append((job, place, row))
                self.waiting_tokens -= len(row)
                job.taken += 1
                if job.taken == len(job.rows):
                    break
            else:
                self._waiting.append(job)
        return batch

    def _forget(self, job: _Job) -> None:
        self.waiting_tokens -= sum(len(job.rows[place]) for place in job.order[job.taken :])

    def _fail(self, jobs: set[_Job], error: Exception) -> None:
        for job in jobs:
            if job in self._waiting:
                self._waiting.remove(job)
                self._forget(job)
            if not job.done.done():
                job.done.set_exception(error)
