from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from gongqi.books.ledger import service as ledger
from gongqi.kernel.access import ANONYMOUS, FOUNDATION, Actor
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Caller, execute, query

READS = frozenset({"ledger:account:read", "ledger:transaction:read"})
OPERATOR = Actor("p_op", "person", "", {FOUNDATION: frozenset({"*"})})
AUDITOR = Actor("p_audit", "person", "", {FOUNDATION: READS | {"ledger:book:check"}})
OWNER_A = Actor("p_a", "person", "", {"org_a": frozenset({"*"})}, frozenset({"org_a"}))
MEMBER_B = Actor("p_b", "person", "", {"org_b": READS}, frozenset({"org_b"}))
STRANGER = Actor("p_x", "person", "", {"org_x": READS}, frozenset({"org_x"}))


def refused(code: str) -> Any:
    return pytest.raises(Refused, match=code.replace(".", r"\."))


def ask(books: Any, read: Any, actor: Actor, **input: Any) -> Any:
    return query(books.kernel, read, Caller(actor), read.input(**input))


def do(books: Any, verb: Any, actor: Actor, **input: Any) -> Any:
    return execute(books.kernel, verb, Caller(actor, idempotency_key=input.pop("once", None)), verb.input(**input))


def grant(books: Any, owner: str = "org_a", amount: int = 100, actor: Actor = OPERATOR, **more: Any) -> Any:
    return do(books, ledger.grant, actor, owner=owner, unit="credit", amount=amount, **more)


def test_the_operator_grants_and_the_evidence_names_the_transaction(books: Any) -> None:
    out = grant(books, purpose="welcome")
    assert books.balances("org_a:credit:available", "foundation:credit:issued") == [100, -100]
    entry = books.entries[-1]
    assert (entry.kind, entry.subject, out.evidence) == ("ledger.credit-granted", out.id, entry.id)
    assert entry.facts == {"account": "org_a:credit:available", "amount": 100, "purpose": "welcome"}


def test_a_repeated_request_grants_once(books: Any) -> None:
    assert grant(books, once="r1") == grant(books, once="r1")
    assert books.balance("org_a:credit:available") == 100


def test_nobody_but_the_foundation_issues_or_reverses_not_even_an_owner_within_the_organisation(books: Any) -> None:
    out = grant(books)
    for actor in (OWNER_A, AUDITOR, STRANGER):
        with refused("access.forbidden"):
            grant(books, actor=actor)
        with refused("access.forbidden"):
            do(books, ledger.reverse_transaction, actor, transaction=out.id, reason="error")
    with refused("access.sign-in-needed"):
        grant(books, actor=ANONYMOUS)
    assert books.balance("org_a:credit:available") == 100


def test_the_operator_reverses_with_evidence(books: Any) -> None:
    out = grant(books)
    undone = do(books, ledger.reverse_transaction, OPERATOR, transaction=out.id, reason="error")
    assert books.balances("org_a:credit:available", "foundation:credit:issued") == [0, 0]
    entry = books.entries[-1]
    assert (entry.kind, entry.subject) == ("ledger.transaction-reversed", out.id)
    assert (entry.facts["by"], undone.evidence) == (undone.id, entry.id)


def test_a_grant_must_be_well_formed(books: Any) -> None:
    for owner, purpose in (("Not An Owner", "subsidy"), ("org_a", "A Sentence")):
        with refused("ledger.field-malformed"):
            grant(books, owner=owner, purpose=purpose)
    for amount in (0, -1, 2**53):
        with pytest.raises(ValueError, match="amount"):
            grant(books, amount=amount)
    with refused("kernel.unit-unknown"):
        do(books, ledger.grant, OPERATOR, owner="org_a", unit="doubloon", amount=1)


def test_an_account_is_seen_by_its_own_and_by_those_who_watch_the_whole_book(books: Any) -> None:
    grant(books)
    for actor in (OPERATOR, AUDITOR, OWNER_A):
        assert ask(books, ledger.get_account, actor, account="org_a:credit:available").balance == 100
        assert len(ask(books, ledger.account_statement, actor, account="org_a:credit:available").items) == 1
    for actor in (MEMBER_B, STRANGER, ANONYMOUS):
        with refused("access.not-found"):
            ask(books, ledger.get_account, actor, account="org_a:credit:available")
        with refused("access.not-found"):
            ask(books, ledger.account_statement, actor, account="org_a:credit:available")
        assert ask(books, ledger.list_accounts, actor).items == []


