"""Totals over the book: what the pages show above the rows, and the figures of the home page.

Nothing here is stored. What owners hold of a unit is read from the balances; what circulates is minus the balance of
the account that issues it, because the lines of every unit sum to zero: one row, however long the book is.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, cast, func, select

from gongqi.books.ledger.models import Account, Balance, Transaction
from gongqi.books.ledger.rules import FOUNDATION, ISSUED, account_id, written
from gongqi.books.ledger.service import balance
from gongqi.kernel.verbs import Read

MONEY = "CNY-fen"  # the unit of account of the home page


def held(ctx: Read) -> list[tuple[str, int]]:
    """(unit, amount) of what the actor's visible accounts hold together; accounts that issue are left out."""
    seen = ctx.visible(Account, to="ledger:account:read").where(Account.floor.is_not(None)).subquery()
    total = cast(func.sum(Balance.amount), BigInteger)
    query = select(seen.c.unit, total).join(Balance, Balance.account_id == seen.c.id)
    return [(unit, amount) for unit, amount in ctx.session.execute(query.group_by(seen.c.unit).order_by(seen.c.unit))]


def transactions(ctx: Read) -> int:
    """How many transactions the book has: a public number."""
    return ctx.session.scalar(select(func.count()).select_from(Transaction)) or 0


def circulating(ctx: Read) -> str:
    """The money in circulation, in words of its unit: a public number."""
    return written(-balance(ctx, account_id(FOUNDATION, MONEY, ISSUED)), MONEY)


def undone_by(ctx: Read, transaction: str) -> str | None:
    """The id of the reversal of this transaction, if there is one. For pages that have authorised already."""
    return ctx.session.scalar(select(Transaction.id).where(Transaction.reverses == transaction))
