"""Aid as the gateway goes by it: whose calls a fund pays part of. Billing grants it, ends it, and keeps its history."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import select

from gongqi.kernel.verbs import Read, Write
from gongqi.resources.serving.endpoints import raise_version
from gongqi.resources.serving.models import ModelAid, ModelRoute


def set_aid(
    ctx: Write, id: str, *, org: str, fund: str, unit: str, paid_percent: int, routes: Collection[str] | None,
    until: datetime,
) -> None:  # fmt: skip
    """Leases granted from now on are aided. The room above has authorised it and left the evidence."""
    named = None if routes is None else sorted(routes)
    ctx.add(ModelAid(id=id, org=org, fund=fund, unit=unit, paid_percent=paid_percent, routes=named, until=until))
    ctx.session.flush()
    raise_version(ctx)


def end_aid(ctx: Write, id: str) -> None:
    """No further lease is aided; what is leased goes on to its end. Twice is once."""
    row = ctx.session.get(ModelAid, id)
    if row is not None:
        ctx.session.delete(row)
        ctx.session.flush()
        raise_version(ctx)


def aid_of(ctx: Read, orgs: Collection[str], routes: Iterable[ModelRoute]) -> dict[str, dict[str, str]]:
    """By organisation and route, the aid that holds: of several, that of which the caller pays least; then the eldest."""
    units = {route.id: route.tariff["unit"] for route in routes if route.tariff is not None}
    live = select(ModelAid).where(ModelAid.org.in_(sorted(orgs)), ModelAid.until > ctx.now)
    found: dict[str, dict[str, str]] = {}
    for row in ctx.session.scalars(live.order_by(ModelAid.paid_percent, ModelAid.id)):
        covered = found.setdefault(row.org, {})
        for route, unit in units.items():
            if unit == row.unit and (row.routes is None or route in row.routes):
                covered.setdefault(route, row.id)
    return found


def aid_in_force(ctx: Read, id: str | None) -> ModelAid | None:
    row = ctx.session.get(ModelAid, id) if id is not None else None
    return row if row is not None and row.until > ctx.now else None
