"""The book's digest in the log of evidence: a book rewritten so that it is true in itself is found all the same."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from gongqi.books.evidence import service as evidence
from gongqi.books.ledger import flows, replay, rules
from gongqi.books.ledger.models import Transaction
from gongqi.books.ledger.room import ROOM
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.room import House
from tests.books.ledger.conftest import Books
from tests.books.ledger.test_replay import A, B, findings, tamper


@pytest.fixture
def anchored(build: Any, clock: Any) -> Books:
    """Sequences 1 to 3 in the book, and a mark that reaches the last of them."""
    books = Books(build(House.build([ROOM], Vocabulary({})), record=evidence.append, clock=clock), [])
    a, b = books.open("org_a", 100), books.open("org_b")
    books.move("k1", a, b, 30)
    books.move("k2", a, b, 7)
    clock.advance(seconds=flows.SETTLED_SECONDS)
    assert books.act(flows.anchor_book) == 3
    return books


def marks(books: Books) -> list[tuple[int, int]]:
    with books.kernel.db.reading() as session:
        entries = list(evidence.every_of(session, replay.ANCHORED))
    return [(entry.facts["through"], entry.facts["transactions"]) for entry in entries]


def test_a_mark_reaches_what_is_settled_and_the_next_goes_on_from_there(anchored: Books, monkeypatch: Any) -> None:
    assert marks(anchored) == [(3, 3)]
    assert anchored.act(flows.anchor_book) == 0
    for number in range(3):
        anchored.move(f"more-{number}", A, B, 1)
    assert anchored.act(flows.anchor_book) == 0, "what was posted a moment ago may yet be overtaken"
    anchored.kernel.clock.advance(seconds=flows.SETTLED_SECONDS)
    monkeypatch.setattr(flows, "MAX_ANCHORED", 2)
    reached = []
    for _ in range(3):
        reached.append(anchored.act(flows.anchor_book))
        anchored.kernel.clock.advance(seconds=1)
    assert reached == [2, 1, 0]
    assert marks(anchored) == [(3, 3), (5, 5), (6, 6)]
    assert findings(anchored) == []


def test_a_book_rewritten_with_all_its_digests_is_found_by_the_log(anchored: Books) -> None:
    with anchored.kernel.db.reading() as session:
        row = session.scalars(select(Transaction).where(Transaction.key == "k2")).one()
    digest = rules.digest(row.kind, "s_2", [(A, -7), (B, 7)], row.facts, None)
    forge = f"UPDATE ledger_transaction SET subject = 's_2', payload_digest = '{digest}' WHERE sequence = 3"
    tamper(anchored, forge)
    [(what, where)] = findings(anchored)
    assert (what, where.partition("/")[0]) == ("anchor-false", "evidence_entry")


def test_a_transaction_taken_out_with_all_that_it_moved_is_found_by_the_log(anchored: Books) -> None:
    tamper(
        anchored,
        "DELETE FROM ledger_posting WHERE sequence = 3",
        "DELETE FROM ledger_transaction WHERE sequence = 3",
        f"UPDATE ledger_balance SET amount = amount + 7 WHERE account_id = '{A}'",
        f"UPDATE ledger_balance SET amount = amount - 7 WHERE account_id = '{B}'",
    )
    assert [what for what, _ in findings(anchored)] == ["anchor-unmet"]
