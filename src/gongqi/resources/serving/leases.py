"""Leases: slices of budget and funds, set aside in the ledger for one data plane to spend from in memory.

A lease is a hold. While it is open, each settlement that charges it ends the hold, pays what is due, and holds the rest
again in the same transaction, so that the ledger is never more than one settlement behind and the money set aside is
always exactly what the lease can still cost. Should a hold have run out (nobody settled for HOLD_HOURS), what it held
has gone back to the payer; then what is due is taken from the payer's funds, as far as they go, and the rest stays owed
on the tab.

Where aid was granted, a lease is two: one on the organisation's money and one on the fund's, each for its share of every
call. When the fund does not reach for the next call, the next lease is on the organisation's money alone, at the full
price; so a fund is never overspent, and what is leased of it is held like everybody's.

Law: what a key has spent and has on lease is never above its budget, and what is on lease is held in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import func, select

from gongqi.books.ledger import service as ledger
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read, Write
from gongqi.members import service as members
from gongqi.resources.serving import metering
from gongqi.resources.serving.aid import aid_in_force
from gongqi.resources.serving.metering import NANO
from gongqi.resources.serving.models import KeySpend, Lease, ModelAid, ModelKey, Tab
from gongqi.resources.serving.plane.snapshot import Granted

HOLD_HOURS = 24  # a data plane that is not settled for so long is gone
SHARE = 4  # a lease takes at most this part of what is left, unless one call needs more: others spend, too
BATCH = 500  # looked at in one transaction
CLEARING = "clearing"  # where a route's fees wait


def grant_lease(
    ctx: Write, *, plane: str, key: str, unit: str, need_nanos: int, wish_nanos: int, aid: str | None = None
) -> Granted:
    """Set aside what `key` needs, and up to what it wishes: of its organisation's money, and by `aid` of a fund's, as far as
    that reaches. Raises Refused: serving.key-invalid, serving.unit-differs, serving.key-budget-exceeded,
    serving.funds-too-low, serving.aid-exhausted."""
    row = ctx.session.get(ModelKey, key)
    if row is None or row.revoked_at is not None or row.expires_at <= ctx.now:
        raise Refused("serving.key-invalid")
    if members.parties_of(ctx, [row.org])[row.org].state != "active":
        raise Refused("serving.key-invalid")
    if row.unit != unit:
        raise Refused("serving.unit-differs", unit=unit, budget=row.unit)
    funds = ledger.balance(ctx, ledger.account(ctx, row.org, unit))
    room = _room(ctx, row)
    asked = _Asked(plane, row, need_nanos, wish_nanos, funds if room is None else min(funds, room))
    given = aid_in_force(ctx, aid)
    if given is not None and (granted := _lease_aided(ctx, asked, given)) is not None:
        return granted
    need = _units(need_nanos)
    if funds < need:
        code = "serving.funds-too-low" if given is None else "serving.aid-exhausted"
        raise Refused(code, need=ledger.written(need, unit), left=ledger.written(funds, unit))
    if room is not None and room < need:
        raise Refused("serving.key-budget-exceeded", need=ledger.written(need, unit), left=ledger.written(room, unit))
    lease = _place(ctx, asked, row.org, max(need, min(wish_nanos // NANO, asked.left // SHARE)))
    return Granted(lease.id, lease.granted * NANO)


class _Asked(NamedTuple):
    """`left`: whole units of the organisation's that the key may still have leased."""

    plane: str
    key: ModelKey
    need_nanos: int
    wish_nanos: int
    left: int


