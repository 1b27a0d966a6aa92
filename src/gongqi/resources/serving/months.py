"""The sums of calls by month, which statements show: kept as calls are settled, read by billing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import BigInteger, cast, func, select

from gongqi.kernel.verbs import Read, Write
from gongqi.resources.serving.leases import periods
from gongqi.resources.serving.models import Deployment, ModelRoute, MonthSum, Tab

SUMS = ("calls", "input_tokens", "cached_tokens", "output_tokens", "cost_nanos", "aid_nanos")


class Sums(NamedTuple):
    """`cost_nanos` is the full price, of which a fund paid `aid_nanos`."""

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0
    aid_nanos: int = 0

    @property
    def own_nanos(self) -> int:
        return self.cost_nanos - self.aid_nanos


NO_SUMS = Sums()


def add_sums(ctx: Write, org: str, route: str, unit: str, added: Collection[int]) -> None:
    """Add to this month's sums, in the order of `SUMS`."""
    key = (org, periods(ctx)[1], route, unit)
    row = ctx.session.get(MonthSum, key)
    if row is None:
        row = ctx.add(MonthSum(org=org, month=key[1], route=route, unit=unit, **dict.fromkeys(SUMS, 0)))
    for name, value in zip(SUMS, added, strict=True):
        setattr(row, name, getattr(row, name) + value)


def sums_of(ctx: Read, org: str, unit: str, month: str) -> dict[str, Sums]:
    """By route, what was settled in this month. For rooms that have authorised already."""
    query = select(MonthSum).where(MonthSum.org == org, MonthSum.unit == unit, MonthSum.month == month)
    return {row.route: Sums(*(getattr(row, name) for name in SUMS)) for row in ctx.session.scalars(query)}


def own_until(ctx: Read, org: str, unit: str, month: str) -> dict[str, int]:
    """By route, all nanos that calls settled up to the end of this month cost the organisation itself."""
    own = cast(func.sum(MonthSum.cost_nanos - MonthSum.aid_nanos), BigInteger)
    query = select(MonthSum.route, own).where(MonthSum.org == org, MonthSum.unit == unit, MonthSum.month <= month)
    return {route: int(nanos) for route, nanos in ctx.session.execute(query.group_by(MonthSum.route))}


def charged(ctx: Read, org: str, unit: str) -> dict[str, int]:
    """By route, the whole units that were ever charged."""
    rows = ctx.session.scalars(select(Tab).where(Tab.org == org, Tab.unit == unit))
    return {row.route: row.charged for row in rows}


def names_of(ctx: Read, ids: Collection[str]) -> Mapping[str, str]:
    """The names of these routes and deployments, which are public."""
    found: dict[str, str] = {}
    for model in (ModelRoute, Deployment):
        query = select(model.id, model.name).where(model.id.in_(sorted(ids)))
        found |= {row.id: row.name for row in ctx.session.execute(query)}
    return found
