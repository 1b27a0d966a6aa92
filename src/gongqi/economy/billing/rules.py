"""What a month came to, as pure thought: which span it is, what its lines say, and that they make its balance.

A line for each model: what its calls cost at the full price, what a fund paid, and what the organisation did. Calls cost
parts of units and the ledger is charged whole ones, so a line carries a rest from the month before and on to the next:

    carried in + own cost = charged + carried out

and the money: opening + credits - charges - payments = closing. Both hold exactly, or the statement is not true.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime

MONTH = r"^20[0-9]{2}-(0[1-9]|1[0-2])$"
CHARGED, SETTLE = "charged", "ledger.settle"


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
class Movement:
    """Booked units in (+) or out (-). `kind`: `charged`, then `item` names who got it; else a kind of transaction."""

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


def movements(net: Mapping[str, int], charges: Mapping[str, int], names: Mapping[str, str]) -> list[Movement]:
    """By kind what came and went, and what was charged by who got it; together the net of all."""
    assert net.get(SETTLE, 0) == -sum(charges.values()), "what settlements took is what somebody got"
    charged = [Movement(CHARGED, names.get(each, each), -amount) for each, amount in sorted(charges.items())]
    others = [Movement(kind, "", amount) for kind, amount in sorted(net.items()) if kind != SETTLE]
    return [*others, *charged]


def as_csv(head: Mapping[str, object], lines: Iterable[ModelLine], moved: Iterable[Movement]) -> str:
    """One table: a row a model, a row a movement, and the two balances. Amounts are booked units."""
    columns = ["row", "item", "amount", *(each.name for each in fields(ModelLine))]
    out = io.StringIO()
    table = csv.DictWriter(out, [*columns, "unit", "month", "org"], restval="")
    table.writeheader()
    about = {name: head[name] for name in ("unit", "month", "org")}
    table.writerow({"row": "opening", "amount": head["opening"], **about})
    for line in lines:
        table.writerow({"row": "model", **{each.name: getattr(line, each.name) for each in fields(line)}, **about})
    for each in moved:
        table.writerow({"row": each.kind, "item": each.item, "amount": each.amount, **about})
    table.writerow({"row": "closing", "amount": head["closing"], **about})
    return out.getvalue()