def _lease_aided(ctx: Write, asked: _Asked, given: ModelAid) -> Granted | None:
    """Two leases that pay for each call together: the organisation's and the fund's. None where either does not reach."""
    spare = 1 if given.paid_percent else 0  # unit: what rounding call by call leaves to the caller, a nano each
    need = metering.shares(asked.need_nanos, given.paid_percent)
    fund_left = ledger.balance(ctx, ledger.account(ctx, given.fund, given.unit))
    if asked.left < _units(need.own) + spare or fund_left < _units(need.aid):
        return None
    parts = ((asked.left, given.paid_percent), (fund_left, 100 - given.paid_percent))
    reach = min(left // SHARE * NANO * 100 // percent for left, percent in parts if percent)
    nanos = max(asked.need_nanos, min(asked.wish_nanos, reach))
    leased = metering.shares(nanos, given.paid_percent)
    rest = _place(ctx, asked, given.fund, _units(leased.aid))
    own = _place(ctx, asked, asked.key.org, _units(leased.own) + spare, aid=rest.id, paid_percent=given.paid_percent)
    return Granted(own.id, nanos)


def _place(
    ctx: Write, asked: _Asked, payer: str, granted: int, *, aid: str | None = None, paid_percent: int = 100
) -> Lease:
    unit = asked.key.unit
    lease = Lease(
        id=ctx.new_id("mls"), plane=asked.plane, key=asked.key.id, org=payer, unit=unit, granted=granted, left=granted,
        spent_nanos=0, hold=None, rolled=0, state="open", at=ctx.now, aid=aid, paid_percent=paid_percent,
    )  # fmt: skip
    _set_aside(ctx, lease, ledger.account(ctx, payer, unit))
    return ctx.add(lease)


def _units(nanos: int) -> int:
    """Whole units that so many nanos need."""
    return -(-nanos // NANO)


def charge_lease(ctx: Write, lease: Lease, due: Mapping[str, int], *, evidence: str, calls: int) -> None:
    """Put `due` nanos on the tabs of these routes, and charge the whole units, from the lease."""
    payer = ledger.account_id(lease.org, lease.unit)
    _hold_again(ctx, lease, payer)
    lines: list[ledger.Line] = []
    left = lease.left
    for route, nanos in sorted(due.items()):
        tab = ctx.session.get(Tab, (lease.org, route, lease.unit)) or ctx.add(
            Tab(org=lease.org, route=route, unit=lease.unit, charged=0, owed_nanos=0)
        )
        whole, tab.owed_nanos = metering.book(tab.owed_nanos, nanos, limit=left)
        lease.spent_nanos += nanos
        if whole:
            tab.charged += whole
            left -= whole
            lines.append(ledger.Line(ledger.account(ctx, route, lease.unit, CLEARING), whole))
    if lines and lease.hold is not None:
        ledger.settle(ctx, hold=lease.hold, lines=lines, facts={"calls": calls}, evidence=evidence)
        lease.left, lease.hold, lease.rolled = left, None, lease.rolled + 1
        if lease.state == "open":
            _set_aside(ctx, lease, payer)


def end_leases(ctx: Write, leases: Sequence[Lease]) -> None:
    """Give back what they still hold. Twice is once."""
    for lease in [*leases, *_beside(ctx, leases)]:
        if lease.state == "ended":
            continue
        lease.state, lease.left = "ended", 0
        if lease.hold is not None and ledger.hold(ctx, lease.hold).state == "open":
            ledger.release(ctx, hold=lease.hold, reason="returned")
        lease.hold = None


def _beside(ctx: Read, leases: Sequence[Lease]) -> list[Lease]:
    """The leases on funds that pay with these."""
    ids = [lease.aid for lease in leases if lease.aid is not None]
    return list(ctx.session.scalars(select(Lease).where(Lease.id.in_(ids)))) if ids else []


def end_leases_of(ctx: Write, plane: str) -> None:
    """End all leases of a data plane that is gone and whose spool is settled."""
    end_leases(ctx, list(ctx.session.scalars(select(Lease).where(Lease.plane == plane, Lease.state == "open"))))


def end_lost(ctx: Write) -> int:
    """End a batch of the leases of data planes that vanished with their spools: nothing has been charged to them for
    HOLD_HOURS, so that what they held has gone back, and the budget must have it back, too. Returns how many there were."""
    until = ctx.now - timedelta(hours=HOLD_HOURS)
    old = select(Lease).where(Lease.state == "open", Lease.at <= until).order_by(Lease.at).limit(BATCH)
    lost = [lease for lease in ctx.session.scalars(old) if _is_lost(ctx, lease)]
    end_leases(ctx, lost)
    return len(lost)


def _is_lost(ctx: Read, lease: Lease) -> bool:
    if lease.hold is None:  # it has nothing left, or a fund pays all
        return lease.aid is None or _is_lost(ctx, ctx.session.get_one(Lease, lease.aid))
    held = ledger.hold(ctx, lease.hold)
    return held.state != "open" or held.expires_at <= ctx.now


def periods(ctx: Read) -> tuple[str, str]:
    """The day and the month that it is, in UTC, as budgets count them."""
    return f"{ctx.now:%Y-%m-%d}", f"{ctx.now:%Y-%m}"


def _room(ctx: Read, key: ModelKey) -> int | None:
    """Whole units that may still be leased under the key's budgets, which count what its organisation pays; None without
    one."""
    if key.budget_day is None and key.budget_month is None:
        return None
    open_nanos = select(func.sum(Lease.granted), func.sum(Lease.spent_nanos)).where(
        Lease.key == key.id, Lease.org == key.org, Lease.state == "open"
    )
    granted, settled = ctx.session.execute(open_nanos).one()
    on_lease = int(granted or 0) * NANO - int(settled or 0)
    rooms = []
    for budget, period in zip((key.budget_day, key.budget_month), periods(ctx), strict=True):
        if budget is not None:
            spend = ctx.session.get(KeySpend, (key.id, period))
            rooms.append((budget * NANO - (spend.nanos if spend else 0) - on_lease) // NANO)
    return max(0, min(rooms))


def _set_aside(ctx: Write, lease: Lease, payer: str) -> None:
    if lease.left <= 0:
        return
    placed = ledger.reserve(
        ctx, key=f"serving:lease:{lease.id}:{lease.rolled}", payer=payer, amount=lease.left, subject=lease.id,
        expires_at=ctx.now + timedelta(hours=HOLD_HOURS),
    )  # fmt: skip
    lease.hold = placed.id


def _hold_again(ctx: Write, lease: Lease, payer: str) -> None:
    """If the hold's time is over, set aside anew what the payer still has of it."""
    if lease.hold is None:
        return
    held = ledger.hold(ctx, lease.hold)
    if held.state == "open" and held.expires_at > ctx.now:
        return
    if held.state == "open":
        ledger.release(ctx, hold=lease.hold, reason="expired")
    lease.hold, lease.rolled = None, lease.rolled + 1
    lease.left = min(lease.left, max(0, ledger.balance(ctx, payer)))
    _set_aside(ctx, lease, payer)
