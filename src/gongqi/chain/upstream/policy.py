"""Who may see and decide a donation.

The donor offers; only the foundation itself accepts or declines, so an organisation's owner, who may do everything
within it, still cannot accept its own gift. A patent pledge is public from acceptance on: a promise that nobody may
read protects nobody.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, false, true

from gongqi.chain.upstream.models import Donation, Pledge
from gongqi.kernel.access import Actor, Policy, any_of, everyone, where, within


def _as_member(actor: Actor, permission: str) -> ColumnElement[bool]:
    return Donation.visibility == "members" if actor.may_somewhere(permission) else false()


def _of_the_foundation(actor: Actor, permission: str) -> ColumnElement[bool]:
    return true() if actor.may(permission) else false()


POLICIES = (
    Policy(
        Donation,
        read="upstream:donation:read",
        rules={
            "upstream:donation:read": any_of(where(Donation.visibility == "public"), _as_member, within(Donation.org)),
            "upstream:donation:reschedule": within(Donation.org),
            "upstream:donation:accept": _of_the_foundation,
            "upstream:donation:decline": _of_the_foundation,
        },
    ),
    Policy(
        Pledge,
        read="upstream:pledge:read",
        rules={"upstream:pledge:read": everyone, "upstream:pledge:revoke": within(Pledge.org)},
    ),
)
