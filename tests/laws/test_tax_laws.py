"""The laws of tax, over charges as the machine thinks them up: what is within a charge agrees to the unit, and a credit note
never gives back what was not invoiced."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gongqi.economy.billing import vat
from gongqi.economy.billing.vat import Charge, Kind

rates = st.one_of(st.integers(1, vat.WHOLE_BP), st.sampled_from([300, 600, 700, 900, 1300, 1900, 2000, 2500]))
amounts = st.one_of(st.integers(1, 300), st.integers(1, 2**53 - 1))
kinds = st.one_of(
    rates.map(lambda rate: ("S", rate)), st.sampled_from([("E", 0), ("Z", 0), ("AE", 0), ("K", 0), ("G", 0)])
)


@st.composite
def charges(draw: Any) -> list[Charge]:
    drawn = draw(st.lists(st.tuples(amounts, kinds), min_size=1, max_size=8))
    return [Charge(at, f"mrt_{at}", "m", amount, kind) for at, (amount, kind) in enumerate(drawn, 1)]


@given(amounts, rates)
@example(9, 2000)  # no basis gives nine at 20 %
@example(1, 10_000)
def test_basis_and_tax_are_within_what_was_charged_and_a_unit_at_most_is_rounding(amount: int, rate_bp: int) -> None:
    basis, tax = vat.contained(amount, rate_bp)
    exact = Fraction(basis * rate_bp, vat.WHOLE_BP)
    assert tax == int(exact + Fraction(1, 2)), "half up, as BR-CO-17 has it"
    assert 0 <= amount - basis - tax <= 1
    assert basis + 1 + vat.tax_on(basis + 1, rate_bp) > amount, "no greater basis fits"


@given(charges())
def test_lines_categories_and_totals_agree_to_the_unit(given_charges: list[Charge]) -> None:
    made = vat.reckon(given_charges)
    assert made.total == sum(each.amount for each in given_charges)
    assert made.net == sum(line.net for line in made.lines), "BR-CO-10, BR-CO-13"
    assert 0 <= made.rounding <= len(made.subtotals)
    for each in made.subtotals:
        of_kind = [line for line in made.lines if line.kind == each.kind]
        assert each.basis == sum(line.net for line in of_kind), "BR-S-08 and its kin"
        assert each.amount == sum(line.amount for line in of_kind)
        assert each.tax == vat.tax_on(each.basis, each.kind[1]), "BR-CO-17"
        assert each.kind[1] or each.basis == each.amount, "without tax all is net"
    assert all(0 <= line.net <= line.amount for line in made.lines)


parts = st.lists(st.fractions(0, 1, max_denominator=9), max_size=12)


@pytest.mark.heavy
@given(charges(), parts)
@example(
    [Charge(1, "mrt_1", "m", 12, ("S", 2000))], [Fraction(1, 3), Fraction(1, 2)]
)  # three parts of four: 1 + 1 + 1 of tax
def test_credit_notes_never_give_back_more_than_was_invoiced(given_charges: list[Charge], shares: list[Any]) -> None:
    invoice = vat.reckon(given_charges)
    left = {each.position: each for each in given_charges}
    notes: list[vat.Reckoning] = []
    for share in [*shares, Fraction(1)]:
        part = [
            Charge(at, each.receiver, each.item, amount, each.kind)
            for at, each in left.items()
            if (amount := int(each.amount * share))
        ]
        if not part:
            continue
        so_far = [each for note in notes for each in note.subtotals]
        note = vat.reckon(part, vat.remaining(invoice.subtotals, so_far))
        notes.append(note)
        for each in part:
            had = left[each.position]
            left[each.position] = Charge(had.position, had.receiver, had.item, had.amount - each.amount, had.kind)
        assert note.total == sum(each.amount for each in part) and note.rounding >= 0
        assert all(each.tax == vat.tax_on(each.basis, each.kind[1]) for each in note.subtotals), (
            "each is whole in itself"
        )
    given_back: dict[Kind, list[int]] = {each.kind: [0, 0, 0] for each in invoice.subtotals}
    for each in (each for note in notes for each in note.subtotals):
        for at, value in enumerate((each.amount, each.basis, each.tax)):
            given_back[each.kind][at] += value
    for each in invoice.subtotals:
        amount, basis, tax = given_back[each.kind]
        assert amount == each.amount, "in the end all of it"
        assert basis <= each.basis and tax <= each.tax
    if len(notes) == 1:
        assert notes[0].subtotals == invoice.subtotals, "a whole credit note is its mirror"
