"""Who sees and does what in serving.

A deployment, its price and its agreement are public: nobody should have to ask what a thing costs. What an organisation
spends and calls is its own, and the foundation's; the log of evidence says neither who nor how much. A call is ended by
whoever began it.
"""

from __future__ import annotations

from gongqi.kernel.access import Policy, everyone, owned_by_actor, within
from gongqi.resources.serving.models import Budget, Call, Deployment

POLICIES = (
    Policy(
        Deployment,
        read="serving:deployment:read",
        rules={
            "serving:deployment:read": everyone,
            "serving:deployment:upgrade": within(Deployment.org),
            "serving:deployment:reprice": within(Deployment.org),
            "serving:deployment:retire": within(Deployment.org),
        },
    ),
    Policy(
        Budget,
        read="serving:budget:read",
        rules={"serving:budget:read": within(Budget.org), "serving:budget:set": within(Budget.org)},
    ),
    Policy(
        Call,
        read="serving:usage:read",
        rules={"serving:usage:read": within(Call.org), "serving:model:infer": owned_by_actor(Call.caller)},
    ),
)
