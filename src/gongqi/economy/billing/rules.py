"""What a month came to, as pure thought: which span it is, what its lines say, and that they make its balance.

A line for each model: what its calls cost at the full price, what a fund paid, and what the organisation did. Calls cost
parts of units and the ledger is charged whole ones, so a line carries a rest from the month before and on to the next:

    carried in + own cost = charged + carried out

and the money: opening + credits - charges - payments = closing. A line for each package: what was in it, came into it, went
out by calls and went back,

    opening + bought - used - returned = closing

All hold exactly, or the statement is not true.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime

MONTH = r"^20[0-9]{2}-(0[1-9]|1[0-2])$"
CHARGED, SETTLE = "charged", "ledger.settle"
BOUGHT, RETURNED = "billing.package-bought", "billing.package-returned"
RUNNING, USED_UP, EXPIRED, ENDED = "running", "used-up", "expired", "ended"


@dataclass(frozen=True, slots=True)
class ModelLine:
    """What an organisation's calls of one model came to in a month. Nanos are 10⁻⁹ of the unit; `charged` is booked units.

    Of the full price a fund paid `aid_nanos`, the organisation owes `own_nanos`; carried_in + own = charged x 10⁹ +
    carried_out. What is carried is below one unit, unless money ran out.
    """

    route: str
    model: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    full_nanos: int
    aid_nanos: int
    own_nanos: int
    carried_in_nanos: int
    charged: int
    carried_out_nanos: int


@dataclass(frozen=True, slots=True)
class PackageLine:
    """A package in a month, in booked units: the organisation paid `paid` for it and got `paid_back`; of its credit
    opening + bought - used - returned = closing, with the fund's part in it. `outcome` at the end of the month: running,
    used-up, expired (its days were over), ended (by the organisation, before they were)."""

    subscription: str
    package: str
    since: date
    until: date
    outcome: str
    paid: int
    paid_back: int
    credit_opening: int
    credit_bought: int
    credit_used: int
    credit_returned: int
    credit_closing: int


@dataclass(frozen=True, slots=True)
class Included:
    """Calls of a model that a package paid for, in booked units: nothing is owed for them beside its price."""

    subscription: str
    package: str
    route: str
    model: str
    amount: int


@dataclass(frozen=True, slots=True)
class Movement:
    """Booked units in (+) or out (-). `kind`: `charged`, then `item` names who got it; else a kind of transaction, and of
    a package `item` names it."""

    kind: str
    item: str
    amount: int


def span(month: str) -> tuple[datetime, datetime]:
    """[first moment, first moment of the next month) in UTC, of what `MONTH` matches."""
    year, number = int(month[:4]), int(month[5:])
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    return datetime(year, number, 1, tzinfo=UTC), datetime(*following, 1, tzinfo=UTC)


def returned(left: int, *, price: int, credit: int) -> int:
    """Of what is left of `credit` bought for `price`, the buyer's part, rounded down; the rest is the fund's, where one
    paid the difference."""
    return left * price // credit


def outcome(*, is_over: bool, is_early: bool, returned: int, closing: int) -> str:
    """What a package has become: `is_over`, its days are, or the organisation ended it before (`is_early`)."""
    if not closing and not returned:
        return USED_UP
    if not is_over:
        return RUNNING
    return ENDED if is_early else EXPIRED


def movements(
    net: Mapping[str, int], charges: Mapping[str, int], sold: Mapping[tuple[str, str], int], names: Mapping[str, str]
) -> list[Movement]:
    """By kind what came and went, by package what was paid for it and came back (`sold`, by kind and subscription), and
    what was charged by who got it; together the net of all."""
    assert net.get(SETTLE, 0) == -sum(charges.values()), "what settlements took is what somebody got"
    packages = [Movement(kind, names.get(each, each), amount) for (kind, each), amount in sorted(sold.items())]
    assert sum(each.amount for each in packages) == net.get(BOUGHT, 0) + net.get(RETURNED, 0), "each is of some package"
    charged = [Movement(CHARGED, names.get(each, each), -amount) for each, amount in sorted(charges.items())]
    apart = (SETTLE, BOUGHT, RETURNED)
    others = [Movement(kind, "", amount) for kind, amount in sorted(net.items()) if kind not in apart]
    return [*others, *packages, *charged]


def as_csv(
    head: Mapping[str, object],
    lines: Iterable[ModelLine],
    packages: Iterable[PackageLine],
    included: Iterable[Included],
    moved: Iterable[Movement],
) -> str:
    """One table: a row a model, a package, what a package paid of a model and a movement, and the two balances. Amounts
    are booked units; those of the column `amount` make the closing balance of the opening one."""
    columns = ["row", "item", "amount", *(each.name for each in fields(ModelLine))]
    columns += [each.name for each in fields(PackageLine)]
    out = io.StringIO()
    table = csv.DictWriter(out, [*columns, "unit", "month", "org"], restval="")
    table.writeheader()
    about = {name: head[name] for name in ("unit", "month", "org")}
    table.writerow({"row": "opening", "amount": head["opening"], **about})
    for line in lines:
        table.writerow({"row": "model", **{each.name: getattr(line, each.name) for each in fields(line)}, **about})
    for line in packages:
        table.writerow({"row": "package", **{each.name: getattr(line, each.name) for each in fields(line)}, **about})
    for each in included:
        of = {name: getattr(each, name) for name in ("subscription", "package", "route", "model")}
        table.writerow({"row": "included", **of, "credit_used": each.amount, **about})
    for each in moved:
        table.writerow({"row": each.kind, "item": each.item, "amount": each.amount, **about})
    table.writerow({"row": "closing", "amount": head["closing"], **about})
    return out.getvalue()
