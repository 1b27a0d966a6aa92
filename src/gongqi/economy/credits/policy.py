"""Who sees what in credits: policies are public; a split is seen by who paid it and by everyone whom it pays."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select

from gongqi.economy.credits.models import Split, SplitLine, SplitPolicy
from gongqi.kernel.access import Actor, Policy, any_of, everyone, within


def _as_receiver(actor: Actor, permission: str) -> ColumnElement[bool]:
    return Split.id.in_(select(SplitLine.split).where(within(SplitLine.owner)(actor, permission)))


POLICIES = (
    Policy(SplitPolicy, read="credits:policy:read", rules={"credits:policy:read": everyone}),
    Policy(Split, read="credits:split:read", rules={"credits:split:read": any_of(within(Split.payer), _as_receiver)}),
)
