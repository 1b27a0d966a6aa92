"""Who sees what in scenarios.

Outcomes are seen by who reported them and, once a return has taken them, by the organisation whose dataset they join.
A return or a gathering is seen by that organisation. Signatures are seen by the organisation that gave them.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, select

from gongqi.chain.scenarios.models import Gathering, Outcome, Return, Signature
from gongqi.kernel.access import Actor, Policy, any_of, within


def _returned_to(actor: Actor, permission: str) -> ColumnElement[bool]:
    return Outcome.returned_in.in_(select(Return.id).where(within(Return.org)(actor, permission)))


POLICIES = (
    Policy(Signature, read="scenarios:agreement:read", rules={"scenarios:agreement:read": within(Signature.org)}),
    Policy(
        Outcome,
        read="scenarios:outcome:read",
        rules={"scenarios:outcome:read": any_of(within(Outcome.org), _returned_to)},
    ),
    Policy(Return, read="scenarios:return:read", rules={"scenarios:return:read": within(Return.org)}),
    Policy(Gathering, read="scenarios:return:read", rules={"scenarios:return:read": within(Gathering.org)}),
)
