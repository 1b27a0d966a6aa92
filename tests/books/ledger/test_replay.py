"""Somebody drops the triggers and edits rows: the replay names the row."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gongqi.books.ledger import models, replay
from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.service import Line

A, B = "org_a:credit:available", "org_b:credit:available"


@pytest.fixture
def full(books: Any) -> Any:
    """Sequences 1 to 5: open, move, reserve, settle, reserve again."""
    a, b = books.open("org_a", 100), books.open("org_b")
    books.move("k", a, b, 30, facts={"call": "call_0", "paid": True, "note": None})

    def hold(ctx: Any, key: str) -> ledger.HoldOut:
        later = ctx.now + timedelta(minutes=1)
        return ledger.reserve(ctx, key=key, payer=a, amount=20, subject="call_1", expires_at=later)

    books.act(lambda ctx: ledger.settle(ctx, hold=hold(ctx, "h1").id, lines=[Line(b, 5)]))
    books.act(lambda ctx: hold(ctx, "h2"))
    return books


def tamper(books: Any, *statements: str) -> None:
    database = books.kernel.db

    def work(session: Any) -> None:
        if database.is_sqlite:
            session.execute(text("PRAGMA defer_foreign_keys = ON"))
        for table in models.APPEND_ONLY:
            for statement in models.append_only(database.writer.dialect.name, table):
                if statement.startswith("CREATE TRIGGER"):
                    suffix = "" if database.is_sqlite else f" ON {table}"
                    session.execute(text(f"DROP TRIGGER IF EXISTS {statement.split()[2]}{suffix}"))
        for statement in statements:
            session.execute(text(statement))

    database.write(work)


def findings(books: Any) -> list[tuple[str, str]]:
    with books.kernel.db.reading() as session:
        return [(finding.what, finding.row) for finding in replay.check(session)]


def test_an_untouched_book_is_true(full: Any) -> None:
    assert findings(full) == []


def test_dropping_the_triggers_alone_makes_nothing_false(full: Any) -> None:
    tamper(full)
    assert findings(full) == []


@pytest.mark.parametrize(
    ("statement", "what", "row"),
    [
        ("UPDATE ledger_posting SET amount = 31 WHERE sequence = 2 AND position = 1", "payload-altered", "txn"),
        ("UPDATE ledger_posting SET amount = 31 WHERE sequence = 2 AND position = 1", "unbalanced", "txn"),
        (f"UPDATE ledger_posting SET account_id = '{A}' WHERE sequence = 2 AND position = 1", "payload-altered", "txn"),
        (
            "UPDATE ledger_posting SET balance = 0 WHERE sequence = 2 AND position = 0",
            "running-balance-false",
            "ledger_posting/2/0",
        ),
        ("DELETE FROM ledger_posting WHERE sequence = 2", "transaction-without-postings", "txn"),
        (
            f"UPDATE ledger_balance SET amount = amount + 1 WHERE account_id = '{B}'",
            "balance-false",
            f"ledger_balance/{B}",
        ),
        (f"DELETE FROM ledger_balance WHERE account_id = '{B}'", "balance-false", f"ledger_balance/{B}"),
        ("UPDATE ledger_transaction SET payload_digest = 'x' WHERE sequence = 2", "payload-altered", "txn"),
        ("UPDATE ledger_transaction SET subject = 's_2' WHERE sequence = 2", "payload-altered", "txn"),
        ("UPDATE ledger_transaction SET facts = '{}' WHERE sequence = 2", "payload-altered", "txn"),
        ("UPDATE ledger_transaction SET key = 'k2' WHERE sequence = 2", "key-altered", "txn"),
        (f"UPDATE ledger_account SET floor = 71 WHERE id = '{A}'", "under-floor", "txn"),
        (f"UPDATE ledger_account SET owner = 'org_z' WHERE id = '{A}'", "account-altered", f"ledger_account/{A}"),
        ("UPDATE ledger_hold SET amount = 19 WHERE state = 'open'", "hold-altered", "ledger_hold/"),
        ("UPDATE ledger_hold SET state = 'released' WHERE state = 'open'", "hold-state-false", "ledger_hold/"),
        ("UPDATE ledger_hold SET state = 'open' WHERE state = 'settled'", "hold-state-false", "ledger_hold/"),
        ("UPDATE ledger_hold SET charged = 4 WHERE state = 'settled'", "hold-state-false", "ledger_hold/"),
        ("DELETE FROM ledger_hold WHERE state = 'open'", "held-units-false", "ledger_account/org_a:credit:held"),
    ],
)
def test_an_edited_row_is_found_and_named(full: Any, statement: str, what: str, row: str) -> None:
    moved = full.kernel.look(lambda ctx: ledger.statement(ctx, B)).items[-1].transaction
    tamper(full, statement)
    found = findings(full)
    wanted = f"ledger_transaction/{moved}" if row == "txn" else row
    assert any(word == what and name.startswith(wanted) for word, name in found), found


def test_a_transaction_taken_out_leaves_postings_that_belong_to_none(full: Any) -> None:
    if not full.kernel.db.is_sqlite:
        tamper(full, "ALTER TABLE ledger_posting DROP CONSTRAINT fk_ledger_posting_sequence")
        tamper(full, "DELETE FROM ledger_transaction WHERE sequence IN (2, 5)")
    else:
        tamper(full)
        with sqlite3.connect(full.kernel.db.url.database) as raw:  # foreign keys are off unless asked for
            raw.execute("DELETE FROM ledger_transaction WHERE sequence IN (2, 5)")
        raw.close()
    found = findings(full)
    assert ("posting-without-transaction", "ledger_posting/2") in found
    assert ("posting-without-transaction", "ledger_posting/5") in found


def test_an_account_taken_out_is_missed_by_its_postings(full: Any) -> None:
    if not full.kernel.db.is_sqlite:
        for table, column in (("posting", "account_id"), ("balance", "account_id")):
            tamper(full, f"ALTER TABLE ledger_{table} DROP CONSTRAINT fk_ledger_{table}_{column}")
        tamper(full, f"DELETE FROM ledger_account WHERE id = '{B}'")
    else:
        tamper(full)
        with sqlite3.connect(full.kernel.db.url.database) as raw:
            raw.execute(f"DELETE FROM ledger_account WHERE id = '{B}'")
        raw.close()
    assert ("account-missing", "ledger_posting/2/1") in findings(full)


def test_findings_stop_at_the_limit(full: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(replay, "MAX_FINDINGS", 3)
    tamper(full, "UPDATE ledger_posting SET balance = balance + 1")
    assert [what for what, _ in findings(full)] == ["running-balance-false"] * 3


def test_every_finding_has_its_words(full: Any) -> None:
    texts = full.kernel.house.words.texts
    source = Path(replay.__file__).read_text("utf-8")
    named = {part.split('"')[0] for part in source.split('what="')[1:]}
    assert {f"ledger.finding.{what}" for what in named} == {key for key in texts if key.startswith("ledger.finding.")}
