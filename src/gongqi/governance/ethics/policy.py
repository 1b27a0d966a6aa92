"""Who may see and do what in the ethics review.

While a case is open it is seen by the organisation concerned and by roles of the whole foundation (reviewers,
auditors, the operator); once decided, by whoever sees the asset. An evaluation is seen with the asset. Voting and
standing aside are open to whoever holds the permission on the case; whether this person may do it, the roster and
rules.py decide, so that a donor who tries learns why not. An inquiry is seen by whoever offers the model and by roles
of the foundation. What binds the foundation is for a role of the foundation alone.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, false, true

from gongqi.governance.ethics.models import Evaluation, Inquiry, ReviewCase
from gongqi.kernel.access import Actor, Policy, any_of, within
from gongqi.resources.hub.policy import ASSET_READ, of_asset


def _decided(actor: Actor, permission: str) -> ColumnElement[bool]:
    return and_(ReviewCase.state != "open", of_asset(ReviewCase.asset, ASSET_READ)(actor, permission))


def _foundation(actor: Actor, permission: str) -> ColumnElement[bool]:
    return true() if actor.may(permission) else false()


POLICIES = (
    Policy(
        ReviewCase,
        read="ethics:case:read",
        rules={
            "ethics:case:read": any_of(within(ReviewCase.org), _decided),
            "ethics:vote:cast": within(ReviewCase.org),
            "ethics:recusal:declare": within(ReviewCase.org),
            "ethics:condition:confirm": _foundation,
        },
    ),
    Policy(
        Inquiry,
        read="ethics:inquiry:read",
        rules={"ethics:inquiry:read": within(Inquiry.org), "ethics:inquiry:close": _foundation},
    ),
    Policy(
        Evaluation,
        read="ethics:evaluation:read",
        rules={
            "ethics:evaluation:read": any_of(within(Evaluation.org), of_asset(Evaluation.asset, ASSET_READ)),
            "ethics:evaluation:repeat": within(Evaluation.org),
            "ethics:evaluation:waive": _foundation,
        },
    ),
)
