"""What an owner's money did in a span of time: for statements, which say what moved and where it went.

An owner's money of a unit is what is available and what is held: setting aside moves nothing. What a settlement paid is
told by who received it; everything else by its kind. So for every span: the balance before, and all that is told here,
make the balance after.

The book is ordered by sequence and has no index by time. Times follow the sequence but for transactions that were under
way together, so where a span begins is found by halving, and only what comes after is read.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, ColumnElement, cast, func, select, true
from sqlalchemy.orm import aliased

from gongqi.books.ledger.models import Account, Posting, Transaction
from gongqi.books.ledger.rules import AVAILABLE, HELD, account_id
from gongqi.books.ledger.service import balance
from gongqi.kernel.verbs import Read

SETTLE = "ledger.settle"
TOGETHER = timedelta(hours=1)  # far longer than any transaction is under way


def holdings(ctx: Read, owner: str, unit: str) -> int:
    """What is available and what is held, now."""
    return sum(balance(ctx, account) for account in _own(owner, unit))


def moved(ctx: Read, owner: str, unit: str, since: datetime, until: datetime | None) -> dict[str, int]:
    """Net change by kind of transaction, in [since, until); kinds that changed nothing are left out."""
    query = (
        select(Transaction.kind, _sum(Posting))
        .join(Posting, Posting.sequence == Transaction.sequence)
        .where(Posting.account_id.in_(_own(owner, unit)), *_within(ctx, since, until))
        .group_by(Transaction.kind)
    )
    return {kind: int(amount) for kind, amount in ctx.session.execute(query) if amount}


def paid(ctx: Read, owner: str, unit: str, since: datetime, until: datetime | None) -> dict[str, int]:
    """What settlements of this owner's holds paid, by the owner of the receiving account, in [since, until)."""
    own = _own(owner, unit)
    other = aliased(Posting)
    query = (
        select(Account.owner, _sum(other))
        .select_from(Posting)
        .join(Transaction, Transaction.sequence == Posting.sequence)
        .join(other, other.sequence == Posting.sequence)
        .join(Account, Account.id == other.account_id)
        .where(Posting.account_id == own[1], Posting.amount < 0, Transaction.kind == SETTLE)
        .where(other.account_id.not_in(own), *_within(ctx, since, until))
        .group_by(Account.owner)
    )
    return {receiver: int(amount) for receiver, amount in ctx.session.execute(query)}


def _own(owner: str, unit: str) -> tuple[str, str]:
    return account_id(owner, unit, AVAILABLE), account_id(owner, unit, HELD)


def _sum(postings: type[Posting]) -> ColumnElement[int]:
    return cast(func.sum(postings.amount), BigInteger)


def _within(ctx: Read, since: datetime, until: datetime | None) -> tuple[ColumnElement[bool], ...]:
    end = true() if until is None else Transaction.at < until
    return Posting.sequence >= _beginning(ctx, since - TOGETHER), Transaction.at >= since, end


def _beginning(ctx: Read, moment: datetime) -> int:
    """A sequence number before which no transaction is as late as `moment` and TOGETHER."""
    low, high = ctx.session.execute(select(func.min(Transaction.sequence), func.max(Transaction.sequence))).one()
    if low is None:
        return 0
    while low < high:
        middle = (low + high) // 2
        first = select(Transaction.sequence, Transaction.at).where(Transaction.sequence > middle)
        sequence, at = ctx.session.execute(first.order_by(Transaction.sequence).limit(1)).one()
        if at < moment:
            low = sequence
        else:
            high = middle
    return int(low)
