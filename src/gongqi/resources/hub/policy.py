"""Who may see and do what in the hub.

An asset opens in stages: `private` is seen by its own organisation and by roles of the whole foundation (reviewers,
auditors, the operator), `members` by whoever may read the hub in any organisation, `public` by everyone. A revision is
seen as its asset is; so is a release, except that a draft stays at home until it is submitted. What was deleted is
seen by nobody. Seeing is not having: the bytes of a gated asset are for its own organisation, for the foundation's
roles, and for whoever was let in. Those of what was withdrawn are for its own people and the foundation's roles alone.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute

from gongqi.kernel.access import Actor, Policy, Rule, any_of, owned_by_actor, where, within
from gongqi.resources.hub.foreign import Import, Source
from gongqi.resources.hub.models import AccessRequest, Asset, Release, Revision


def _as_member(actor: Actor, permission: str) -> ColumnElement[bool]:
    return Asset.visibility == "members" if actor.may_somewhere(permission) else false()


def both(one: Rule, other: Rule) -> Rule:
    return lambda actor, permission: and_(one(actor, permission), other(actor, permission))


ALIVE = where(Asset.deleted_at.is_(None))
HOME = both(ALIVE, within(Asset.org))
ASSET_READ = both(ALIVE, any_of(where(Asset.visibility == "public"), _as_member, within(Asset.org)))


def hoped_for(actor: Actor) -> list[tuple[str, str]]:
    """ASSET_READ as labels of the catalogue, one of which an asset must bear to be seen; none when all may be."""
    if actor.may("hub:asset:read"):
        return []
    members = [("visibility", "members")] if actor.may_somewhere("hub:asset:read") else []
    return [("visibility", "public"), *members, *(("org", org) for org in sorted(actor.orgs_with("hub:asset:read")))]


def of_asset(column: InstrumentedAttribute[Any], rule: Rule) -> Rule:
    """Rows whose asset fits `rule`, looked up row by row: `IN (SELECT …)` would first list every asset that fits."""

    def fits(actor: Actor, permission: str) -> ColumnElement[bool]:
        return select(Asset.id).where(Asset.id == column, rule(actor, permission)).correlate_except(Asset).exists()

    return fits


def may_have(actor: Actor, _permission: str) -> ColumnElement[bool]:
    """Of the revisions that the actor sees, those whose bytes it gets."""
    reading = "hub:revision:read"
    granted = (AccessRequest.party == actor.id, AccessRequest.state == "granted")
    let_in = select(AccessRequest.id).where(AccessRequest.asset == Asset.id, *granted).correlate(Asset).exists()
    given = where(and_(Asset.standing != "withdrawn", or_(Asset.gated == "open", let_in)))
    return of_asset(Revision.asset, both(ASSET_READ, any_of(given, within(Asset.org))))(actor, reading)


def _submitted(actor: Actor, permission: str) -> ColumnElement[bool]:
    return and_(Release.state != "draft", of_asset(Release.asset, ASSET_READ)(actor, permission))


def _of_the_foundation(actor: Actor, permission: str) -> ColumnElement[bool]:
    return true() if actor.may(permission) else false()


def _may_import(actor: Actor, permission: str) -> ColumnElement[bool]:
    """The sources that somebody may import from, in the name of one of their organisations."""
    if actor.may(permission):
        return true()
    orgs = actor.orgs_with("hub:import:begin")
    return or_(Source.org.is_(None), Source.org.in_(sorted(orgs))) if orgs else false()


POLICIES = (
    Policy(
        Asset,
        read="hub:asset:read",
        rules={
            "hub:asset:read": ASSET_READ,
            "hub:asset:edit": HOME,
            "hub:asset:open": HOME,
            "hub:asset:gate": HOME,
            "hub:asset:move": HOME,
            "hub:asset:delete": HOME,
            "hub:asset:archive": HOME,
            "hub:asset:unarchive": HOME,
            "hub:asset:withdraw": HOME,
            "hub:blob:add": HOME,
            "hub:import:begin": HOME,
            "hub:access:grant": HOME,
            "hub:access:refuse": HOME,
            "hub:access:revoke": HOME,
            "hub:revision:commit": HOME,
            "hub:revision:change": HOME,
            "hub:ref:create": HOME,
            "hub:ref:delete": HOME,
            "hub:release:draft": HOME,
        },
    ),
    Policy(
        Revision,
        read="hub:revision:read",
        rules={
            "hub:revision:read": of_asset(Revision.asset, ASSET_READ),
            "hub:revision:have": may_have,
            "hub:release:draft": of_asset(Revision.asset, HOME),
        },
    ),
    Policy(
        AccessRequest,
        read="hub:access:read",
        rules={"hub:access:read": any_of(owned_by_actor(AccessRequest.party), of_asset(AccessRequest.asset, HOME))},
    ),
    Policy(
        Source,
        read="hub:source:read",
        rules={
            "hub:source:read": _may_import,
            "hub:source:mirror": _of_the_foundation,
            "hub:source:retire": _of_the_foundation,
        },
    ),
    Policy(
        Import,
        read="hub:import:read",
        rules={
            "hub:import:read": within(Import.org),
            "hub:import:cancel": within(Import.org),
            "hub:import:retry": within(Import.org),
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
