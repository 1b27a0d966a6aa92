"""The invoice of a month that is over, as EN 16931 asks for it: a cross-industry invoice of UN/CEFACT (Factur-X).

Its lines are what the ledger was charged, by model; its sum is the statement's, to the unit, and is paid already, because
calls are paid in advance. Names and addresses are what the organisations have set; without them there is no invoice,
rather than one with something made up. **No tax is known here**: the category is O, "not subject to VAT", with the reason
written on the invoice. Who owes tax on these services must say so elsewhere; a rate is never guessed.

Source: EN 16931-1:2017 (business terms BT, rules BR); Factur-X 1.0.07.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from gongqi.economy.billing import rules
from gongqi.economy.billing.models import BillingAddress
from gongqi.economy.billing.prices import ID
from gongqi.economy.billing.statements import OneStatement, StatementOut, get_statement
from gongqi.kernel.errors import Refused
from gongqi.kernel.money import UNITS
from gongqi.kernel.verbs import Input, Output, Read, Write, read, verb
from gongqi.members import service as members

if TYPE_CHECKING:
    from drafthorse.models.document import Document

PROFILE = "urn:cen.eu:en16931:2017"
SCHEMA = "FACTUR-X_EN16931"
COMMERCIAL_INVOICE = "380"  # UNTDID 1001
NOT_SUBJECT = "O"  # UNTDID 5305: outside the scope of tax
NO_TAX = "Not subject to VAT as far as is known here: no rate has been set."
NO_TAX_CODE = "VATEX-EU-O"
ONE = "C62"  # UN/ECE rec. 20: one
CURRENCIES = {"CNY-fen": "CNY", "USD-cent": "USD"}

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]


class SetAddress(Input):
    """`country`: two letters of ISO 3166-1, such as CN."""

    org: str = Field(max_length=ID)
    name: Text
    street: Text
    city: Text
    postcode: Text
    country: str = Field(pattern="^[A-Z]{2}$")


class OneAddress(Input):
    org: str = Field(max_length=ID)


class AddressOut(Output):
    org: str
    name: str
    street: str
    city: str
    postcode: str
    country: str
    version: int


@verb("billing:address:set", evidence="billing.address-set")
def set_address(ctx: Write, input: SetAddress) -> AddressOut:
    """Say under which name and where an organisation is billed."""
    ctx.require("billing:address:set", input.org)
    members.require_organisation(ctx, input.org)
    given = input.model_dump()
    row = ctx.session.get(BillingAddress, input.org)
    if row is None:
        row = ctx.add(BillingAddress(**given))
    else:
        for name, value in given.items():
            setattr(row, name, value)
    ctx.session.flush()
    ctx.record(row.org, private=given)
    return AddressOut.model_validate(row)


@read("billing:address:get")
def get_address(ctx: Read, input: OneAddress) -> AddressOut:
    return AddressOut.model_validate(ctx.find(BillingAddress, input.org, to="billing:address:read"))


@dataclass(frozen=True, slots=True)
class Invoice:
    number: str
    xml: bytes


def invoice(ctx: Read, asked: OneStatement) -> Invoice:
    """Raises Refused: billing.month-not-over, billing.unit-not-money, billing.nothing-charged, billing.address-missing; and
    as the statement."""
    statement = get_statement.run(ctx, asked)
    if statement.unit not in CURRENCIES:
        raise Refused("billing.unit-not-money", unit=statement.unit, known=", ".join(CURRENCIES))
    if not statement.is_over:
        raise Refused("billing.month-not-over", month=statement.month)
    if not statement.charges:
        raise Refused("billing.nothing-charged", month=statement.month)
    seller, buyer = _address(ctx, members.foundation(ctx)), _address(ctx, statement.org)
    number = f"{statement.month}-{statement.unit}-{statement.org}"  # one a month, unit and organisation: never two
    return Invoice(number, _document(number, statement, seller, buyer).serialize(schema=SCHEMA))


def _address(ctx: Read, org: str) -> BillingAddress:
    row = ctx.session.get(BillingAddress, org)  # both parties of an invoice are on it
    if row is None:
        raise Refused("billing.address-missing", org=org)
    return row


def _document(number: str, statement: StatementOut, seller: BillingAddress, buyer: BillingAddress) -> Document:
    from drafthorse.models.accounting import ApplicableTradeTax
    from drafthorse.models.document import Document
    from drafthorse.models.note import IncludedNote

    made = Document()
    made.context.guideline_parameter.id = PROFILE
    made.header.id = number
    made.header.type_code = COMMERCIAL_INVOICE
    made.header.issue_date_time = statement.until.date()
    note = IncludedNote()
    note.content = f"Paid in advance; charged in the ledger in {statement.month} (UTC)."
    made.header.notes.add(note)
    for party, row in ((made.trade.agreement.seller, seller), (made.trade.agreement.buyer, buyer)):
        party.id = row.org
        party.name = row.name
        party.address.postcode, party.address.line_one = row.postcode, row.street
        party.address.city_name, party.address.country_id = row.city, row.country
    settled = made.trade.settlement
    settled.currency_code = CURRENCIES[statement.unit]
    settled.period.start = statement.since.date()
    settled.period.end = (statement.until - timedelta(days=1)).date()
    charges = [each for each in statement.movements if each.kind == rules.CHARGED]
    for position, each in enumerate(charges, 1):
        made.trade.items.add(_line(position, each.item, _money(-each.amount, statement.unit)))
    total = _money(statement.charges, statement.unit)
    tax = ApplicableTradeTax()
    tax.calculated_amount, tax.basis_amount = Decimal(0), total
    tax.type_code, tax.category_code = "VAT", NOT_SUBJECT
    tax.exemption_reason, tax.exemption_reason_code = NO_TAX, NO_TAX_CODE
    settled.trade_tax.add(tax)
    sums = settled.monetary_summation
    sums.line_total = sums.grand_total = sums.prepaid_total = total
    sums.tax_basis_total, sums.due_amount = total, Decimal(0)
    return made


def _line(position: int, model: str, amount: Decimal) -> object:
    from drafthorse.models.tradelines import LineItem

    item = LineItem()
    item.document.line_id = str(position)
    item.product.name = f"Calls of {model}"
    item.agreement.net.amount = amount
    item.delivery.billed_quantity = (Decimal(1), ONE)
    item.settlement.trade_tax.type_code = "VAT"
    item.settlement.trade_tax.category_code = NOT_SUBJECT
    item.settlement.monetary_summation.total_amount = amount
    return item


def _money(amount: int, unit: str) -> Decimal:
    return Decimal(amount).scaleb(-UNITS[unit].decimals)
