"""Funds, and the aid that they pay: of what an organisation's calls cost, it pays a share and a named fund the rest.

A fund is an account of the ledger under a name. Organisations give to it and operators issue to it; nothing leaves it but
what calls cost. The provider always gets the full price. A lease is set aside on both accounts before a call is
forwarded, so a fund is never overspent; where it does not reach for a call, that call is at the full price.

Funds and their balances are public. Who is aided is known to who is aided and to the foundation.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field
from sqlalchemy import select

from gongqi.books.ledger import service as ledger
from gongqi.economy.billing.models import AidFund, AidGrant
from gongqi.economy.billing.prices import ID
from gongqi.kernel.errors import Refused
from gongqi.kernel.money import MAX_AMOUNT, unit_named
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.serving import service as serving

FUND_NAME = r"^[a-z][a-z0-9-]{1,38}[a-z0-9]$"
MAX_DAYS = 3660  # ten years; aid that goes on is granted again
MAX_ROUTES = 200
MAX_REASON = 300

RouteId = Annotated[str, Field(max_length=ID)]


class OpenFund(Input):
    name: str = Field(pattern=FUND_NAME)
    unit: str = Field("CNY-fen", max_length=40)


class OneFund(Input):
    fund: str = Field(max_length=ID)


class GiveToFund(OneFund):
    """`amount` booked units of the fund, out of the organisation's available funds."""

    org: str = Field(max_length=ID)
    amount: int = Field(ge=1, le=MAX_AMOUNT)


class ListFunds(Paged):
    pass


class GrantAid(OneFund):
    """Of calls of `org`, it pays `paid_percent`. `routes` None: every model priced in the fund's unit."""

    org: str = Field(max_length=ID)
    paid_percent: int = Field(ge=0, le=99)
    routes: list[RouteId] | None = Field(None, min_length=1, max_length=MAX_ROUTES)
    days: int = Field(366, ge=1, le=MAX_DAYS)
    reason: str = Field(min_length=1, max_length=MAX_REASON)


class OneAid(Input):
    aid: str = Field(max_length=ID)


class ListAid(Paged):
    org: str | None = Field(None, max_length=ID)


class FundOut(Output):
    """`balance` is what it can still set aside; `held` is set aside for calls."""

    id: str
    name: str
    unit: str
    balance: int
    held: int
    evidence: str
    opened_at: datetime


class AidOut(Output):
    """It holds until `until`, or until it was ended."""

    id: str
    org: str
    fund: str
    unit: str
    paid_percent: int
    routes: list[str] | None
    reason: str
    since: datetime
    until: datetime
    ended_at: datetime | None


@verb("billing:fund:open", evidence="billing.fund-opened")
def open_fund(ctx: Write, input: OpenFund) -> FundOut:
    ctx.require("billing:fund:open")
    if ctx.session.scalar(select(AidFund.id).where(AidFund.name == input.name)):
        raise Refused("billing.fund-name-taken", name=input.name)
    row = AidFund(id=ctx.new_id("fund"), name=input.name, unit=unit_named(input.unit).code, opened_at=ctx.now)
    row.evidence = ctx.record(row.id, name=row.name, unit=row.unit)
    ledger.account(ctx, row.id, row.unit)
    return _shown(ctx, ctx.add(row))


@verb("billing:fund:give", evidence="billing.fund-given")
def give_to_fund(ctx: Write, input: GiveToFund) -> FundOut:
    """Move an organisation's own money into a fund. What is given is not taken back."""
    ctx.require("billing:fund:give", input.org)
    fund = ctx.find(AidFund, input.fund, to="billing:fund:read")
    members.require_organisation(ctx, input.org)
    key = ctx.new_id("gift")
    evidence = ctx.record(fund.id, withhold=True, private={"org": input.org, "amount": input.amount})
    giver, receiver = (ledger.account(ctx, owner, fund.unit) for owner in (input.org, fund.id))
    lines = (ledger.Line(giver, -input.amount), ledger.Line(receiver, input.amount))
    ledger.post(ctx, key=key, kind="billing.gift", subject=fund.id, postings=lines, evidence=evidence)
    return _shown(ctx, fund)


@read("billing:fund:list")
def list_funds(ctx: Read, input: ListFunds) -> Page[FundOut]:
    page = ctx.listed(AidFund, FundRow, input, to="billing:fund:read")
    return Page(items=[_shown(ctx, row) for row in page.items], next=page.next)


@read("billing:fund:get")
def get_fund(ctx: Read, input: OneFund) -> FundOut:
    return _shown(ctx, ctx.find(AidFund, input.fund, to="billing:fund:read"))


@verb("billing:aid:grant", evidence="billing.aid-granted")
def grant_aid(ctx: Write, input: GrantAid) -> AidOut:
    """From now on a fund pays the rest of what an organisation's calls cost."""
    ctx.require("billing:aid:grant")
    members.require_organisation(ctx, input.org)
    fund = ctx.find(AidFund, input.fund, to="billing:fund:read")
    for route in input.routes or ():
        serving.route_facts(ctx, route)
    row = ctx.add(
        AidGrant(
            id=ctx.new_id("aid"), org=input.org, fund=fund.id, unit=fund.unit, paid_percent=input.paid_percent,
            routes=input.routes, reason=input.reason, since=ctx.now, until=ctx.now + timedelta(days=input.days),
        )
    )  # fmt: skip
    ctx.session.flush()
    sealed = {"org": row.org, "paid_percent": row.paid_percent, "routes": row.routes, "reason": row.reason}
    ctx.record(row.id, private=sealed, fund=fund.id)
    serving.set_aid(
        ctx, row.id, org=row.org, fund=row.fund, unit=row.unit, paid_percent=row.paid_percent, routes=row.routes,
        until=row.until,
    )  # fmt: skip
    return AidOut.model_validate(row)


@verb("billing:aid:end", evidence="billing.aid-ended")
def end_aid(ctx: Write, input: OneAid) -> AidOut:
    """No further lease is aided; what is leased of the fund goes on to its end."""
    row = ctx.find(AidGrant, input.aid, to="billing:aid:end")
    if row.ended_at is not None or row.until <= ctx.now:
        raise Refused("billing.aid-ended", aid=row.id)
    row.ended_at = ctx.now
    ctx.session.flush()
    ctx.record(row.id, fund=row.fund)
    serving.end_aid(ctx, row.id)
    return AidOut.model_validate(row)


@read("billing:aid:list")
def list_aid(ctx: Read, input: ListAid) -> Page[AidOut]:
    return ctx.listed(AidGrant, AidOut, input, to="billing:aid:read")


class FundRow(Output):
    id: str
    name: str
    unit: str
    evidence: str
    opened_at: datetime


def _shown(ctx: Read, row: AidFund | FundRow) -> FundOut:
    held = ledger.balance(ctx, ledger.account_id(row.id, row.unit, ledger.HELD))
    kept = {name: getattr(row, name) for name in FundRow.model_fields}
    return FundOut(balance=ledger.balance(ctx, ledger.account_id(row.id, row.unit)), held=held, **kept)
