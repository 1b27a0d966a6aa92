"""Requests that arrive while others are being written are written together.

A thread for each request costs more than most verbs: it is woken, fights for the interpreter, waits for the commit and
wakes the loop again. Here requests queue on the event loop; a lane, which is one thread at work on one batch, takes as
many as the database commits at the price of one, and all answers go back in one message. The queue belongs to the loop
alone, so nothing is locked. On SQLite, where writers take turns anyway, there is one lane; on PostgreSQL a lane holds one
request and there are as many as there are connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Generic, TypeVar

A = TypeVar("A")
Q = TypeVar("Q")


class Batches(Generic[Q, A]):
    """`work` answers a batch on a thread: one answer for each question, in order; what it raises, all of them get."""

    def __init__(self, work: Callable[[Sequence[Q]], Sequence[A]], *, lanes: int, size: int) -> None:
        self._work = work
        self._size = size
        self._free = lanes
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="batches")
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()

    async def answer(self, question: Q) -> A:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, future))
        if self._free:
            self._free -= 1
            loop.call_soon(self._fill, loop)  # after those that the same turn of the loop brings
        return await future

    def _fill(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the lane that is free whatever waits, or let it rest."""
        if not self._waiting:
            self._free += 1
            return
        batch = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
        working = loop.run_in_executor(self._threads, self._work, [question for question, _ in batch])

        def settle(done: asyncio.Future[Sequence[A]]) -> None:
            self._fill(loop)  # the lane goes on while these answers are being sent
            error = done.exception()
            answers = [] if error else done.result()
            for (_, future), answer in zip_longest(batch, answers):
                if future.done():  # whoever asked has left
                    continue
                if error:
                    future.set_exception(error)
                else:
                    future.set_result(answer)

        working.add_done_callback(settle)
