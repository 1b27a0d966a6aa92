"""The statement of an organisation's month: what its calls came to, and what its money did.

It is read from two places that are kept in the same transactions: the sums of usage records, and the ledger. A month is
one of settlement, in UTC, so what is over does not change: a call that was settled late is in the month in which it was
charged.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, ValidationError

from gongqi.books.ledger import periods
from gongqi.economy.billing import rules
from gongqi.economy.billing.prices import ID
from gongqi.economy.billing.rules import ModelLine, Movement
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
    """Amounts in booked units: opening + credits - charges - payments = closing. `is_over`: it will not change any more."""

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
    movements: list[Movement]


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
    moved = rules.movements(net, charges, serving.names_of(ctx, charges))
    plain = [each.amount for each in moved if each.kind != rules.CHARGED]
    return StatementOut(
        org=input.org, name=members.shown_name(ctx, organisation), month=input.month, unit=unit, since=since, until=until,
        is_over=until <= ctx.now, opening=closing - sum(net.values()), credits=sum(each for each in plain if each > 0),
        charges=sum(charges.values()), payments=-sum(each for each in plain if each < 0), closing=closing,
        models=lines, movements=moved,
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


def as_csv(statement: StatementOut) -> str:
    return rules.as_csv(statement.model_dump(), statement.models, statement.movements)
