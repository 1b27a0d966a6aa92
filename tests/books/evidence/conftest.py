"""A small book: a kernel whose only room is evidence, with a worker that runs when told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gongqi.books.evidence import service
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.room import ROOM
from gongqi.kernel.access import FOUNDATION, Actor, Vocabulary
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, Read
from gongqi.kernel.worker import Worker

AUDITOR = Actor("prs_auditor", "person", "Auditor", grants={FOUNDATION: frozenset({"evidence:*"})})
STRANGER = Actor("prs_stranger", "person", "Stranger")


@dataclass
class Book:
    kernel: Kernel
    worker: Worker
    clock: Any

    @property
    def home(self) -> Path:
        return self.kernel.settings.home

    def record(self, subject: str = "thing_1", kind: str = "test.done", private: Any = None, **facts: Any) -> str:
        return self.kernel.transact(
            lambda ctx: ctx.record(subject, kind=kind, private=private, **facts), reason="req_test"
        )

    def sequence(self) -> None:
        """One run of the sequencer, as a nudge would cause it."""
        self.worker.nudge({service.SEQUENCE})
        self.worker.run_until_idle()

    def fill(self, *batches: int) -> list[str]:
        """Record and sequence so many entries a round; returns all ids in the order of the log."""
        ids = []
        for size in batches:
            for number in range(size):
                self.clock.advance(milliseconds=1)
                ids.append(self.record(f"thing_{number % 7}", private={"n": number}, number=number))
            self.sequence()
        return ids

    def look(self, work: Callable[[Read], Any], actor: Actor = STRANGER) -> Any:
        return self.kernel.look(work, Caller(actor))


@pytest.fixture
def book(build: Any, clock: Any) -> Book:
    kernel = build(House.build([ROOM], Vocabulary({})), record=service.append, clock=clock)
    kernel.parts[SigningKeys] = SigningKeys.load_or_generate(kernel.settings.home / "keys")
    kernel.transact(service.ensure, reason="start")
    worker = Worker(kernel, threads=0)
    return Book(kernel, worker, clock)


@pytest.fixture
def auditor() -> Actor:
    return AUDITOR
