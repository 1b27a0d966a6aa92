"""The one place that writes transactions, postings and balances.

`append` takes a batch and does each thing once for all of it: look for keys already used, lock the balances in order of
their id, weigh every transaction, then three bulk statements. It refuses before it writes, so a caller that answers a
refusal has nothing to undo.

On PostgreSQL the balances are locked before sequence numbers are taken, so for each account the order of sequence is
the order of commit; that is what lets a posting carry the balance after it, and a replay check floors at every prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ARRAY, Connection, String, any_, bindparam, func, insert, select
from sqlalchemy.orm import InstrumentedAttribute

from gongqi.books.ledger import rules
from gongqi.books.ledger.models import Account, Balance, Posting, Transaction
from gongqi.books.ledger.rules import Draft, Line
from gongqi.kernel.db import as_micros, insert_rows
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Write


def _by_ids(query: Any, column: InstrumentedAttribute[str]) -> dict[str, Any]:
    """`query` for rows whose `column` is among `ids`, all in one parameter: a list of a thousand is not a statement of
    a thousand places, which would be written anew and read anew each time."""
    listed = func.json_each(bindparam("ids", type_=String)).table_valued("value")
    return {
        "sqlite": query.where(column.in_(select(listed.c.value))),
        "postgresql": query.where(column == any_(bindparam("ids", type_=ARRAY(String)))),
    }


# Built once: composing a query costs more than running it over a handful of rows.
_KNOWN = _by_ids(
    select(Transaction.id, Transaction.payload_digest, Transaction.sequence, Transaction.at, Transaction.evidence),
    Transaction.id,
)
_LOCK = _by_ids(
    select(Balance.account_id, Balance.amount, Account.floor)
    .join(Account, Account.id == Balance.account_id)
    .order_by(Balance.account_id)
    .with_for_update(of=Balance),
    Balance.account_id,
)
_LAST = select(func.max(Transaction.sequence))


class Posted(NamedTuple):
    """A draft that is in the book: a tuple, because a batch makes thousands."""

    id: str
    sequence: int
    at: datetime
    evidence: str | None
    draft: Draft


def open_account(ctx: Write, owner: str, unit: str, code: str, floor: int | None) -> str:
    """The id of an account, opened now unless it exists. Raises: Refused("ledger.floor-differs")."""
    account = rules.account_id(owner, unit, code)
    found = ctx.session.execute(select(Account.floor).where(Account.id == account)).first()
    if found is None:
        ctx.session.execute(
            insert(Account).values(id=account, owner=owner, unit=unit, code=code, floor=floor, opened_at=ctx.now)
        )
        ctx.session.execute(insert(Balance).values(account_id=account, amount=0))
    elif found.floor != floor:
        raise Refused("ledger.floor-differs", account=account, floor=str(found.floor), asked=str(floor))
    return account


def append(ctx: Write, drafts: Sequence[Draft]) -> list[Posted]:
    """Post all of `drafts` or none, in their order; those already posted are returned as they were.

    Raises: Refused("ledger.key-reused") when a key stands for another payload,
    Refused("ledger.balance-too-low") when an account would end a transaction under its floor.
    """
    if len(drafts) > rules.MAX_BATCH:
        raise Refused("ledger.batch-too-large", count=len(drafts), limit=rules.MAX_BATCH)
    for draft in drafts:
        rules.require_sound(draft)
    connection = ctx.session.connection()
    ids = [rules.transaction_id(draft.key) for draft in drafts]
    known = _known(connection, ids)
    posted: dict[str, Posted] = {}
    fresh: dict[str, tuple[str, Draft]] = {}
    for id, draft in zip(ids, drafts, strict=True):
        digest = rules.digest_of(draft)
        if row := known.get(id):
            before = row.payload_digest  # if it agrees, the draft is what was posted
            posted[id] = Posted(id, row.sequence, row.at, row.evidence, draft)
        else:
            before, _ = fresh.setdefault(id, (digest, draft))
        if before != digest:
            raise Refused("ledger.key-reused", key=draft.key)
    if fresh:
        _write(connection, fresh, posted, ctx.now)
    return [posted[id] for id in ids]


def _known(connection: Connection, ids: list[str]) -> dict[str, Any]:
    """Payload digest, sequence, time and evidence of those that are in the book already."""
    return {row.id: row for row in _rows(connection, _KNOWN, ids)}


def _write(
    connection: Connection, fresh: dict[str, tuple[str, Draft]], posted: dict[str, Posted], now: datetime
) -> None:
    """Weigh and insert what is `fresh`; it then joins `posted`."""
    accounts = sorted({account for _, draft in fresh.values() for account, _ in draft.lines})
    balances, floors = _lock(connection, accounts)
    sequences = _next_sequences(connection, len(fresh))
    micros = as_micros(now)
    transactions, postings = [], []
    for sequence, (id, (digest, draft)) in zip(sequences, fresh.items(), strict=True):
        facts = orjson.dumps(dict(draft.facts), option=orjson.OPT_SORT_KEYS).decode()
        decided = (draft.key, digest, draft.kind, draft.subject, facts)
        transactions.append((sequence, id, *decided, micros, draft.evidence, draft.reverses))
        running = rules.weigh(draft.lines, balances, floors)
        for position, ((account, amount), balance) in enumerate(zip(draft.lines, running, strict=True)):
            postings.append((sequence, position, account, amount, balance))
        posted[id] = Posted(id, sequence, now, draft.evidence, draft)
    insert_rows(connection, Transaction, transactions)
    insert_rows(connection, Posting, postings)
    moved = [(balances[account], account) for account in accounts]
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    connection.exec_driver_sql(f"UPDATE ledger_balance SET amount = {mark} WHERE account_id = {mark}", moved)


def _lock(connection: Connection, accounts: list[str]) -> tuple[dict[str, int], dict[str, int | None]]:
    """Balances and floors of `accounts`, which come sorted: everyone locks in one order, so nobody waits in a ring."""
    balances: dict[str, int] = {}
    floors: dict[str, int | None] = {}
    for account, amount, floor in _rows(connection, _LOCK, accounts):
        balances[account], floors[account] = amount, floor
    for account in accounts:
        if account not in balances:
            raise Refused("ledger.account-unknown", account=account[: rules.MAX_KEY])
    return balances, floors


def _next_sequences(connection: Connection, count: int) -> Sequence[int]:
    if connection.dialect.name == "sqlite":  # the writer is alone
        last = connection.scalar(_LAST) or 0
        return range(last + 1, last + 1 + count)
    # nextval rather than max + 1: two writers with no account in common must not conflict
    take = "SELECT nextval(pg_get_serial_sequence('ledger_transaction', 'sequence')) FROM generate_series(1, %s)"
    return sorted(connection.exec_driver_sql(take, (count,)).scalars())


def lines_of(connection: Connection, sequence: int) -> list[Line]:
    query = select(Posting.account_id, Posting.amount).where(Posting.sequence == sequence).order_by(Posting.position)
    return [Line(*row) for row in connection.execute(query)]


def _rows(connection: Connection, query: Mapping[str, Any], ids: list[str]) -> Any:
    dialect = connection.dialect.name
    return connection.execute(query[dialect], {"ids": orjson.dumps(ids).decode() if dialect == "sqlite" else ids})
