"""A house with one room, the ledger, and a few things to post between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.room import ROOM
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Entry, Write


class Books:
    """The ledger as another room meets it: each call is one transaction of its own."""

    def __init__(self, kernel: Kernel, entries: list[Entry]) -> None:
        self.kernel = kernel
        self.entries = entries

    def act(self, work: Callable[[Write], Any]) -> Any:
        return self.kernel.transact(work, reason="test")

    def open(self, owner: str, amount: int = 0, unit: str = "credit") -> str:
        """An account holding `amount`, issued by the foundation."""

        def work(ctx: Write) -> str:
            account = ledger.account(ctx, owner, unit)
            if amount:
                issuer = ledger.account(ctx, "foundation", unit, "issued", floor=None)
                lines = (ledger.Line(issuer, -amount), ledger.Line(account, amount))
                ledger.post(ctx, key=f"open:{account}", kind="test.open", subject=owner, postings=lines)
            return account

        return self.act(work)

    def move(self, key: str, source: str, target: str, amount: int, **options: Any) -> ledger.TransactionOut:
        lines = (ledger.Line(source, -amount), ledger.Line(target, amount))
        return self.act(
            lambda ctx: ledger.post(ctx, key=key, kind="test.move", subject="s_1", postings=lines, **options)
        )

    def balance(self, account: str) -> int:
        return self.kernel.look(lambda ctx: ledger.balance(ctx, account))

    def balances(self, *accounts: str) -> list[int]:
        return [self.balance(account) for account in accounts]


@pytest.fixture
def books(build: Callable[..., Kernel], clock: Any) -> Iterator[Books]:
    entries: list[Entry] = []
    house = House.build([ROOM], Vocabulary({}))
    yield Books(build(house, record=lambda ctx, entry: entries.append(entry), clock=clock), entries)
