"""The tables of the ledger: accounts, transactions and postings are written once; balances and holds move.

`append_only` gives the triggers that make the first three refuse UPDATE, DELETE and (PostgreSQL) TRUNCATE, also from a
database shell. SQLite's `INSERT OR REPLACE` deletes without firing delete triggers, so there an insert over an existing
row is refused too. The triggers stop mistakes and force an intruder to be deliberate; `replay.check` finds what was
done by somebody who dropped them.

No personal data: owners and subjects are ids, facts are ids, counts and words. Kept for ever, as account books are.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    String,
    event,
    select,
    text,
)
from sqlalchemy.orm import Mapped, column_property, mapped_column

from gongqi.books.ledger.rules import MAX_KEY
from gongqi.kernel.db import Base

_REVERSED = text("reverses IS NOT NULL")


def _at_commit(column: str) -> ForeignKey:
    """What a posting points to is looked for when its transaction ends: a key looked for at once makes SQLite keep, for
    each row, the pages that it would have to put back."""
    return ForeignKey(column, deferrable=True, initially="DEFERRED")


class Balance(Base):
    """What an account holds now: the sum of its postings, kept in the transaction that posts them."""

    __tablename__ = "ledger_balance"
    __table_args__ = ({"sqlite_with_rowid": False},)

    account_id: Mapped[str] = mapped_column(ForeignKey("ledger_account.id"), primary_key=True)
    amount: Mapped[int] = mapped_column(default=0)


class Account(Base):
    """`id` is `owner:unit:code`. `floor` is the lowest balance allowed, None for none; it is fixed for life."""

    __tablename__ = "ledger_account"
    __table_args__ = (Index(None, "owner"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    unit: Mapped[str]
    code: Mapped[str]
    floor: Mapped[int | None]
    opened_at: Mapped[datetime]
    balance: Mapped[int] = column_property(
        select(Balance.amount).where(Balance.account_id == id).correlate_except(Balance).scalar_subquery()
    )


class Transaction(Base):
    """One balanced movement. `id` is a digest of `key`, so its unique index keeps the key unique.

    `sequence` orders the book: for every account it is the order in which its balance moved. It may have gaps.
    """

    __tablename__ = "ledger_transaction"
    __table_args__ = (
        Index(
            "uq_ledger_transaction_reverses",
            "reverses",
            unique=True,
            sqlite_where=_REVERSED,
            postgresql_where=_REVERSED,
        ),
    )

    sequence: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    key: Mapped[str] = mapped_column(String(MAX_KEY))
    payload_digest: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str] = mapped_column(String(MAX_KEY))
    facts: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    evidence: Mapped[str | None]
    reverses: Mapped[str | None]

    __mapper_args__ = {"primary_key": ["id"]}  # noqa: RUF012  the door's key; the table's own is the order of the book


class Posting(Base):
    """One line of the transaction with this sequence; `balance` is the account's balance after it."""

    __tablename__ = "ledger_posting"
    __table_args__ = (
        CheckConstraint("amount <> 0", name="moves"),
        Index(None, "account_id", "sequence", "position"),
        {"sqlite_with_rowid": False},
    )

    sequence: Mapped[int] = mapped_column(_at_commit("ledger_transaction.sequence"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(_at_commit("ledger_account.id"))
    amount: Mapped[int]
    balance: Mapped[int]


class Hold(Base):
    """Units set aside for a purpose. `state`: open, settled, released, expired; the last three are final.

    `charged` is what the settlement gave to receivers; `placed_by` and `ended_by` are the two transactions.
    """

    __tablename__ = "ledger_hold"
    __table_args__ = (Index(None, "state", "expires_at"), Index(None, "held"))

    id: Mapped[str] = mapped_column(primary_key=True)
    payer: Mapped[str] = mapped_column(ForeignKey("ledger_account.id"))
    held: Mapped[str] = mapped_column(ForeignKey("ledger_account.id"))
    amount: Mapped[int]
    charged: Mapped[int] = mapped_column(default=0)
    subject: Mapped[str] = mapped_column(String(MAX_KEY))
    state: Mapped[str] = mapped_column(default="open")
    placed_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    placed_by: Mapped[str]
    ended_by: Mapped[str | None]
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


APPEND_ONLY = {
    "ledger_account": "id = NEW.id",
    "ledger_transaction": "sequence = NEW.sequence OR id = NEW.id OR reverses = NEW.reverses",
    "ledger_posting": "sequence = NEW.sequence AND position = NEW.position",
}


def append_only(dialect: str, table: str) -> tuple[str, ...]:
    """The statements that make `table` refuse change; a migration that creates the table runs them after it."""
    words = f"{table} is append-only: correct it by a reversal"
    if dialect == "sqlite":
        refuse = "BEGIN SELECT RAISE({}, '" + words + "'); END"
        abort, fail = (
            refuse.format("ABORT"),
            refuse.format("FAIL"),
        )  # ABORT would keep pages for each row: `insert_rows`
        return (
            f"CREATE TRIGGER {table}_update BEFORE UPDATE ON {table} {abort}",
            f"CREATE TRIGGER {table}_delete BEFORE DELETE ON {table} {abort}",
            f"CREATE TRIGGER {table}_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {APPEND_ONLY[table]}) {fail}",
        )
    return (
        f"CREATE OR REPLACE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = 'restrict_violation'; END $$",
        f"CREATE TRIGGER {table}_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()",
    )


for _table in APPEND_ONLY:
    for _dialect in ("sqlite", "postgresql"):
        for _statement in append_only(_dialect, _table):
            event.listen(Base.metadata.tables[_table], "after_create", DDL(_statement).execute_if(dialect=_dialect))
