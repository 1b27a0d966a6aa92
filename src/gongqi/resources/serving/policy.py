"""Who sees and does what in serving.

A deployment, its price and its agreement are public: nobody should have to ask what a thing costs. What an
organisation spends and calls is its own, and the foundation's; the log of evidence says neither who nor how much. A
call is ended by whoever began it. Of the gateway, a route and its price are public too; where it is answered, and the
servers, are seen by those who run the foundation, as are the figures of its processes. Feedback is seen by the
organisation whose key gave it, not by the one whose model it is about: that one gets the dataset, as the agreement
says.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, false, true

from gongqi.kernel.access import Actor, Policy, everyone, owned_by_actor, within
from gongqi.resources.serving.drift_models import Drift
from gongqi.resources.serving.feedback_models import Feedback
from gongqi.resources.serving.models import (
    Budget,
    Call,
    Deployment,
    ModelEndpoint,
    ModelKey,
    ModelRoute,
    SpoolMark,
    Usage,
)
from gongqi.resources.serving.rollout_models import ModelRollout, ModelShadow


def foundation(actor: Actor, permission: str) -> ColumnElement[bool]:
    """All rows, for those who hold the permission foundation-wide."""
    return true() if actor.may(permission) else false()


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
    Policy(
        ModelEndpoint,
        read="serving:endpoint:read",
        rules={"serving:endpoint:read": foundation, "serving:endpoint:retire": foundation},
    ),
    Policy(
        ModelRoute,
        read="serving:route:read",
        rules={
            "serving:route:read": everyone,
            "serving:route:targets": foundation,
            "serving:route:retire": foundation,
            "serving:rollout:begin": foundation,
            "serving:shadow:begin": foundation,
        },
    ),
    Policy(
        ModelRollout,
        read="serving:rollout:read",
        rules=dict.fromkeys(
            (
                "serving:rollout:read",
                "serving:rollout:hold",
                "serving:rollout:resume",
                "serving:rollout:complete",
                "serving:rollout:rollback",
            ),
            foundation,
        ),
    ),
    Policy(
        ModelShadow,
        read="serving:shadow:read",
        rules={"serving:shadow:read": foundation, "serving:shadow:end": foundation},
    ),
    Policy(
        ModelKey,
        read="serving:key:read",
        rules={"serving:key:read": within(ModelKey.org), "serving:key:revoke": within(ModelKey.org)},
    ),
    Policy(Usage, read="serving:usage:read", rules={"serving:usage:read": within(Usage.org)}),
    Policy(
        Feedback,
        read="serving:feedback:read",
        rules={
            "serving:feedback:read": within(Feedback.org),
            "serving:feedback:content": within(Feedback.org),
            "serving:feedback:withdraw": within(Feedback.org),
        },
    ),
    Policy(Drift, read="serving:drift:read", rules={"serving:drift:read": within(Drift.org)}),
    Policy(SpoolMark, read="serving:metrics:read", rules={"serving:metrics:read": foundation}),
)
