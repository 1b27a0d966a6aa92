from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.flows import EXPIRE
from gongqi.books.ledger.replay import check
from gongqi.books.ledger.service import Line
from gongqi.kernel.errors import Refused
from gongqi.kernel.worker import Worker

HOLD_SECONDS = 60


def refused(code: str) -> Any:
    return pytest.raises(Refused, match=code.replace(".", r"\."))


def place(books: Any, payer: str, amount: int, key: str = "call:1") -> ledger.HoldOut:
    return books.act(
        lambda ctx: ledger.reserve(
            ctx,
            key=key,
            payer=payer,
            amount=amount,
            subject="call_1",
            expires_at=ctx.now + timedelta(seconds=HOLD_SECONDS),
        )
    )


def settle(books: Any, hold: str, *lines: Line, **options: Any) -> ledger.HoldOut:
    return books.act(lambda ctx: ledger.settle(ctx, hold=hold, lines=lines, **options))


def release(books: Any, hold: str, reason: str = "cancelled") -> ledger.HoldOut:
    return books.act(lambda ctx: ledger.release(ctx, hold=hold, reason=reason))


def is_true(books: Any) -> bool:
    with books.kernel.db.reading() as session:
        return check(session) == []


def test_a_hold_sets_units_aside_and_settlement_returns_the_rest(books: Any) -> None:
    a, b, c = books.open("org_a", 100), books.open("org_b"), books.open("org_c")
    hold = place(books, a, 60)
    assert books.balances(a, "org_a:credit:held") == [40, 60]
    done = settle(books, hold.id, Line(b, 30), Line(c, 10), evidence="ev_1", facts={"tokens": 7})
    assert books.balances(a, b, c, "org_a:credit:held") == [60, 30, 10, 0]
    assert (done.state, done.charged, done.amount) == ("settled", 40, 60)
    assert is_true(books)


def test_a_settlement_may_use_all_or_nothing_of_the_hold(books: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    assert settle(books, place(books, a, 60, "k1").id, Line(b, 60)).charged == 60
    assert settle(books, place(books, a, 40, "k2").id).charged == 0
    assert books.balances(a, b) == [40, 60]
    assert is_true(books)


def test_a_hold_that_is_released_gives_everything_back(books: Any) -> None:
    a = books.open("org_a", 100)
    hold = place(books, a, 60)
    assert release(books, hold.id).state == "released"
    assert books.balances(a, "org_a:credit:held") == [100, 0]


def test_a_hold_ends_once_and_the_same_end_asked_again_is_the_same_answer(books: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    hold = place(books, a, 60)
    done = settle(books, hold.id, Line(b, 10))
    assert settle(books, hold.id, Line(b, 10)) == done
    with refused("ledger.hold-ended"):
        settle(books, hold.id, Line(b, 11))
    with refused("ledger.hold-ended"):
        release(books, hold.id)
    other = place(books, a, 5, "call:2")
    given_back = release(books, other.id)
    assert release(books, other.id) == given_back
    with refused("ledger.hold-ended"):
        settle(books, other.id, Line(b, 1))
    assert books.balances(a, b) == [90, 10]


def test_reserving_twice_under_one_key_is_one_hold(books: Any, clock: Any) -> None:
    a = books.open("org_a", 100)
    first = place(books, a, 60)
    clock.advance(seconds=HOLD_SECONDS + 1)
    assert place(books, a, 60) == first
    assert books.balance(a) == 40
    with refused("ledger.key-reused"):
        place(books, a, 61)


def test_nobody_reserves_more_than_they_have(books: Any) -> None:
    with refused("ledger.balance-too-low"):
        place(books, books.open("org_a", 10), 11)


@pytest.mark.parametrize("amount", [0, -1, True])
def test_a_hold_needs_a_positive_amount(books: Any, amount: int) -> None:
    with refused("ledger.amount-out-of-range"):
        place(books, books.open("org_a", 10), amount)


def test_a_hold_needs_a_time_to_come_and_an_account_that_is_not_held(books: Any) -> None:
    a = books.open("org_a", 10)
    with refused("ledger.hold-expiry-past"):
        books.act(lambda ctx: ledger.reserve(ctx, key="k", payer=a, amount=1, subject="s", expires_at=ctx.now))
    with refused("ledger.held-account"):
        place(books, "org_a:credit:held", 1)


def test_a_settlement_pays_gains_in_the_unit_of_the_hold_within_what_was_reserved(books: Any) -> None:
    a, b, points = books.open("org_a", 100), books.open("org_b"), books.open("org_b", unit="point")
    hold = place(books, a, 60)
    with refused("ledger.settle-above-reserve"):
        settle(books, hold.id, Line(b, 40), Line(b, 21))
    for line in (Line(b, 0), Line(b, -1), Line(points, 1), Line("org_a:credit:held", 1)):
        with refused("ledger.settle-line-invalid"):
            settle(books, hold.id, line)
    assert books.kernel.look(lambda ctx: ledger.hold(ctx, hold.id)).state == "open"


def test_an_unknown_hold_is_refused(books: Any) -> None:
    with refused("ledger.hold-unknown"):
        release(books, "hold_none")


def test_an_overdue_hold_cannot_be_settled_whether_or_not_it_was_swept(books: Any, clock: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    hold = place(books, a, 60)
    clock.advance(seconds=HOLD_SECONDS)
    with refused("ledger.hold-ended"):
        settle(books, hold.id, Line(b, 1))
    assert books.act(lambda ctx: ledger.expire_holds(ctx)) == 1
    assert books.act(lambda ctx: ledger.expire_holds(ctx)) == 0
    with refused("ledger.hold-ended"):
        settle(books, hold.id, Line(b, 1))
    assert books.balances(a, b) == [100, 0]


def test_the_sweep_ends_overdue_holds_in_batches_and_leaves_the_others(
    books: Any, clock: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gongqi.books.ledger.flows.MAX_EXPIRING", 2)
    monkeypatch.setattr("gongqi.books.ledger.flows.expire_holds", lambda ctx: ledger.expire_holds(ctx, limit=2))
    a = books.open("org_a", 100)
    for number in range(5):
        place(books, a, 10, f"call:{number}")
    clock.advance(seconds=HOLD_SECONDS)
    late = place(books, a, 10, "call:late")
    books.act(lambda ctx: ctx.start_flow(EXPIRE.kind, key="now"))
    Worker(books.kernel).run_until_idle()
    assert books.balances(a, "org_a:credit:held") == [90, 10]
    assert books.kernel.look(lambda ctx: ledger.hold(ctx, late.id)).state == "open"
    assert is_true(books)
