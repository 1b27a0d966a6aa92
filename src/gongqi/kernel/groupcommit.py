"""Group commit: writers that wait for SQLite's one lock share one transaction and one fsync.

A commit costs a flush of the disk, far more than the work inside it. Threads queue their work; the first becomes leader,
takes the write lock, runs everything that has queued up, each piece in a savepoint of its own, commits once and hands
leadership on. A piece that fails is rolled back alone. Nobody is answered before the commit, so what was acknowledged
is durable exactly as if each had committed alone; a crash before it loses only what nobody was told of.

Prior art: DeWitt et al. 1984 (group commit); MySQL and PostgreSQL `commit_delay`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gongqi.kernel.errors import Unavailable

MAX_GROUP = 64  # pieces of work in one transaction
MAX_GROUP_SECONDS = 0.05  # a group stops growing then, so that the first in it does not wait for the last


class Piece:
    """One caller's work and what became of it. `turn` is set when it is answered, or when its caller must lead."""

    __slots__ = ("error", "leads", "output", "turn", "work")

    def __init__(self, work: Callable[[Session], Any]) -> None:
        self.work = work
        self.output: Any = None
        self.error: BaseException | None = None
        self.leads = False
        self.turn = threading.Event()


class GroupCommit:
    def __init__(self, engine: Engine, *, wait_seconds: float) -> None:
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._waiting: deque[Piece] = deque()
        self._led = False

    def run(self, work: Callable[[Session], Any]) -> Any:
        """Run `work` in a transaction that is committed when this returns; raises what `work` or the commit raises."""
        [piece] = self.run_all([work])
        if piece.error is not None:
            raise piece.error
        return piece.output

    def run_all(self, works: Iterable[Callable[[Session], Any]]) -> list[Piece]:
        """Run each of `works` as if alone, in this order; when this returns, what has no error is committed."""
        pieces = [Piece(work) for work in works]
        with self._lock:
            self._waiting.extend(pieces)
            if pieces and not self._led:
                self._led = pieces[0].leads = True
        for piece in pieces:
            if not piece.leads:
                self._wait(piece)
            if piece.leads:
                self._lead()
        return pieces

    def _wait(self, piece: Piece) -> None:
        if piece.turn.wait(self._wait_seconds):
            return
        with self._lock:
            if piece in self._waiting and not piece.leads:
                self._waiting.remove(piece)
                piece.error = Unavailable("kernel.busy", retry_after_seconds=2)
                return
        piece.turn.wait()  # it is already being run: its answer comes

    def _lead(self) -> None:
        """Run one group, then pass the lead to whoever has queued up meanwhile."""
        group: list[Piece] = []
        try:
            with self._engine.begin() as connection:
                started = time.monotonic()
                while (piece := self._next(group, started)) is not None:
                    group.append(piece)
                    self._run(piece, connection)
        except BaseException as error:  # the transaction itself failed: nobody's work stands
            for piece in group or [self._first()]:
                piece.output, piece.error = None, error
        finally:
            self._hand_on()
            for piece in group:
                piece.turn.set()

    def _next(self, group: list[Piece], started: float) -> Piece | None:
        if len(group) >= MAX_GROUP or (group and time.monotonic() - started > MAX_GROUP_SECONDS):
            return None
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _first(self) -> Piece:
        """The leader's own piece, which is the oldest, when the transaction could not even begin."""
        with self._lock:
            return self._waiting.popleft()

    def _hand_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].turn.set()
            else:
                self._led = False

    @staticmethod
    def _run(piece: Piece, connection: Any) -> None:
        session = Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")
        try:
            with session, session.begin():
                piece.output = piece.work(session)
        except BaseException as error:
            piece.error = error
            if not connection.connection.dbapi_connection.in_transaction:
                # SQLite itself gave the whole transaction up, as it does when the disk is full. What failed first says
                # why; what we see is that the savepoint is gone.
                raise (error.__context__ or error) from None
