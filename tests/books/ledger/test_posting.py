from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from gongqi.books.ledger import models, rules
from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.service import Draft, Line
from gongqi.kernel.errors import Refused
from gongqi.kernel.money import MAX_AMOUNT


def refused(code: str) -> Any:
    return pytest.raises(Refused, match=code.replace(".", r"\."))


def test_a_posting_moves_units_and_says_the_balance_after_each_line(books: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    out = books.move("k1", a, b, 30, facts={"call": "call_1", "count": 3}, evidence="ev_1")
    assert books.balances(a, b) == [70, 30]
    assert (out.kind, out.evidence, out.facts) == ("test.move", "ev_1", {"call": "call_1", "count": 3})
    page = books.kernel.look(lambda ctx: ledger.statement(ctx, b))
    assert [(row.amount, row.balance, row.counterparts[0].account) for row in page.items] == [(30, 30, a)]


def test_the_same_key_and_payload_give_back_the_same_transaction(books: Any, clock: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    first = books.move("k1", a, b, 30)
    clock.advance(hours=1)
    assert books.move("k1", a, b, 30) == first
    assert books.balances(a, b) == [70, 30]


def test_the_same_key_with_another_payload_is_refused_and_posts_nothing(books: Any) -> None:
    a, b = books.open("org_a", 100), books.open("org_b")
    books.move("k1", a, b, 30)
    with refused("ledger.key-reused"):
        books.move("k1", a, b, 31)
    with refused("ledger.key-reused"):
        books.move("k1", a, b, 30, facts={"call": "call_2"})
    assert books.balances(a, b) == [70, 30]


def test_a_batch_is_posted_whole_or_not_at_all(books: Any) -> None:
    a, b = books.open("org_a", 10), books.open("org_b")
    drafts = [Draft(f"k{n}", "test.move", "s", (Line(a, -4), Line(b, 4))) for n in range(3)]
    with refused("ledger.balance-too-low"):
        books.act(lambda ctx: ledger.post_many(ctx, drafts))
    assert books.balances(a, b) == [10, 0]
    assert len(books.act(lambda ctx: ledger.post_many(ctx, drafts[:2]))) == 2
    assert books.balances(a, b) == [2, 8]


def test_a_key_twice_in_one_batch_is_posted_once(books: Any) -> None:
    a, b = books.open("org_a", 10), books.open("org_b")
    draft = Draft("k", "test.move", "s", (Line(a, -4), Line(b, 4)))
    one, two = books.act(lambda ctx: ledger.post_many(ctx, [draft, draft]))
    assert one == two and books.balances(a, b) == [6, 4]
    other = Draft("k2", "test.move", "s", (Line(a, -1), Line(b, 1)))
    with refused("ledger.key-reused"):
        books.act(lambda ctx: ledger.post_many(ctx, [other, Draft("k2", "test.move", "s", draft.lines)]))


def test_a_caller_may_answer_a_refusal_because_nothing_was_written(books: Any) -> None:
    a, b = books.open("org_a", 10), books.open("org_b")

    def work(ctx: Any) -> None:
        try:
            ledger.post(ctx, key="big", kind="test.move", subject="s", postings=(Line(a, -11), Line(b, 11)))
        except Refused:
            ledger.post(ctx, key="small", kind="test.move", subject="s", postings=(Line(a, -10), Line(b, 10)))

    books.act(work)
    assert books.balances(a, b) == [0, 10]


def test_the_floor_holds_after_every_transaction_of_a_batch_not_only_at_its_end(books: Any) -> None:
    a, b = books.open("org_a", 5), books.open("org_b")
    down_then_up = [
        Draft("k1", "test.move", "s", (Line(a, -6), Line(b, 6))),
        Draft("k2", "test.move", "s", (Line(b, -6), Line(a, 6))),
    ]
    with refused("ledger.balance-too-low") as refusal:
        books.act(lambda ctx: ledger.post_many(ctx, down_then_up))
    assert refusal.value.params == {"account": a, "short": 1}


def test_an_issuer_without_floor_may_go_below_zero_and_a_floor_is_fixed_for_life(books: Any) -> None:
    books.open("org_a", 100)
    assert books.balance("foundation:credit:issued") == -100
    with refused("ledger.floor-differs"):
        books.act(lambda ctx: ledger.account(ctx, "foundation", "credit", "issued"))


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("ledger.field-malformed", {"key": ""}),
        ("ledger.field-malformed", {"key": "k" * 201}),
        ("ledger.field-malformed", {"kind": "Nonsense"}),
        ("ledger.field-malformed", {"subject": ""}),
        ("ledger.field-malformed", {"facts": {"share": 0.5}}),
        ("ledger.field-malformed", {"facts": {"count": 2**60}}),
        ("ledger.field-malformed", {"facts": {"list": ["x"]}}),
        ("ledger.line-count", {"lines": (Line("a:credit:available", 1),)}),
        ("ledger.line-count", {"lines": tuple(Line("a:credit:available", 1 - n % 2 * 2) for n in range(1002))}),
        ("ledger.amount-out-of-range", {"lines": (Line("a:credit:available", 0), Line("b:credit:available", 0))}),
        ("ledger.amount-out-of-range", {"lines": (Line("a:credit:available", True), Line("b:credit:available", -1))}),
        ("ledger.amount-out-of-range", {"lines": (Line("a:credit:x", 2**53), Line("b:credit:x", -(2**53)))}),
        ("ledger.unbalanced", {"lines": (Line("a:credit:available", 2), Line("b:credit:available", -1))}),
        ("ledger.unbalanced", {"lines": (Line("a:credit:available", 1), Line("b:point:available", -1))}),
        ("ledger.account-unknown", {"lines": (Line("nobody", 1), Line("b:credit:available", -1))}),
        ("ledger.account-unknown", {"lines": (Line("a:credit:none", 1), Line("b:credit:none", -1))}),
        ("ledger.held-account", {"lines": (Line("a:credit:held", 1), Line("b:credit:available", -1))}),
    ],
)
def test_an_unsound_draft_is_refused(books: Any, code: str, changes: dict[str, Any]) -> None:
    lines = (Line("a:credit:x", 1), Line("b:credit:x", -1))
    sound = {"key": "k", "kind": "test.move", "subject": "s", "lines": lines}
    with refused(code):
        books.act(lambda ctx: ledger.post_many(ctx, [Draft(**{**sound, **changes})]))


