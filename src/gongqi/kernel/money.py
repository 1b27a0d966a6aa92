"""Quantities are integers with a unit; nothing here knows a price.

A unit names its smallest indivisible part (CNY-fen, not CNY), so no rounding can hide between a screen and a book.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gongqi.kernel.errors import Refused

MAX_AMOUNT = 2**53 - 1  # what JSON readers in every language hold exactly


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


def split(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Divide `amount` by integer `weights` with the largest-remainder method (Hamilton).

    The parts sum to `amount` exactly. Remainder units go to the largest fractions; ties go to the larger weight, then to
    the smaller key, so the result depends on nothing but the arguments.
    """
    total = sum(weights.values())
    if amount < 0 or total <= 0 or any(weight < 0 for weight in weights.values()):
        raise Refused("kernel.split-impossible", amount=amount, weight_sum=total)
    parts = {key: amount * weight // total for key, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda key: (-(amount * weights[key] % total), -weights[key], key))
    for key in by_remainder[: amount - sum(parts.values())]:
        parts[key] += 1
    return parts
