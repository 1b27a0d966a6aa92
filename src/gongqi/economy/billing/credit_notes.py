"""Credit notes: what corrects an invoice, in part or whole, since an invoice is never changed.

A credit note gives back amounts of an invoice's lines by a transaction of its own: from where the charges of that line
went, and where these have been divided already, from the foundation's own money. Nobody is put below their floor.

What is left of a package goes back by itself when it ends (`packages`). Once its sale has been invoiced, a credit note says
so, issued as time goes by (`credit_returned`) and with no transaction but that one. While a package may still have that
before it, its line is not credited otherwise.

Invariants
- Of no line more is given back than it has, and of no tax more than was in the invoice.
- What an invoice's credit notes say is what their transactions, and the ends of its packages, gave back.
- The series has no gap, as that of invoices has none.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import select

from gongqi.books.ledger import service as ledger
from gongqi.economy.billing import rules, vat
from gongqi.economy.billing.invoices import ABOUT, InvoiceOut, content_of, kind_of, subtotals_of, write_down
from gongqi.economy.billing.models import UNCREDITED, Invoice, Subscription
from gongqi.economy.billing.prices import ID
from gongqi.economy.billing.statements import UNIT
from gongqi.economy.billing.taxes import Sentence
from gongqi.economy.billing.vat import Charge, Kind
from gongqi.kernel.errors import Refused
from gongqi.kernel.money import MAX_AMOUNT, unit_named
from gongqi.kernel.verbs import Input, Output, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.serving import service as serving

CREDITED = "billing.credited"
MAX_LINES = 400  # of one credit note: each is two postings at most, and a transaction has a thousand
BATCH = 500  # invoices held at once by a report
RETURNS = 100  # credit notes of packages issued in one transaction
LEFT_OVER = "套餐余额退回 / What was left of the package"


class CreditLine(Input):
    """`amount` booked units of the line `position` of the invoice, with the tax in them."""

    position: int = Field(ge=1)
    amount: int = Field(ge=1, le=MAX_AMOUNT)


class CreditInvoice(Input):
    """`lines` empty: all that is left of it."""

    invoice: str = Field(max_length=ID)
    reason: Sentence
    lines: list[CreditLine] = Field([], max_length=MAX_LINES)


class ReportTax(Input):
    """`month` in UTC: what was issued in it."""

    month: str = Field(pattern=rules.MONTH)
    unit: str = Field(UNIT, max_length=40)


class ReportedTax(Output):
    """Of one category and rate, in booked units: what invoices say, less what credit notes do."""

    category: str
    rate_bp: int
    basis: int
    tax: int


class TaxReportOut(Output):
    month: str
    unit: str
    invoices: int
    credit_notes: int
    taxes: list[ReportedTax]


@verb("billing:invoice:credit", evidence="billing.invoice-credited")
def credit_invoice(ctx: Write, input: CreditInvoice) -> InvoiceOut:
    """Raises Refused: billing.credit-of-credit, billing.credit-line-unknown, billing.credit-too-high,
    billing.credit-too-long, billing.credit-of-running-package, billing.credit-uncovered."""
    ctx.require("billing:invoice:credit")
    invoice = ctx.find(Invoice, input.invoice, to="billing:invoice:read")
    if invoice.corrects is not None:
        raise Refused("billing.credit-of-credit", number=invoice.number)
    notes = _notes_of(ctx, invoice)
    charges = _wanted(input, invoice, notes)
    _check_packages(ctx, charges)
    made = _issue(ctx, invoice, notes, charges, reason=input.reason, at=ctx.now)
    lines = _postings(ctx, invoice, charges)
    ledger.post(ctx, key=made.id, kind=CREDITED, subject=made.id, postings=lines, evidence=made.evidence)
    return made


def credit_returned(ctx: Write) -> int:
    """Credit notes for a batch of the invoiced packages of which something went back; how many there were."""
    rows = list(ctx.session.scalars(select(Subscription).where(UNCREDITED).order_by(Subscription.id).limit(RETURNS)))
    for row in rows:
        assert row.returned and row.ended_at, "only what has ended went back"
        invoice = ctx.session.get_one(Invoice, row.invoice)
        [line] = [each for each in invoice.content["lines"] if each["receiver"] == row.id]
        charges = [Charge(line["position"], row.id, line["item"], row.returned, kind_of(line))]
        notes = _notes_of(ctx, invoice)
        row.credit_note = _issue(ctx, invoice, notes, charges, reason=LEFT_OVER, at=row.ended_at).id
        ctx.session.flush()
    return len(rows)


@read("billing:tax:report")
def report_tax(ctx: Read, input: ReportTax) -> TaxReportOut:
    """The tax in what was issued in a month: what the seller owes its tax office, as far as is known here."""
    ctx.require("billing:tax:report")
    unit = unit_named(input.unit).code
    since, until = rules.span(input.month)
    sums: Counter[tuple[str, Kind]] = Counter()
    counts: Counter[str] = Counter()
    for row in ctx.session.scalars(_issued(unit, since, until).execution_options(yield_per=BATCH)):
        sign = 1 if row.corrects is None else -1
        counts[row.type_code] += 1
        for each in subtotals_of(row):
            sums["basis", each.kind] += sign * each.basis
            sums["tax", each.kind] += sign * each.tax
    kinds = sorted({kind for _, kind in sums})
    taxes = [
        ReportedTax(category=kind[0], rate_bp=kind[1], basis=sums["basis", kind], tax=sums["tax", kind])
        for kind in kinds
    ]
    return TaxReportOut(month=input.month, unit=unit, invoices=counts["380"], credit_notes=counts["381"], taxes=taxes)


def left_of(invoice: Invoice, notes: list[Invoice]) -> dict[int, int]:
    """By position, what is not given back yet."""
    left = {each["position"]: each["amount"] for each in invoice.content["lines"]}
    for note in notes:
        for each in note.content["lines"]:
            left[each["position"]] -= each["amount"]
    return left


def _notes_of(ctx: Read, invoice: Invoice) -> list[Invoice]:
    return list(ctx.session.scalars(select(Invoice).where(Invoice.corrects == invoice.id).order_by(Invoice.part)))


def _issue(
    ctx: Write, invoice: Invoice, notes: list[Invoice], charges: list[Charge], *, reason: str, at: datetime
) -> InvoiceOut:
    """The next credit note of this invoice, for what the ledger gives back `at` a moment."""
    left = vat.remaining(subtotals_of(invoice), [each for note in notes for each in subtotals_of(note)])
    reckoned = vat.reckon(charges, left)
    told = {kind_of(each): (each["reason"], each["rule"]) for each in invoice.content["subtotals"]}
    about = {
        each["position"]: {name: each[name] for name in ABOUT if name in each} for each in invoice.content["lines"]
    }
    content = content_of(reckoned, told, about) | {
        **{name: invoice.content[name] for name in ("seller", "buyer", "since", "last")},
        "reason": reason, "corrects_number": invoice.number, "corrects_on": invoice.issued_at.date().isoformat(),
        "returned_on": at.date().isoformat(),
    }  # fmt: skip
    row = Invoice(
        id=ctx.new_id("inv"), org=invoice.org, month=invoice.month, unit=invoice.unit, part=len(notes) + 1,
        corrects=invoice.id,
    )  # fmt: skip
    return write_down(ctx, row, reckoned, content)


def _check_packages(ctx: Read, charges: list[Charge]) -> None:
    """Of a package what is left goes back first, and is credited by itself."""
    wanted = [each.receiver for each in charges]
    for row in ctx.session.scalars(select(Subscription).where(Subscription.id.in_(wanted)).order_by(Subscription.id)):
        if row.state != "ended" or (row.returned and row.credit_note is None):
            raise Refused("billing.credit-of-running-package", subscription=row.id)


def _wanted(input: CreditInvoice, invoice: Invoice, notes: list[Invoice]) -> list[Charge]:
    left = left_of(invoice, notes)
    wanted = {position: amount for position, amount in left.items() if amount}
    if input.lines:
        wanted = {each.position: each.amount for each in input.lines}
        if len(wanted) < len(input.lines):
            raise Refused("billing.credit-line-twice")
    if not wanted:
        raise Refused("billing.credit-too-high", number=invoice.number, left=0)
    if len(wanted) > MAX_LINES:
        raise Refused("billing.credit-too-long", limit=MAX_LINES)
    lines = {each["position"]: each for each in invoice.content["lines"]}
    for position, amount in wanted.items():
        if position not in lines:
            raise Refused("billing.credit-line-unknown", number=invoice.number, position=position)
        if amount > left[position]:
            raise Refused("billing.credit-too-high", number=invoice.number, left=left[position])
    return [
        Charge(position, lines[position]["receiver"], lines[position]["item"], amount, kind_of(lines[position]))
        for position, amount in sorted(wanted.items())
    ]


def _postings(ctx: Write, invoice: Invoice, charges: list[Charge]) -> list[ledger.Line]:
    """From who was paid, as far as they have it, and the rest from the foundation."""
    moved: Counter[str] = Counter()
    rest = 0
    for each in charges:
        source = ledger.account_id(each.receiver, invoice.unit, serving.CLEARING)
        there = min(each.amount, max(0, ledger.balance(ctx, source) + moved[source]))
        moved[source] -= there
        rest += each.amount - there
    if rest:
        home = ledger.account(ctx, members.foundation(ctx), invoice.unit)
        if ledger.balance(ctx, home) < rest:
            raise Refused("billing.credit-uncovered", amount=ledger.written(rest, invoice.unit))
        moved[home] -= rest
    moved[ledger.account(ctx, invoice.org, invoice.unit)] += sum(each.amount for each in charges)
    return [ledger.Line(account, amount) for account, amount in sorted(moved.items()) if amount]


def _issued(unit: str, since: datetime, until: datetime) -> Any:
    return select(Invoice).where(Invoice.unit == unit, Invoice.issued_at >= since, Invoice.issued_at < until)
