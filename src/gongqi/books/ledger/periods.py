"""What an owner's money did in a span of time: for statements, which say what moved and where it went.

An owner's money of a unit is what is available and what is held: setting aside moves nothing. What a settlement paid is
told by who received it; everything else by its kind. So for every span: the balance before, and all that is told here,
make the balance after.

The book is ordered by sequence and has no index by time. Times follow the sequence but for transactions that were under
way together, so where a span begins is found by halving, and only what comes after is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, ColumnElement, cast, func, select, true
from sqlalchemy.orm import aliased

from gongqi.books.ledger.models import Account, Posting, Transaction
from gongqi.books.ledger.rules import AVAILABLE, HELD, account_id, is_held
from gongqi.books.ledger.service import balance
from gongqi.kernel.verbs import Read

SETTLE = "ledger.settle"
TOGETHER = timedelta(hours=1)  # far longer than any transaction is under way


def holdings(ctx: Read, owner: str, unit: str) -> int:
    """What is available and what is held, now."""
    return sum(balance(ctx, account) for account in _own(owner, unit))


def moved(ctx: Read, owner: str, unit: str, since: datetime, until: datetime | None) -> dict[str, int]:
    """Net change by kind of transaction, in [since, until); kinds that changed nothing are left out."""
    return moved_of_each(ctx, [owner], unit, since, until)[owner]


def moved_of_each(
    ctx: Read, owners: Collection[str], unit: str, since: datetime, until: datetime | None
) -> dict[str, dict[str, int]]:
    """The same of several owners, asked for at once; each of them is there."""
    accounts = _accounts(owners, unit)
    query = (
        select(Posting.account_id, Transaction.kind, _sum(Posting))
        .join(Posting, Posting.sequence == Transaction.sequence)
        .where(Posting.account_id.in_(list(accounts)), *_within(ctx, since, until))
        .group_by(Posting.account_id, Transaction.kind)
    )
    sums: dict[str, Counter[str]] = {owner: Counter() for owner in owners}
    for account, kind, amount in ctx.session.execute(query) if accounts else ():
        sums[accounts[account]][kind] += int(amount)
    return {owner: {kind: amount for kind, amount in of_one.items() if amount} for owner, of_one in sums.items()}


def moved_by_subject(
    ctx: Read, owner: str, unit: str, kinds: Collection[str], since: datetime, until: datetime | None
) -> dict[tuple[str, str], int]:
    """Net change by kind and subject, of these kinds alone."""
    query = (
        select(Transaction.kind, Transaction.subject, _sum(Posting))
        .join(Posting, Posting.sequence == Transaction.sequence)
        .where(Posting.account_id.in_(_own(owner, unit)), Transaction.kind.in_(sorted(kinds)))
        .where(*_within(ctx, since, until))
        .group_by(Transaction.kind, Transaction.subject)
    )
    return {(kind, subject): int(amount) for kind, subject, amount in ctx.session.execute(query) if amount}


def paid(ctx: Read, owner: str, unit: str, since: datetime, until: datetime | None) -> dict[str, int]:
    """What settlements of this owner's holds paid, by the owner of the receiving account, in [since, until)."""
    return paid_of_each(ctx, [owner], unit, since, until)[owner]


def paid_of_each(
    ctx: Read, owners: Collection[str], unit: str, since: datetime, until: datetime | None
) -> dict[str, dict[str, int]]:
    """The same of several owners, asked for at once; each of them is there."""
    accounts = _accounts(owners, unit)
    held = [account for account in accounts if is_held(account)]
    other = aliased(Posting)
    query = (
        select(Posting.account_id, Account.owner, _sum(other))
        .select_from(Posting)
        .join(Transaction, Transaction.sequence == Posting.sequence)
        .join(other, other.sequence == Posting.sequence)
        .join(Account, Account.id == other.account_id)
        .where(Posting.account_id.in_(held), Posting.amount < 0, Transaction.kind == SETTLE)
        .where(other.account_id.not_in(list(accounts)), *_within(ctx, since, until))
        .group_by(Posting.account_id, Account.owner)
    )
    sums: dict[str, dict[str, int]] = {owner: {} for owner in owners}
    for account, receiver, amount in ctx.session.execute(query) if accounts else ():
        sums[accounts[account]][receiver] = int(amount)
    return sums


def _accounts(owners: Collection[str], unit: str) -> dict[str, str]:
    """The accounts in which their money is, with whose each is."""
    return {account: owner for owner in sorted(owners) for account in _own(owner, unit)}


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
