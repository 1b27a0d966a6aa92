"""Invoices of months that are over: issued once, numbered, never changed.

An invoice says what the ledger was charged, by model, and the tax that is in it (`vat`). All of it is paid already, because
calls are paid in advance. What it says is written down when it is issued: parties, lines and rates as they were then.

**Where the tax is.** Prices contain it, and the ledger has no postings of it: who owes it to the tax office is the seller,
and a tax office has no account here. `billing:tax:report` says how much it is.

Numbers of a series have no gaps: a number is given in the transaction that writes what bears it.
Source: EN 16931-1:2017 (business terms BT, rules BR); Directive 2006/112/EC, Articles 219 and 226.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any

import rfc8785
from pydantic import Field
from sqlalchemy import func, select

from gongqi.books.ledger import periods
from gongqi.economy.billing import taxes, vat
from gongqi.economy.billing.addresses import AddressOut, address_of
from gongqi.economy.billing.models import COMMERCIAL, CREDIT_NOTE, BillingAddress, Invoice
from gongqi.economy.billing.prices import ID
from gongqi.economy.billing.statements import OneStatement, StatementOut, get_statement
from gongqi.economy.billing.vat import Charge, Kind, Reckoning, Subtotal
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.serving import service as serving

CURRENCIES = {"CNY-fen": "CNY", "USD-cent": "USD"}
SERIES = {COMMERCIAL: "I", CREDIT_NOTE: "C"}  # of a year, such as I2026
NO_TAX = "Not subject to VAT as far as is known here: no rate has been set."

Told = Mapping[Kind, tuple[str, str | None]]  # of each kind of tax, the article and the rule that chose it


class OneInvoice(Input):
    invoice: str = Field(max_length=ID)


class ListInvoices(Paged):
    org: str | None = Field(None, max_length=ID)
    corrects: str | None = Field(None, max_length=ID)


class InvoiceRow(Output):
    """`type_code` of UNTDID 1001: 380 an invoice, 381 a credit note, which `corrects` one. Amounts in booked units: `amount`
    is all that was charged or is given back, and net + tax + rounding = amount."""

    id: str
    number: str
    type_code: str
    org: str
    month: str
    unit: str
    corrects: str | None
    amount: int
    net: int
    tax: int
    evidence: str
    issued_at: datetime


class LineOut(Output):
    position: int
    receiver: str
    item: str
    amount: int
    net: int
    category: str
    rate_bp: int


class SubtotalOut(Output):
    """`tax` of `basis` at this rate; `amount` is what was charged. `reason`: the article, or why there is no tax."""

    category: str
    rate_bp: int
    amount: int
    basis: int
    tax: int
    reason: str
    rule: str | None


class InvoiceOut(InvoiceRow):
    """`since` and `last`: days of the span. `corrects_number`, `corrects_on`: of the invoice that is corrected."""

    seller: AddressOut
    buyer: AddressOut
    since: date
    last: date
    lines: list[LineOut]
    subtotals: list[SubtotalOut]
    reason: str | None
    corrects_number: str | None
    corrects_on: date | None

    @property
    def rounding(self) -> int:
        return self.amount - self.net - self.tax


@verb("billing:invoice:issue", evidence="billing.invoice-issued")
def issue_invoice(ctx: Write, input: OneStatement) -> InvoiceOut:
    """Raises Refused: billing.invoice-to-oneself, billing.month-not-over, billing.unit-not-money, billing.nothing-charged,
    billing.invoice-issued, billing.address-missing, billing.tax-mixed, billing.tax-number-missing; and as the statement and
    `taxes.chosen`."""
    ctx.require("billing:invoice:issue", input.org)
    if input.org == members.foundation(ctx):
        raise Refused("billing.invoice-to-oneself")
    statement = get_statement.run(ctx, input)
    if statement.unit not in CURRENCIES:
        raise Refused("billing.unit-not-money", unit=statement.unit, known=", ".join(CURRENCIES))
    if ctx.now < statement.until + periods.TOGETHER:  # a settlement of its last moment may still be under way
        raise Refused("billing.month-not-over", month=statement.month)
    if not statement.charges:
        raise Refused("billing.nothing-charged", month=statement.month)
    issued = issued_for(ctx, statement.org, statement.month, statement.unit)
    if issued is not None:
        raise Refused("billing.invoice-issued", number=issued.number)
    seller, buyer = address_of(ctx, members.foundation(ctx)), address_of(ctx, statement.org)
    charges, told = _charges(ctx, statement, seller, buyer)
    reckoned = vat.reckon(charges)
    content = content_of(reckoned, told) | {
        "seller": AddressOut.model_validate(seller).model_dump(), "buyer": AddressOut.model_validate(buyer).model_dump(),
        "since": statement.since.date().isoformat(),
        "last": (statement.until - timedelta(days=1)).date().isoformat(),
    }  # fmt: skip
    row = Invoice(id=ctx.new_id("inv"), org=statement.org, month=statement.month, unit=statement.unit, part=0)
    return write_down(ctx, row, reckoned, content)


@read("billing:invoice:list")
def list_invoices(ctx: Read, input: ListInvoices) -> Page[InvoiceRow]:
    query = ctx.visible(Invoice, to="billing:invoice:read")
    if input.org:
        query = query.where(Invoice.org == input.org)
    if input.corrects:
        query = query.where(Invoice.corrects == input.corrects)
    return ctx.page(query, Invoice.id, input, to=InvoiceRow)


@read("billing:invoice:get")
def get_invoice(ctx: Read, input: OneInvoice) -> InvoiceOut:
    return shown(ctx.find(Invoice, input.invoice, to="billing:invoice:read"))


def invoice_of(ctx: Read, asked: OneStatement) -> InvoiceOut:
    """The invoice of a month. Raises Refused: billing.month-not-over, billing.invoice-not-issued; and as the statement."""
    statement = get_statement.run(ctx, asked)
    if not statement.is_over:
        raise Refused("billing.month-not-over", month=statement.month)
    issued = issued_for(ctx, statement.org, statement.month, statement.unit)
    if issued is None:
        raise Refused("billing.invoice-not-issued", month=statement.month)
    return get_invoice.run(ctx, OneInvoice(invoice=issued.id))


# --- for what is beside it -------------------------------------------------------------------------------------------


def issued_for(ctx: Read, org: str, month: str, unit: str) -> Invoice | None:
    """For who may read the statement, and so knows of it."""
    query = select(Invoice).where(Invoice.org == org, Invoice.month == month, Invoice.unit == unit, Invoice.part == 0)
    return ctx.session.scalar(query)


def content_of(reckoned: Reckoning, told: Told) -> dict[str, Any]:
    """Lines and subtotals, as they are kept."""
    lines = [
        {
            "position": each.position, "receiver": each.receiver, "item": each.item, "amount": each.amount, "net": each.net,
            "category": each.kind[0], "rate_bp": each.kind[1],
        }
        for each in reckoned.lines
    ]  # fmt: skip
    subtotals = [
        {
            "category": each.kind[0], "rate_bp": each.kind[1], "amount": each.amount, "basis": each.basis, "tax": each.tax,
            "reason": told[each.kind][0], "rule": told[each.kind][1],
        }
        for each in reckoned.subtotals
    ]  # fmt: skip
    return {"lines": lines, "subtotals": subtotals}


def kind_of(told: Mapping[str, Any]) -> Kind:
    """Of a line or a subtotal as it is kept."""
    return told["category"], told["rate_bp"]


def subtotals_of(row: Invoice) -> list[Subtotal]:
    return [Subtotal(kind_of(each), each["amount"], each["basis"], each["tax"]) for each in row.content["subtotals"]]


def write_down(ctx: Write, row: Invoice, reckoned: Reckoning, content: dict[str, Any]) -> InvoiceOut:
    """With the next number of its series."""
    row.series = f"{SERIES[row.type_code]}{ctx.now.year}"
    last = ctx.session.scalar(select(func.max(Invoice.position)).where(Invoice.series == row.series))
    row.position = (last or 0) + 1
    row.amount, row.net, row.tax = reckoned.total, reckoned.net, reckoned.tax
    row.content, row.issued_at = content, ctx.now
    digest = sha256(rfc8785.dumps(content)).hexdigest()  # sealed as well: amounts are few enough to be guessed by it
    sealed = {"org": row.org, "month": row.month, "unit": row.unit, "amount": row.amount, "tax": row.tax}
    row.evidence = ctx.record(row.id, withhold=True, private=sealed | {"content_sha256": digest}, number=row.number)
    ctx.add(row)
    ctx.session.flush()
    return shown(row)


def shown(row: Invoice) -> InvoiceOut:
    told = row.content
    heads = {name: getattr(row, name) for name in InvoiceRow.model_fields}
    more = {name: told.get(name) for name in ("reason", "corrects_number", "corrects_on")}
    return InvoiceOut.model_validate(heads | told | more)


def _charges(
    ctx: Read, statement: StatementOut, seller: BillingAddress, buyer: BillingAddress
) -> tuple[list[Charge], Told]:
    """What was charged, by who got it, each with its kind of tax."""
    paid = periods.paid(ctx, statement.org, statement.unit, statement.since, statement.until)
    names = serving.names_of(ctx, paid)
    rules = taxes.in_force(ctx, seller, statement.until - timedelta(microseconds=1))
    charges, told = [], {}
    for position, (receiver, amount) in enumerate(sorted(paid.items()), 1):
        item = names.get(receiver, receiver)
        kind, why = (vat.OUTSIDE, 0), (NO_TAX, None)
        if rules:
            rule = taxes.chosen(rules, buyer, receiver, item)
            kind, why = (rule.category, rule.rate_bp), (rule.article, rule.id)
        told.setdefault(kind, why)
        charges.append(Charge(position, receiver, item, amount, kind))
    categories = {kind[0] for kind in told}
    if vat.OUTSIDE in categories and len(categories) > 1:
        raise Refused("billing.tax-mixed")  # BR-O-11
    if categories != {vat.OUTSIDE} and seller.vat_id is None:
        raise Refused("billing.tax-number-missing", org=seller.org)  # BR-S-02 and its kin
    needs_buyers = (vat.REVERSE in categories and not (buyer.vat_id or buyer.registration)) or (
        vat.UNION in categories and not buyer.vat_id
    )
    if needs_buyers:
        raise Refused("billing.tax-number-missing", org=buyer.org)  # BR-AE-02, BR-IC-02
    return charges, told
