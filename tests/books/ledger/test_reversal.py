from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.service import Line
from gongqi.kernel.errors import Refused


def refused(code: str) -> Any:
    return pytest.raises(Refused, match=code.replace(".", r"\."))


def reverse(books: Any, transaction: str, key: str = "undo", reason: str = "error") -> ledger.TransactionOut:
    return books.act(lambda ctx: ledger.reverse(ctx, transaction, key=key, reason=reason))


def settled(books: Any, payer: str, *lines: Line) -> ledger.HoldOut:
    def work(ctx: Any) -> ledger.HoldOut:
        hold = ledger.reserve(
            ctx, key="call:1", payer=payer, amount=60, subject="call_1", expires_at=ctx.now + timedelta(minutes=1)
        )
        return ledger.settle(ctx, hold=hold.id, lines=lines)

    return books.act(work)


def test_a_reversal_restores_every_balance_and_keeps_both_transactions(books: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b", 5)
    moved = books.move("k", a, b, 30)
    undone = reverse(books, moved.id)
    assert books.balances(a, b) == [100, 5]
    assert (undone.reverses, undone.facts) == (moved.id, {"reason": "error"})
    assert len(books.kernel.look(lambda ctx: ledger.statement(ctx, b)).items) == 3


def test_a_transaction_is_reversed_once_but_asking_again_is_harmless(books: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    moved = books.move("k", a, b, 30)
    assert reverse(books, moved.id) == reverse(books, moved.id)
    with refused("ledger.already-reversed"):
        reverse(books, moved.id, key="again")
    with refused("ledger.key-reused"):
        reverse(books, moved.id, reason="refund")
    assert books.balances(a, b) == [100, 0]


def test_a_wrong_reversal_is_itself_reversed(books: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    undone = reverse(books, books.move("k", a, b, 30).id)
    reverse(books, undone.id, key="redo")
    assert books.balances(a, b) == [70, 30]


def test_the_reversal_of_a_settlement_refunds_the_payer_with_all_fees_and_opens_no_hold(books: Any) -> None:
    a, b, c = books.open("org_a", 100), books.open("org_b", 1), books.open("org_c")
    hold = settled(books, a, Line(b, 30), Line(c, 3))
    assert books.balances(a, b, c) == [67, 31, 3]
    reverse(books, hold.ended_by, reason="refund")
    assert books.balances(a, b, c, "org_a:credit:held") == [100, 1, 0, 0]
    assert books.kernel.look(lambda ctx: ledger.hold(ctx, hold.id)).state == "settled"


def test_what_only_moved_reserved_units_is_not_reversed(books: Any) -> None:
    a = books.open("org_a", 100)
    hold = settled(books, a)
    for transaction in (hold.placed_by, hold.ended_by):
        with refused("ledger.hold-not-reversible"):
            reverse(books, transaction)


def test_a_reversal_puts_nobody_under_their_floor(books: Any) -> None:
    a, b, c = books.open("org_a", 100), books.open("org_b"), books.open("org_c")
    moved = books.move("k1", a, b, 30)
    books.move("k2", b, c, 20)
    with refused("ledger.balance-too-low") as refusal:
        reverse(books, moved.id)
    assert refusal.value.params == {"account": b, "short": 20}


def test_an_unknown_transaction_or_a_reason_that_is_a_sentence_is_refused(books: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    moved = books.move("k", a, b, 30)
    with refused("ledger.transaction-unknown"):
        reverse(books, "txn_none")
    with refused("ledger.field-malformed"):
        reverse(books, moved.id, reason="Because somebody told me so")
