"""Who may see and do what in the hub.

An asset opens in stages: `private` is seen by its own organisation and by roles of the whole foundation (reviewers,
auditors, the operator), `members` by whoever may read the hub in any organisation, `public` by everyone. A revision is
seen as its asset is; so is a release, except that a draft stays at home until it is submitted.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, false, select
from sqlalchemy.orm import InstrumentedAttribute

from gongqi.kernel.access import Actor, Policy, Rule, any_of, where, within
from gongqi.resources.hub.models import Asset, Release, Revision


def _as_member(actor: Actor, permission: str) -> ColumnElement[bool]:
    return Asset.visibility == "members" if actor.may_somewhere(permission) else false()


ASSET_READ = any_of(where(Asset.visibility == "public"), _as_member, within(Asset.org))


def of_asset(column: InstrumentedAttribute[Any], rule: Rule) -> Rule:
    """Rows whose asset fits `rule`, looked up row by row: `IN (SELECT …)` would first list every asset that fits."""

    def fits(actor: Actor, permission: str) -> ColumnElement[bool]:
        return select(Asset.id).where(Asset.id == column, rule(actor, permission)).correlate_except(Asset).exists()

    return fits


def _submitted(actor: Actor, permission: str) -> ColumnElement[bool]:
    return and_(Release.state != "draft", of_asset(Release.asset, ASSET_READ)(actor, permission))


POLICIES = (
    Policy(
        Asset,
        read="hub:asset:read",
        rules={
            "hub:asset:read": ASSET_READ,
            "hub:asset:edit": within(Asset.org),
            "hub:asset:open": within(Asset.org),
            "hub:revision:commit": within(Asset.org),
            "hub:revision:change": within(Asset.org),
            "hub:ref:create": within(Asset.org),
            "hub:ref:delete": within(Asset.org),
            "hub:release:draft": within(Asset.org),
        },
    ),
    Policy(
        Revision,
        read="hub:revision:read",
        rules={
            "hub:revision:read": of_asset(Revision.asset, ASSET_READ),
            "hub:release:draft": of_asset(Revision.asset, within(Asset.org)),
        },
    ),
    Policy(
        Release,
        read="hub:release:read",
        rules={
            "hub:release:read": any_of(within(Release.org), _submitted),
            "hub:release:submit": within(Release.org),
            "hub:release:publish": within(Release.org),
            "hub:release:withdraw": within(Release.org),
        },
    ),
)
