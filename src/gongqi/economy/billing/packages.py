"""Packages: credit for calls, bought for a span of days before it is used, and spent before money.

An organisation that subscribes pays `price` at once; where the credit is worth more, a named fund pays the difference at
once, too. Together they are an account of the subscription's own, from which calls are paid as aid is: set aside before a
call is forwarded, never overspent, the provider paid the full price. Where it does not reach, a call is paid with money.

When the days are over, or the organisation ends it, what is left goes back to those who paid, each in its proportion; the
organisation's part rounded down. So nothing is forfeited, and nobody gains by buying what is not used. A subscription that
renews buys the next span at that moment, at the terms that are offered then.

A package is sold when it is bought: it is on the invoice of that month (`invoices`), and what the organisation gets back is
on a credit note (`credit_notes`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field
from sqlalchemy import func, select

from gongqi.books.ledger import service as ledger
from gongqi.economy.billing.aid import FUND_NAME, MAX_ROUTES, RouteId
from gongqi.economy.billing.models import AidFund, Package, Subscription
from gongqi.economy.billing.prices import ID
from gongqi.economy.billing.rules import BOUGHT, RETURNED, returned
from gongqi.kernel.errors import Refused
from gongqi.kernel.money import MAX_AMOUNT, unit_named
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.serving import service as serving

MAX_DAYS = 366
MAX_STARTED, STARTED_WITHIN = 300, timedelta(days=31)  # by an organisation: each is a line of an invoice
BATCH = 100  # subscriptions looked at in one transaction


class PublishPackage(Input):
    """`credit` for `price`, both booked units, to be used within `days`; `fund` pays what the price does not. `routes`
    None: every model priced in the unit."""

    name: str = Field(pattern=FUND_NAME)
    unit: str = Field("CNY-fen", max_length=40)
    price: int = Field(ge=1, le=MAX_AMOUNT)
    credit: int = Field(ge=1, le=MAX_AMOUNT)
    days: int = Field(30, ge=1, le=MAX_DAYS)
    fund: str | None = Field(None, max_length=ID)
    routes: list[RouteId] | None = Field(None, min_length=1, max_length=MAX_ROUTES)


class OnePackage(Input):
    package: str = Field(max_length=ID)


class ListPackages(Paged):
    state: str | None = Field(None, pattern="^(offered|withdrawn)$")


class StartSubscription(OnePackage):
    org: str = Field(max_length=ID)
    renews: bool = False


class OneSubscription(Input):
    subscription: str = Field(max_length=ID)


class ListSubscriptions(Paged):
    org: str | None = Field(None, max_length=ID)


class PackageOut(Output):
    id: str
    name: str
    unit: str
    price: int
    credit: int
    days: int
    fund: str | None
    routes: list[str] | None
    state: str
    evidence: str
    published_at: datetime


class SubscriptionRow(Output):
    id: str
    org: str
    package: str
    unit: str
    price: int
    credit: int
    renews: bool
    state: str
    since: datetime
    until: datetime
    ended_at: datetime | None
    returned: int | None
    invoice: str | None
    credit_note: str | None


class SubscriptionOut(SubscriptionRow):
    """`state`: running, ending (calls under way still hold some of it), ended, when `returned` went back to the
    organisation. `left` is what can still be set aside. `invoice` says that it was sold, `credit_note` what went back."""

    left: int
    held: int


@verb("billing:package:publish", evidence="billing.package-published")
def publish_package(ctx: Write, input: PublishPackage) -> PackageOut:
    ctx.require("billing:package:publish")
    if ctx.session.scalar(select(Package.id).where(Package.name == input.name)):
        raise Refused("billing.package-name-taken", name=input.name)
    unit = unit_named(input.unit).code
    if input.credit < input.price or (input.credit > input.price) != (input.fund is not None):
        raise Refused("billing.package-unbalanced", price=input.price, credit=input.credit)
    if input.fund is not None and ctx.find(AidFund, input.fund, to="billing:fund:read").unit != unit:
        raise Refused("billing.package-unit-differs", unit=unit)
    for route in input.routes or ():
        serving.route_facts(ctx, route)
    given = input.model_dump() | {"unit": unit, "state": "offered", "published_at": ctx.now}
    row = Package(id=ctx.new_id("pkg"), **given)
    row.evidence = ctx.record(
        row.id, **{name: given[name] for name in ("name", "unit", "price", "credit", "days", "fund")}
    )
    return PackageOut.model_validate(ctx.add(row))


@verb("billing:package:withdraw", evidence="billing.package-withdrawn")
def withdraw_package(ctx: Write, input: OnePackage) -> PackageOut:
    """Nobody can buy it any more; what was bought runs on to its end."""
    row = _offered(ctx, input.package, to="billing:package:withdraw")
    row.state = "withdrawn"
    ctx.session.flush()
    ctx.record(row.id, name=row.name)
    return PackageOut.model_validate(row)


@verb("billing:subscription:start", evidence="billing.subscription-started")
def start_subscription(ctx: Write, input: StartSubscription) -> SubscriptionOut:
    """Raises Refused: billing.package-withdrawn, billing.subscriptions-too-many, billing.package-fund-too-low,
    ledger.balance-too-low."""
    ctx.require("billing:subscription:start", input.org)
    members.require_organisation(ctx, input.org)
    return _shown(
        ctx, _buy(ctx, _offered(ctx, input.package, to="billing:package:read"), input.org, renews=input.renews)
    )


@verb("billing:subscription:end", evidence="billing.subscription-ended")
def end_subscription(ctx: Write, input: OneSubscription) -> SubscriptionOut:
    """It pays for no further call; what is left goes back once the calls under way are settled."""
    row = ctx.find(Subscription, input.subscription, to="billing:subscription:end")
    if row.state != "running":
        raise Refused("billing.subscription-ended", subscription=row.id)
    _stop(ctx, row)
    _give_back(ctx, row)
    return _shown(ctx, row)


@read("billing:package:list")
def list_packages(ctx: Read, input: ListPackages) -> Page[PackageOut]:
    return ctx.listed(Package, PackageOut, input, to="billing:package:read")


@read("billing:subscription:list")
def list_subscriptions(ctx: Read, input: ListSubscriptions) -> Page[SubscriptionOut]:
    page = ctx.listed(Subscription, SubscriptionRow, input, to="billing:subscription:read")
    return Page(items=[_shown(ctx, row) for row in page.items], next=page.next)


# --- as time goes by -------------------------------------------------------------------------------------------------


def end_over(ctx: Write) -> int:
    """Stop a batch of the subscriptions whose days are over, and renew those that renew; how many there were."""
    over = select(Subscription).where(Subscription.state == "running", Subscription.until <= ctx.now)
    rows = list(ctx.session.scalars(over.order_by(Subscription.until, Subscription.id).limit(BATCH)))
    for row in rows:
        _stop(ctx, row)
        _give_back(ctx, row)
        if row.renews:
            _renew(ctx, row)
    return len(rows)


def give_back(ctx: Write) -> int:
    """Give back what is left of a batch of the ending ones; how many of them have ended."""
    ending = select(Subscription).where(Subscription.state == "ending").order_by(Subscription.until).limit(BATCH)
    return sum(_give_back(ctx, row) for row in list(ctx.session.scalars(ending)))


def _buy(ctx: Write, package: Package, org: str, *, renews: bool) -> Subscription:
    lately = Subscription.org == org, Subscription.since > ctx.now - STARTED_WITHIN
    if (ctx.session.scalar(select(func.count()).where(*lately)) or 0) >= MAX_STARTED:
        raise Refused("billing.subscriptions-too-many", limit=MAX_STARTED)
    row = Subscription(
        id=ctx.new_id("sub"), org=org, package=package.id, unit=package.unit, price=package.price, credit=package.credit,
        fund=package.fund, renews=renews, state="running", since=ctx.now, until=ctx.now + timedelta(days=package.days),
    )  # fmt: skip
    sealed = {"org": org, "price": row.price, "credit": row.credit}
    evidence = ctx.record(
        row.id, kind="billing.subscription-started", withhold=True, private=sealed, package=package.id
    )
    lines = [ledger.Line(ledger.account(ctx, org, row.unit), -row.price)]
    if row.fund is not None:
        rest, fund = row.credit - row.price, ledger.account(ctx, row.fund, row.unit)
        if ledger.balance(ctx, fund) < rest:
            raise Refused("billing.package-fund-too-low", package=package.name)
        lines.append(ledger.Line(fund, -rest))
    lines.append(ledger.Line(ledger.account(ctx, row.id, row.unit), row.credit))
    ledger.post(ctx, key=row.id, kind=BOUGHT, subject=row.id, postings=lines, evidence=evidence)
    serving.set_aid(
        ctx, row.id, org=org, fund=row.id, unit=row.unit, paid_percent=0, routes=package.routes, until=row.until,
        is_credit=True,
    )  # fmt: skip
    return ctx.add(row)


def _stop(ctx: Write, row: Subscription) -> None:
    row.state = "ending"
    row.until = min(row.until, ctx.now)
    ctx.session.flush()
    ctx.record(row.id, kind="billing.subscription-ended", withhold=True, private={"org": row.org})
    serving.end_aid(ctx, row.id)


def _give_back(ctx: Write, row: Subscription) -> bool:
    """What is left, to those who paid; not before the calls under way have let go of what they hold."""
    if ledger.balance(ctx, ledger.account_id(row.id, row.unit, ledger.HELD)):
        return False
    account = ledger.account_id(row.id, row.unit)
    left = ledger.balance(ctx, account)
    own = returned(left, price=row.price, credit=row.credit)
    if left:
        parts = [(row.org, own)] + ([(row.fund, left - own)] if row.fund is not None else [])
        lines = [ledger.Line(ledger.account(ctx, payer, row.unit), part) for payer, part in parts if part]
        lines.append(ledger.Line(account, -left))
        evidence = ctx.record(row.id, kind=RETURNED, withhold=True, private={"org": row.org, "left": left, "own": own})
        ledger.post(ctx, key=f"{row.id}:left", kind=RETURNED, subject=row.id, postings=lines, evidence=evidence)
    row.state, row.ended_at, row.returned = "ended", ctx.now, own
    ctx.session.flush()
    return True


def _renew(ctx: Write, row: Subscription) -> None:
    """Buy the next span; where that cannot be, say so in the log, and calls cost money from then on."""
    package = ctx.session.get_one(Package, row.package)
    try:
        if package.state != "offered":
            raise Refused("billing.package-withdrawn", package=package.name)
        with ctx.session.begin_nested():
            _buy(ctx, package, row.org, renews=True)
    except Refused as refused:
        sealed = {"org": row.org, "code": refused.code}
        ctx.record(row.id, kind="billing.subscription-not-renewed", withhold=True, private=sealed)


def _offered(ctx: Read, package: str, *, to: str) -> Package:
    row = ctx.find(Package, package, to=to)
    if row.state != "offered":
        raise Refused("billing.package-withdrawn", package=row.name)
    return row


def _shown(ctx: Read, row: Subscription | SubscriptionRow) -> SubscriptionOut:
    held = ledger.balance(ctx, ledger.account_id(row.id, row.unit, ledger.HELD))
    left = ledger.balance(ctx, ledger.account_id(row.id, row.unit))
    return SubscriptionOut(left=left, held=held, **{name: getattr(row, name) for name in SubscriptionRow.model_fields})
