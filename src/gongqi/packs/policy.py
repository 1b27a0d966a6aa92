"""Which packs are loaded is public: it is the law that everybody's calls are under. To load is for the operator alone."""

from __future__ import annotations

from sqlalchemy import ColumnElement, false, true

from gongqi.kernel.access import Actor, Policy, everyone
from gongqi.packs.models import LoadedPack


def _foundation(actor: Actor, permission: str) -> ColumnElement[bool]:
    return true() if actor.may(permission) else false()


POLICIES = (
    Policy(LoadedPack, read="packs:pack:read", rules={"packs:pack:read": everyone, "packs:pack:unload": _foundation}),
)
