"""Invoices of months that are over: issued once, numbered, never changed.

An invoice says what the ledger was charged, by model, what was paid for each package that was sold, and the tax that is in
it (`vat`). All of it is paid already, because calls are paid in advance. What it says is written down when it is issued:
parties, lines and rates as they were then.

**When a package is supplied.** It is sold when it is bought, whether or not its credit is used: a line of that month's
invoice, with the tax that held at that moment. So calls that it pays for are told, and not charged again; and what comes
back of it is credited (`credit_notes`). That is our rule and no statute's.

**Where the tax is.** Prices contain it, and the ledger has no postings of it: who owes it to the tax office is the seller,
and a tax office has no account here. `billing:tax:report` says how much it is.

Numbers of a series have no gaps: a number is given in the transaction that writes what bears it.
Source: EN 16931-1:2017 (business terms BT, rules BR); Directive 2006/112/EC, Articles 219 and 226.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any

import rfc8785
from pydantic import Field
from sqlalchemy import func, select

from gongqi.books.ledger import periods
from gongqi.economy.billing import taxes, vat
from gongqi.economy.billing.addresses import AddressOut, address_of
from gongqi.economy.billing.models import COMMERCIAL, CREDIT_NOTE, BillingAddress, Invoice, Package, Subscription
from gongqi.economy.billing.prices import ID
from gongqi.economy.billing.rules import Included
from gongqi.economy.billing.statements import OneStatement, StatementOut, get_statement
from gongqi.economy.billing.vat import Charge, Kind, Reckoning, Subtotal
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.serving import service as serving

CURRENCIES = {"CNY-fen": "CNY", "USD-cent": "USD"}
SERIES = {COMMERCIAL: "I", CREDIT_NOTE: "C"}  # of a year, such as I2026
CALLS, PACKAGE = "calls", "package"  # what a line is of
ABOUT = ("what", "sold_on", "usable_until", "credit")  # what a line says beside its figures
EVIDENCE = {COMMERCIAL: "billing.invoice-issued", CREDIT_NOTE: "billing.invoice-credited"}
NO_TAX = "Not subject to VAT as far as is known here: no rate has been set."

Told = Mapping[Kind, tuple[str, str | None]]  # of each kind of tax, the article and the rule that chose it
About = Mapping[int, Mapping[str, Any]]  # by position


@dataclass(frozen=True, slots=True)
class _Supply:
    """`amount` booked units for `item` at the moment `at`, with calls of `routes` in it (None: all); `about` of the line."""

    receiver: str
    item: str
    amount: int
    at: datetime
    routes: Sequence[str] | None
    about: Mapping[str, Any]


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
    """`what`: calls of the model `item`, or the package of that name, of whose sale the last three speak: `credit` booked
    units for calls until `usable_until`."""

    position: int
    receiver: str
    item: str
    amount: int
    net: int
    category: str
    rate_bp: int
    what: str = CALLS
    sold_on: date | None = None
    usable_until: date | None = None
    credit: int | None = None


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
    """`since` and `last`: days of the span. `included`: calls that packages paid for, for which nothing is owed.
    `corrects_number`, `corrects_on`: of the invoice that is corrected; `returned_on`: the day at which the ledger gave it
    back."""

    seller: AddressOut
    buyer: AddressOut
    since: date
    last: date
    lines: list[LineOut]
    subtotals: list[SubtotalOut]
    included: list[Included] = Field([])
    reason: str | None
    corrects_number: str | None
    corrects_on: date | None
    returned_on: date | None

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
    if not statement.invoiced:
        raise Refused("billing.nothing-charged", month=statement.month)
    issued = issued_for(ctx, statement.org, statement.month, statement.unit)
    if issued is not None:
        raise Refused("billing.invoice-issued", number=issued.number)
    seller, buyer = address_of(ctx, members.foundation(ctx)), address_of(ctx, statement.org)
    supplies = _supplies(ctx, statement)
    charges, told = _charges(ctx, supplies, seller, buyer)
    reckoned = vat.reckon(charges)
    assert reckoned.total == statement.invoiced, "an invoice is what the ledger moved"
    content = content_of(reckoned, told, {at: each.about for at, each in enumerate(supplies, 1)}) | {
        "seller": AddressOut.model_validate(seller).model_dump(), "buyer": AddressOut.model_validate(buyer).model_dump(),
        "since": statement.since.date().isoformat(),
        "last": (statement.until - timedelta(days=1)).date().isoformat(),
        "included": [asdict(each) for each in statement.included],
    }  # fmt: skip
    row = Invoice(id=ctx.new_id("inv"), org=statement.org, month=statement.month, unit=statement.unit, part=0)
    made = write_down(ctx, row, reckoned, content)
    for subscription, _ in _sold(ctx, statement):
        subscription.invoice = row.id
    ctx.session.flush()
    return made


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


def content_of(reckoned: Reckoning, told: Told, about: About) -> dict[str, Any]:
    """Lines and subtotals, as they are kept."""
    lines = [
        {
            "position": each.position, "receiver": each.receiver, "item": each.item, "amount": each.amount, "net": each.net,
            "category": each.kind[0], "rate_bp": each.kind[1], **about.get(each.position, {}),
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
    told = sealed | {"content_sha256": digest}
    row.evidence = ctx.record(row.id, kind=EVIDENCE[row.type_code], withhold=True, private=told, number=row.number)
    ctx.add(row)
    ctx.session.flush()
    return shown(row)


def shown(row: Invoice) -> InvoiceOut:
    told = row.content
    heads = {name: getattr(row, name) for name in InvoiceRow.model_fields}
    more = {name: told.get(name) for name in ("reason", "corrects_number", "corrects_on", "returned_on")}
    return InvoiceOut.model_validate(heads | told | more)


def _sold(ctx: Read, statement: StatementOut) -> list[tuple[Subscription, Package]]:
    """The packages that the statement says were paid for in its month."""
    paid = sorted(each.subscription for each in statement.packages if each.paid)
    query = select(Subscription, Package).join(Package, Package.id == Subscription.package)
    query = query.where(Subscription.id.in_(paid)).order_by(Subscription.since, Subscription.id)
    return [(row, package) for row, package in ctx.session.execute(query)]


def _supplies(ctx: Read, statement: StatementOut) -> list[_Supply]:
    """Calls at the last moment of the month, packages at that of their sale."""
    paid = periods.paid(ctx, statement.org, statement.unit, statement.since, statement.until)
    names, last = serving.names_of(ctx, paid), statement.until - timedelta(microseconds=1)
    calls = [
        _Supply(receiver, names.get(receiver, receiver), amount, last, [receiver], {"what": CALLS})
        for receiver, amount in sorted(paid.items())
    ]
    packages = []
    for row, package in _sold(ctx, statement):
        about = {
            "what": PACKAGE, "credit": row.credit, "sold_on": row.since.date().isoformat(),
            "usable_until": (row.since + timedelta(days=package.days)).date().isoformat(),
        }  # fmt: skip
        packages.append(_Supply(row.id, package.name, row.price, row.since, package.routes, about))
    return [*calls, *packages]


def _charges(
    ctx: Read, supplies: list[_Supply], seller: BillingAddress, buyer: BillingAddress
) -> tuple[list[Charge], Told]:
    """In their order, each with the kind of tax that held at its moment."""
    rules = taxes.rules_of(ctx, seller)
    charges: list[Charge] = []
    told: dict[Kind, tuple[str, str | None]] = {}
    for position, each in enumerate(supplies, 1):
        kind, why = (vat.OUTSIDE, 0), (NO_TAX, None)
        if in_force := taxes.in_force(rules, each.at):
            rule = taxes.chosen(in_force, buyer, each.routes, each.item)
            kind, why = (rule.category, rule.rate_bp), (rule.article, rule.id)
        told.setdefault(kind, why)
        charges.append(Charge(position, each.receiver, each.item, each.amount, kind))
    _check_parties(told, seller, buyer)
    return charges, told


def _check_parties(told: Told, seller: BillingAddress, buyer: BillingAddress) -> None:
    """What the categories want of the invoice and of the parties' numbers."""
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
