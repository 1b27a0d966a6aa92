"""Quantities are integers with a unit; nothing here knows a price.

A unit names its smallest indivisible part (CNY-fen, not CNY), so no rounding can hide between a screen and a book.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any, TypeVar

from gongqi.kernel.errors import Refused

MAX_AMOUNT = 2**53 - 1  # what JSON readers in every language hold exactly
NOTHING: Mapping[Any, int] = MappingProxyType({})

K = TypeVar("K", bound=str | tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Unit:
    """`code` as booked; one shown `symbol` is 10**`decimals` booked units."""

    code: str
    symbol: str
    decimals: int


UNITS: Mapping[str, Unit] = {
    unit.code: unit
    for unit in (
        Unit("CNY-fen", "CNY", 2),
        Unit("USD-cent", "USD", 2),
        Unit("credit", "credit", 0),
        Unit("point", "point", 0),
        Unit("GPU-second", "GPU-second", 0),
        Unit("token", "token", 0),
    )
}


def unit_named(code: str) -> Unit:
    if code not in UNITS:
        raise Refused("kernel.unit-unknown", unit=code, known=", ".join(UNITS))
    return UNITS[code]


def split(amount: int, weights: Mapping[K, int], paid: Mapping[K, int] = NOTHING) -> dict[K, int]:
    """Divide `amount` by integer `weights`, on top of what earlier amounts with these weights came to (`paid`).

    The parts sum to `amount` exactly and none is negative. However the series is cut, every running total is the exact
    share of all amounts so far, rounded down or up: whoever got too little this time is made good by the next.

    The quota method of Balinski and Young (1975), taken in one step: everybody first gets up to the whole units of
    their exact share; each unit that remains goes to whoever would otherwise be the first to miss a whole one. No total
    ever has to go down, as with largest remainders (Alabama, 1880). Ties go to the larger weight, then to the smaller
    key, so the result depends on nothing but the arguments.
    """
    whole = sum(weights.values())
    if amount < 0 or whole <= 0 or any(weight < 0 for weight in weights.values()):
        raise Refused("kernel.split-impossible", amount=amount, weight_sum=whole)
    before = {key: paid.get(key, 0) for key in weights}
    total = sum(before.values()) + amount
    after = {key: max(before[key], total * weight // whole) for key, weight in weights.items()}
    below = [key for key, weight in weights.items() if after[key] * whole < total * weight]
    below.sort(key=lambda key: (Fraction(after[key] + 1, weights[key]), -weights[key], key))
    left = total - sum(after.values())
    assert 0 <= left <= len(below), "what was paid before is what `split` said"
    for key in below[:left]:
        after[key] += 1
    return {key: after[key] - before[key] for key in weights}
