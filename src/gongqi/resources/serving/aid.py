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
    until: datetime, is_credit: bool = False,
) -> None:  # fmt: skip
    """Leases granted from now on are aided. The room above has authorised it and left the evidence."""
    named = None if routes is None else sorted(routes)
    given = {"org": org, "fund": fund, "unit": unit, "paid_percent": paid_percent, "until": until}
    ctx.add(ModelAid(id=id, routes=named, is_credit=is_credit, **given))
    ctx.session.flush()
    raise_version(ctx)


def end_aid(ctx: Write, id: str) -> None:
    """No further lease is aided; what is leased goes on to its end. Twice is once."""
    row = ctx.session.get(ModelAid, id)
    if row is not None:
        ctx.session.delete(row)
        ctx.session.flush()
        raise_version(ctx)


def aid_of(ctx: Read, orgs: Collection[str], routes: Iterable[ModelRoute]) -> dict[tuple[str, str], dict[str, str]]:
    """By organisation and what a key spends, and by route, the aid that holds: credit that was bought before what is given,
    then that of which the caller pays least, then the eldest."""
    units = {route.id: route.tariff["unit"] for route in routes if route.tariff is not None}
    live = select(ModelAid).where(ModelAid.org.in_(sorted(orgs)), ModelAid.until > ctx.now)
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in ctx.session.scalars(live.order_by(ModelAid.is_credit.desc(), ModelAid.paid_percent, ModelAid.id)):
        for spends in ("credits-first",) if row.is_credit else ("credits-first", "money"):
            covered = found.setdefault((row.org, spends), {})
            for route, unit in units.items():
                if unit == row.unit and (row.routes is None or route in row.routes):
                    covered.setdefault(route, row.id)
    return found


def aid_in_force(ctx: Read, id: str | None) -> ModelAid | None:
    row = ctx.session.get(ModelAid, id) if id is not None else None
    return row if row is not None and row.until > ctx.now else None
