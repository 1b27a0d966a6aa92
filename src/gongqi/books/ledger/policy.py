"""Who sees which account: its owner, whoever may read for the organisation that owns it, operator and auditor.

A transaction is seen by everyone it touches, with all its lines: who is paid may know by whom, and beside whom. Undoing
one is for a role of the foundation; an organisation's own right to do everything within itself does not reach it.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, false, true

from gongqi.books.ledger.models import Account, Posting, Transaction
from gongqi.kernel.access import Actor, Policy, any_of, owned_by_actor, within

_OWN = any_of(within(Account.owner), owned_by_actor(Account.owner))


def touching_own(actor: Actor, permission: str) -> ColumnElement[bool]:
    """Transactions with a line on an account that the actor may see."""
    if actor.may(permission):
        return true()
    return exists().where(
        Posting.sequence == Transaction.sequence, Posting.account_id == Account.id, _OWN(actor, permission)
    )


def foundation_wide(actor: Actor, permission: str) -> ColumnElement[bool]:
    return true() if actor.may(permission) else false()


POLICIES = (
    Policy(Account, read="ledger:account:read", rules={"ledger:account:read": _OWN}),
    Policy(
        Transaction,
        read="ledger:transaction:read",
        rules={"ledger:transaction:read": touching_own, "ledger:transaction:reverse": foundation_wide},
    ),
)
