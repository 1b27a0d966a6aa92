"""The statement of an organisation's month: what its calls came to, its packages, and what its money did.

It is read from two places that are kept in the same transactions: the sums of usage records, and the ledger. A month is
one of settlement, in UTC, so what is over does not change: a call that was settled late is in the month in which it was
charged, and what a package had become when the month was over stays what it says.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field, ValidationError
from sqlalchemy import or_, select

from gongqi.books.ledger import periods
from gongqi.economy.billing import rules
from gongqi.economy.billing.models import Package, Subscription
from gongqi.economy.billing.prices import ID
from gongqi.economy.billing.rules import BOUGHT, RETURNED, Included, ModelLine, Movement, PackageLine
from gongqi.kernel.errors import Refused
from gongqi.kernel.money import unit_named
from gongqi.kernel.verbs import Input, Output, Read, read
from gongqi.members import service as members
from gongqi.resources.serving import service as serving
from gongqi.resources.serving.metering import NANO

UNIT = "CNY-fen"


class OneStatement(Input):
    """`month` in UTC, such as 2026-11."""

    org: str = Field(max_length=ID)
    month: str = Field(pattern=rules.MONTH)
    unit: str = Field(UNIT, max_length=40)


class StatementOut(Output):
    """Amounts in booked units: opening + credits - charges - payments = closing, and what is paid
    for packages and comes back of them is among payments and credits. `is_over`: it will not change any more."""

    org: str
    name: str
    month: str
    unit: str
    since: datetime
    until: datetime
    is_over: bool
    opening: int
    credits: int
    charges: int
    payments: int
    closing: int
    models: list[ModelLine]
    packages: list[PackageLine]
    included: list[Included]
    movements: list[Movement]

    @property
    def invoiced(self) -> int:
        """What an invoice of it comes to: calls, and packages that were sold."""
        return self.charges + sum(each.paid for each in self.packages)


def asked(org: str, month: str, unit: str) -> OneStatement:
    """What an address asks for. Raises Refused billing.month-unreadable."""
    try:
        return OneStatement(org=org, month=month, unit=unit)
    except ValidationError:
        raise Refused("billing.month-unreadable", month=month[:20]) from None


@read("billing:statement:get")
def get_statement(ctx: Read, input: OneStatement) -> StatementOut:
    """Raises Refused billing.month-not-begun."""
    ctx.require("billing:statement:get", input.org)
    organisation = members.require_organisation(ctx, input.org)
    unit = unit_named(input.unit).code
    since, until = rules.span(input.month)
    if since > ctx.now:
        raise Refused("billing.month-not-begun", month=input.month)
    net = periods.moved(ctx, input.org, unit, since, until)
    charges = periods.paid(ctx, input.org, unit, since, until)
    after = periods.moved(ctx, input.org, unit, until, None)
    closing = periods.holdings(ctx, input.org, unit) - sum(after.values())
    lines = _models(ctx, input.org, unit, input.month, charges, periods.paid(ctx, input.org, unit, until, None))
    kinds = net.keys() & {BOUGHT, RETURNED}
    sold = periods.moved_by_subject(ctx, input.org, unit, kinds, since, until) if kinds else {}
    packages, included = _packages(ctx, input.org, unit, (since, until), sold)
    names = {each.subscription: each.package for each in packages} | dict(serving.names_of(ctx, charges))
    moved = rules.movements(net, charges, sold, names)
    plain = [each.amount for each in moved if each.kind != rules.CHARGED]
    return StatementOut(
        org=input.org, name=members.shown_name(ctx, organisation), month=input.month, unit=unit, since=since, until=until,
        is_over=until <= ctx.now, opening=closing - sum(net.values()), credits=sum(each for each in plain if each > 0),
        charges=sum(charges.values()), payments=-sum(each for each in plain if each < 0), closing=closing,
        models=lines, packages=packages, included=included, movements=moved,
    )  # fmt: skip


def _models(
    ctx: Read, org: str, unit: str, month: str, charges: dict[str, int], later: dict[str, int]
) -> list[ModelLine]:
    sums = serving.sums_of(ctx, org, unit, month)
    own_until = serving.own_until(ctx, org, unit, month)
    ever = serving.charged(ctx, org, unit)
    names = serving.names_of(ctx, own_until)
    lines = []
    for route, owed in sorted(own_until.items(), key=lambda each: (names.get(each[0], ""), each[0])):
        line, charged = sums.get(route, serving.NO_SUMS), charges.get(route, 0)
        carried_out = owed - (ever.get(route, 0) - later.get(route, 0)) * NANO
        carried_in = carried_out + charged * NANO - line.own_nanos
        if line.calls or charged or carried_in or carried_out:
            lines.append(
                ModelLine(
                    route, names.get(route, route), line.calls, line.input_tokens, line.cached_tokens, line.output_tokens,
                    line.cost_nanos, line.aid_nanos, line.own_nanos, carried_in, charged, carried_out,
                )
            )  # fmt: skip
    return lines


def _packages(
    ctx: Read, org: str, unit: str, span: tuple[datetime, datetime], sold: dict[tuple[str, str], int]
) -> tuple[list[PackageLine], list[Included]]:
    """Of each package that had something in it in this month; who may read the statement has been asked."""
    since, until = span
    query = (
        select(Subscription, Package)
        .join(Package, Package.id == Subscription.package)
        .where(Subscription.org == org, Subscription.unit == unit, Subscription.since < until)
        .where(or_(Subscription.ended_at.is_(None), Subscription.ended_at >= since))
        .order_by(Subscription.since, Subscription.id)
    )
    rows = [(row, package) for row, package in ctx.session.execute(query)]
    if not rows:
        return [], []
    ids = [row.id for row, _ in rows]
    before = periods.moved_of_each(ctx, ids, unit, min(row.since for row, _ in rows), since)
    within = periods.moved_of_each(ctx, ids, unit, since, until)
    paid = periods.paid_of_each(ctx, ids, unit, since, until)
    models = serving.names_of(ctx, {route for each in paid.values() for route in each})
    lines, included = [], []
    for row, package in rows:
        opening, net = sum(before[row.id].values()), within[row.id]
        if not opening and not net:
            continue
        bought, returned, closing = net.get(BOUGHT, 0), -net.get(RETURNED, 0), opening + sum(net.values())
        whole = row.since + timedelta(days=package.days)
        ends = row.until if row.until < until else whole  # what was ended since then ran on when the month was over
        is_over = ends < until if until <= ctx.now else ends <= ctx.now
        how = rules.outcome(is_over=is_over, is_early=ends < whole, returned=returned, closing=closing)
        lines.append(
            PackageLine(
                row.id, package.name, row.since.date(), ends.date(), how, -sold.get((BOUGHT, row.id), 0),
                sold.get((RETURNED, row.id), 0), opening, bought, opening + bought - returned - closing, returned, closing,
            )
        )  # fmt: skip
        for route, amount in sorted(paid[row.id].items()):
            included.append(Included(row.id, package.name, route, models.get(route, route), amount))
    return lines, included


def as_csv(statement: StatementOut) -> str:
    told = statement
    return rules.as_csv(told.model_dump(), told.models, told.packages, told.included, told.movements)
