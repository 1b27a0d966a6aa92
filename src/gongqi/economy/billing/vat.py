"""The tax within what was charged, reckoned as EN 16931 asks. Pure thought.

Prices contain their tax: what the ledger was charged is all that is paid. From the charges of each category and rate the
basis is the greatest whole amount that with its tax is no more than was charged:

    tax (BT-117) = basis (BT-116) x rate (BT-119), rounded half up (BR-CO-17), once for each category and rate
    basis + tax + rounding = charged, and the rounding (BT-114) is 0 or 1 booked unit

since not every amount is a sum of a basis and its tax: at 20 % no basis gives 9. A basis is divided among its lines in
proportion to what was charged for them, so that lines, categories and totals agree to the unit (BR-CO-10, -13, -14, -15,
BR-S-08 and its kin).

A credit note is reckoned in the same way, but within what its invoice has left of basis and tax: so no tax is given back
that was not invoiced. What was credited in several parts may therefore leave some units of rounding more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gongqi.kernel.money import split

STANDARD, ZERO, EXEMPT, REVERSE, OUTSIDE, UNION, EXPORT = "S", "Z", "E", "AE", "O", "K", "G"
CATEGORIES = (STANDARD, ZERO, EXEMPT, REVERSE, OUTSIDE, UNION, EXPORT)  # UNTDID 5305, as EN 16931 takes from it
REASON_CODES = {REVERSE: "VATEX-EU-AE", OUTSIDE: "VATEX-EU-O", UNION: "VATEX-EU-IC", EXPORT: "VATEX-EU-G"}  # CEF VATEX
WHOLE_BP = 10_000  # 100 %

Kind = tuple[str, int]  # category and rate in basis points


@dataclass(frozen=True, slots=True)
class Charge:
    """`amount` booked units, all that was charged to `receiver`'s account for `item`; `kind` of tax that is within it."""

    position: int
    receiver: str
    item: str
    amount: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Line:
    """A charge, of which `net` is without tax."""

    position: int
    receiver: str
    item: str
    amount: int
    net: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Subtotal:
    """Of one category and rate: `amount` charged = basis + tax + what rounding leaves."""

    kind: Kind
    amount: int
    basis: int
    tax: int


@dataclass(frozen=True, slots=True)
class Reckoning:
    lines: tuple[Line, ...]
    subtotals: tuple[Subtotal, ...]

    @property
    def total(self) -> int:
        return sum(each.amount for each in self.subtotals)

    @property
    def net(self) -> int:
        return sum(each.basis for each in self.subtotals)

    @property
    def tax(self) -> int:
        return sum(each.tax for each in self.subtotals)

    @property
    def rounding(self) -> int:
        return self.total - self.net - self.tax


def tax_on(basis: int, rate_bp: int) -> int:
    """Rounded half up, as BR-CO-17 has it."""
    return (2 * basis * rate_bp + WHOLE_BP) // (2 * WHOLE_BP)


def contained(amount: int, rate_bp: int, left: Subtotal | None = None) -> tuple[int, int]:
    """The greatest basis, and its tax, that are together within `amount`, and each within what is `left`."""
    basis = amount * WHOLE_BP // (WHOLE_BP + rate_bp)
    if basis + 1 + tax_on(basis + 1, rate_bp) <= amount:
        basis += 1  # the tax of one more is rounded down to what is there
    if left is not None:
        basis = min(basis, left.basis)
        if tax_on(basis, rate_bp) > left.tax:
            basis = (2 * WHOLE_BP * (left.tax + 1) - WHOLE_BP - 1) // (2 * rate_bp)
    return basis, tax_on(basis, rate_bp)


def reckon(charges: Sequence[Charge], left: Mapping[Kind, Subtotal] | None = None) -> Reckoning:
    """Lines in the order of their positions, subtotals in that of their kinds. `left`: of the invoice that is corrected."""
    nets: dict[int, int] = {}
    subtotals = []
    for kind in sorted({each.kind for each in charges}):
        of_kind = {str(each.position): each.amount for each in charges if each.kind == kind}
        amount = sum(of_kind.values())
        basis, tax = contained(amount, kind[1], left[kind] if left is not None else None)
        subtotals.append(Subtotal(kind, amount, basis, tax))
        nets |= {int(position): net for position, net in split(basis, of_kind).items()}
    lines = [
        Line(each.position, each.receiver, each.item, each.amount, nets[each.position], each.kind)
        for each in sorted(charges, key=lambda each: each.position)
    ]
    return Reckoning(tuple(lines), tuple(subtotals))


def remaining(subtotals: Iterable[Subtotal], credited: Iterable[Subtotal]) -> dict[Kind, Subtotal]:
    """What an invoice has left of each kind after its credit notes."""
    left = {each.kind: each for each in subtotals}
    for each in credited:
        had = left[each.kind]
        left[each.kind] = Subtotal(each.kind, had.amount - each.amount, had.basis - each.basis, had.tax - each.tax)
    return left