def test_a_balance_never_leaves_what_readers_hold_exactly(books: Any) -> None:
    a = books.open("org_a", MAX_AMOUNT)
    with refused("ledger.amount-out-of-range"):
        books.move("k", "foundation:credit:issued", a, 1)


def test_a_batch_has_a_limit(books: Any) -> None:
    draft = Draft("k", "test.move", "s", (Line("a:credit:x", 1), Line("b:credit:x", -1)))
    with refused("ledger.batch-too-large"):
        books.act(lambda ctx: ledger.post_many(ctx, [draft] * (rules.MAX_BATCH + 1)))


def test_names_that_an_account_cannot_have_are_refused() -> None:
    for owner, code in (("", "x"), ("Org", "x"), ("a:b", "x"), ("a" * 81, "x"), ("org_a", "Held"), ("org_a", "")):
        with refused("ledger.field-malformed"):
            rules.account_id(owner, "credit", code)
    with refused("kernel.unit-unknown"):
        rules.account_id("org_a", "doubloon")


RAW = [
    "UPDATE ledger_posting SET amount = amount + 1",
    "DELETE FROM ledger_posting",
    "UPDATE ledger_transaction SET subject = 'x'",
    "DELETE FROM ledger_transaction",
    "UPDATE ledger_account SET floor = NULL",
]
RAW_SQLITE = [
    "INSERT OR REPLACE INTO ledger_posting SELECT sequence, position, account_id, 1, 1 FROM ledger_posting",
    "INSERT OR REPLACE INTO ledger_transaction SELECT * FROM ledger_transaction",
    "INSERT OR REPLACE INTO ledger_account SELECT id, owner, unit, code, NULL, opened_at FROM ledger_account",
]
RAW_POSTGRES = ["TRUNCATE ledger_posting", "TRUNCATE ledger_account CASCADE"]


def test_the_database_itself_refuses_to_change_what_was_posted(books: Any) -> None:
    a = books.open("org_a", 100)
    database = books.kernel.db
    for statement in RAW + (RAW_SQLITE if database.is_sqlite else RAW_POSTGRES):
        with pytest.raises(IntegrityError, match="append-only"):
            database.write(lambda session, statement=statement: session.execute(text(statement)))
    assert books.balance(a) == 100


def test_a_migration_can_make_the_same_triggers(books: Any) -> None:
    dialect = books.kernel.db.writer.dialect.name

    def remake(session: Any) -> None:
        for table in models.APPEND_ONLY:
            for statement in models.append_only(dialect, table):
                if statement.startswith("CREATE TRIGGER"):
                    name = statement.split()[2]
                    session.execute(text(f"DROP TRIGGER {name}" + ("" if dialect == "sqlite" else f" ON {table}")))
                session.execute(text(statement))

    books.open("org_a", 100)
    books.kernel.db.write(remake)
    with pytest.raises(IntegrityError, match="append-only"):
        books.kernel.db.write(lambda session: session.execute(text(RAW[0])))
