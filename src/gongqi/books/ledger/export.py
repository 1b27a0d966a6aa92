"""The book as plain text accounting, so that others can audit it with their own tools.

The export is the consolidated book of everyone: what an owner holds is under `Assets`, what an issuer has put into
circulation under `Equity`, so all accounts of a unit sum to zero. It ends with a balance assertion per account, which
lets `bean-check` confirm our balances from the postings alone.

Names: Beancount wants components that begin with a capital and hold letters, digits and hyphens. `_` becomes `-` and
`-` becomes `-H-`; our names are lower-case, so the capital marks the escape and no two accounts share a name.

Source: Beancount language syntax, https://beancount.github.io/docs/beancount_language_syntax.html
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gongqi.books.ledger.models import Account, Balance, Posting, Transaction
from gongqi.books.ledger.replay import STREAM_ROWS


def export_beancount(session: Session) -> Iterator[str]:
    """Lines, each with its line end. Dates are UTC days; amounts are booked units (CNY-FEN, not CNY)."""
    yield 'option "title" "Gongqi ledger"\n'
    accounts = {row.id: row for row in session.scalars(select(Account).order_by(Account.opened_at, Account.id))}
    names = {id: _name(row) for id, row in accounts.items()}
    opened: dict[str, str] = {}
    for row in accounts.values():
        opened.setdefault(row.unit, f"{row.opened_at:%Y-%m-%d}")
    for unit, day in opened.items():
        yield f"{day} commodity {_commodity(unit)}\n"
    for id, row in accounts.items():
        yield f"{row.opened_at:%Y-%m-%d} open {names[id]} {_commodity(row.unit)}\n"
    yield from _transactions(session, names)
    last = session.scalar(select(func.max(Transaction.at)))
    if last is None:
        return
    day = f"{last + timedelta(days=1):%Y-%m-%d}"  # an assertion holds at the beginning of its day
    for id, amount in session.execute(select(Balance.account_id, Balance.amount).order_by(Balance.account_id)):
        yield f"{day} balance {names[id]} {amount} {_commodity(accounts[id].unit)}\n"


def _transactions(session: Session, names: dict[str, str]) -> Iterator[str]:
    t = Transaction
    query = (
        select(t.sequence, t.id, t.at, t.kind, t.subject, Posting.account_id, Posting.amount)
        .join(Posting, Posting.sequence == t.sequence)
        .order_by(t.sequence, Posting.position)
        .execution_options(yield_per=STREAM_ROWS)
    )
    for _, group in groupby(session.execute(query), key=lambda row: row.sequence):
        rows = list(group)
        yield f'{rows[0].at:%Y-%m-%d} * "{rows[0].kind}" "{_quoted(rows[0].subject)}"\n'
        yield f'  id: "{rows[0].id}"\n'
        for row in rows:
            yield f"  {names[row.account_id]} {row.amount} {_commodity(row.account_id.split(':')[1])}\n"


def _name(account: Account) -> str:
    root = "Equity" if account.floor is None else "Assets"
    return ":".join((root, *(_component(part) for part in (account.owner, account.unit.lower(), account.code))))


def _component(name: str) -> str:
    escaped = name.replace("-", "\0").replace("_", "-").replace("\0", "-H-")
    return escaped[0].upper() + escaped[1:]


def _commodity(unit: str) -> str:
    return unit.upper()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