def test_a_person_sees_the_account_of_their_own_unless_their_token_is_narrower(books: Any) -> None:
    grant(books, owner="p_x")
    assert [row.id for row in ask(books, ledger.list_accounts, STRANGER).items] == ["p_x:credit:available"]
    narrow = Actor("p_x", "person", "", {}, scopes=frozenset({"hub:asset:read"}))
    assert ask(books, ledger.list_accounts, narrow).items == []


def test_a_transaction_is_seen_by_whom_it_touches_with_all_its_lines(books: Any) -> None:
    grant(books)
    b = books.open("org_b")
    out = books.move("k", "org_a:credit:available", b, 30)
    for actor in (OWNER_A, MEMBER_B, OPERATOR, AUDITOR):
        seen = ask(books, ledger.get_transaction, actor, transaction=out.id)
        assert [(line.account, line.amount) for line in seen.lines] == [("org_a:credit:available", -30), (b, 30)]
    for actor in (STRANGER, ANONYMOUS):
        with refused("access.not-found"):
            ask(books, ledger.get_transaction, actor, transaction=out.id)


def test_the_list_of_accounts_can_be_narrowed_and_paged(books: Any) -> None:
    grant(books)
    books.open("org_a", unit="point")
    books.open("org_b")
    assert [row.id for row in ask(books, ledger.list_accounts, OPERATOR, owner="org_a", unit="point").items] == [
        "org_a:point:available"
    ]
    first = ask(books, ledger.list_accounts, OPERATOR, limit=3)
    rest = ask(books, ledger.list_accounts, OPERATOR, limit=3, cursor=first.next)
    assert len({row.id for row in (*first.items, *rest.items)}) == 4 and rest.next is None


def test_a_statement_pages_backwards_with_a_true_balance_on_every_row(books: Any) -> None:
    grant(books)
    b = books.open("org_b")
    for number in range(7):
        books.move(f"k{number}", "org_a:credit:available", b, number + 1)
    rows, cursor = [], None
    while True:
        page = ask(books, ledger.account_statement, MEMBER_B, account=b, limit=3, cursor=cursor)
        rows += page.items
        if (cursor := page.next) is None:
            break
    assert [row.amount for row in rows] == [7, 6, 5, 4, 3, 2, 1]
    assert all(newer.balance - newer.amount == older.balance for newer, older in pairwise(rows))
    for forged in ("x", "1", "1.", ".1", "1.x", "9" * 40 + ".1"):
        with refused("kernel.cursor-invalid"):
            ask(books, ledger.account_statement, MEMBER_B, account=b, cursor=forged)


def test_an_account_paid_twice_in_one_transaction_shows_both_lines_on_any_page_size(books: Any) -> None:
    a, b = books.open("org_a", 10), books.open("org_b")
    lines = (ledger.Line(a, -5), ledger.Line(b, 2), ledger.Line(b, 3))
    books.act(lambda ctx: ledger.post(ctx, key="k", kind="test.split", subject="s", postings=lines))
    first = ask(books, ledger.account_statement, MEMBER_B, account=b, limit=1)
    second = ask(books, ledger.account_statement, MEMBER_B, account=b, limit=1, cursor=first.next)
    assert [(row.amount, row.balance) for row in (*first.items, *second.items)] == [(3, 5), (2, 2)]


def test_the_book_is_checked_by_operator_and_auditor_only(books: Any) -> None:
    grant(books)
    for actor in (OPERATOR, AUDITOR):
        report = ask(books, ledger.check_book, actor)
        assert (report.true, report.transactions, report.postings, report.findings) == (True, 1, 2, [])
        assert [(row.unit, row.circulating, row.sum) for row in report.units] == [("credit", 100, 0)]
    for actor in (OWNER_A, STRANGER):
        with refused("access.forbidden"):
            ask(books, ledger.check_book, actor)
