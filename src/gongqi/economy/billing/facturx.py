"""An invoice or a credit note as EN 16931 asks for it: a cross-industry invoice of UN/CEFACT, in the profile of Factur-X.

Nothing is reckoned here. What was issued is put into the form, so that asked again it is the same to the byte. Amounts of a
credit note are positive: its type says which way they go.

Source: EN 16931-1:2017; Factur-X 1.0.07.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gongqi.economy.billing import vat
from gongqi.economy.billing.addresses import AddressOut
from gongqi.economy.billing.invoices import CURRENCIES, PACKAGE, InvoiceOut, LineOut, SubtotalOut
from gongqi.economy.billing.models import CREDIT_NOTE
from gongqi.kernel.money import UNITS

if TYPE_CHECKING:
    from drafthorse.models.document import Document

PROFILE = "urn:cen.eu:en16931:2017"
SCHEMA = "FACTUR-X_EN16931"
ONE = "C62"  # UN/ECE rec. 20: one
VAT_ID = "VA"  # UNTDID 1153: a registration for VAT
PAID = "Paid in advance; charged in the ledger in {month} (UTC)."
CREDIT = "Credit of {amount} {currency} for calls, sold on {sold_on}, to be used by {until} (UTC)."
SOLD = "A package is invoiced in the month in which it was sold. Calls that it pays for are not charged again."
INCLUDED = "Included in the package {package}, and not charged: calls of {model} for {amount} {currency}."
GIVEN_BACK = "Given back in the ledger on {day} (UTC). Reason: {reason}"
NO_FAPIAO = (  # in China an invoice for tax is made by the tax authority's system alone
    "本文件不是税务发票。发票须经税务机关的系统开具。"
    "This document is no fapiao, which only the tax authority's system issues."
)


def xml(invoice: InvoiceOut) -> bytes:
    return _document(invoice).serialize(schema=SCHEMA)


def _document(invoice: InvoiceOut) -> Document:
    from drafthorse.models.document import Document
    from drafthorse.models.note import IncludedNote

    made = Document()
    made.context.guideline_parameter.id = PROFILE
    made.header.id = invoice.number
    made.header.type_code = invoice.type_code
    made.header.issue_date_time = invoice.issued_at.date()
    for text in notes(invoice):
        note = IncludedNote()
        note.content = text
        made.header.notes.add(note)
    is_outside = any(each.category == vat.OUTSIDE for each in invoice.subtotals)
    agreement = made.trade.agreement
    for party, who in ((agreement.seller, invoice.seller), (agreement.buyer, invoice.buyer)):
        _put_party(party, who, with_vat_id=not is_outside)  # BR-O-02: no tax number where no tax is
    made.trade.delivery.event.occurrence = invoice.last
    if any(each.category == vat.UNION for each in invoice.subtotals):
        made.trade.delivery.ship_to.address.country_id = invoice.buyer.country  # BR-IC-12
    for line in invoice.lines:
        made.trade.items.add(_line(line, invoice.unit))
    _put_settlement(made.trade.settlement, invoice)
    return made


def notes(invoice: InvoiceOut) -> list[str]:
    """What is said beside the figures."""
    if invoice.type_code == CREDIT_NOTE:
        said = [GIVEN_BACK.format(day=invoice.returned_on or invoice.issued_at.date(), reason=invoice.reason)]
    else:
        said = [PAID.format(month=invoice.month)]
        if invoice.included or any(line.what == PACKAGE for line in invoice.lines):
            said.append(SOLD)
        for each in invoice.included:
            amount, currency = _money(each.amount, invoice.unit), CURRENCIES[invoice.unit]
            told = {"package": each.package, "model": each.model, "amount": amount, "currency": currency}
            said.append(INCLUDED.format(**told))
    return [*said, NO_FAPIAO] if invoice.seller.country == "CN" else said


def _put_party(party: Any, who: AddressOut, *, with_vat_id: bool) -> None:
    from drafthorse.models.party import TaxRegistration

    party.id = who.org
    party.name = who.name
    party.address.postcode, party.address.line_one = who.postcode, who.street
    party.address.city_name, party.address.country_id = who.city, who.country
    if who.registration is not None:
        party.legal_organization.id = who.registration
    if who.vat_id is not None and with_vat_id:
        registered = TaxRegistration()
        registered.id = (VAT_ID, who.vat_id)
        party.tax_registrations.add(registered)


def _put_settlement(settled: Any, invoice: InvoiceOut) -> None:
    currency = CURRENCIES[invoice.unit]
    settled.currency_code = currency
    settled.period.start, settled.period.end = invoice.since, invoice.last
    for each in invoice.subtotals:
        settled.trade_tax.add(_subtotal(each, invoice.unit))
    if invoice.corrects_number is not None:
        settled.invoice_referenced_document.issuer_assigned_id = invoice.corrects_number
        settled.invoice_referenced_document.issue_date_time = invoice.corrects_on
    sums, unit = settled.monetary_summation, invoice.unit
    sums.line_total = sums.tax_basis_total = _money(invoice.net, unit)
    sums.tax_total = (_money(invoice.tax, unit), currency)
    sums.grand_total = _money(invoice.net + invoice.tax, unit)
    if invoice.rounding:
        sums.rounding_amount = _money(invoice.rounding, unit)
    sums.prepaid_total, sums.due_amount = _money(invoice.amount, unit), _money(0, unit)


def _subtotal(each: SubtotalOut, unit: str) -> object:
    from drafthorse.models.accounting import ApplicableTradeTax

    tax = ApplicableTradeTax()
    tax.calculated_amount, tax.basis_amount = _money(each.tax, unit), _money(each.basis, unit)
    tax.type_code, tax.category_code = "VAT", each.category
    if each.category not in (vat.STANDARD, vat.ZERO):  # BR-S-10, BR-Z-10: there a reason is none
        tax.exemption_reason = each.reason
        if each.category in vat.REASON_CODES:
            tax.exemption_reason_code = vat.REASON_CODES[each.category]
    if each.category != vat.OUTSIDE:
        tax.rate_applicable_percent = percent(each.rate_bp)
    return tax


def _line(line: LineOut, unit: str) -> object:
    from drafthorse.models.tradelines import LineItem

    item = LineItem()
    item.document.line_id = str(line.position)
    item.product.name = f"Calls of {line.item}"
    if line.what == PACKAGE:
        assert line.credit is not None, "a package is of some credit"
        told = {"amount": _money(line.credit, unit), "currency": CURRENCIES[unit]}
        told |= {"sold_on": line.sold_on, "until": line.usable_until}
        item.product.name, item.product.description = f"Package {line.item}", CREDIT.format(**told)
    item.agreement.net.amount = _money(line.net, unit)
    item.delivery.billed_quantity = (Decimal(1), ONE)
    tax = item.settlement.trade_tax
    tax.type_code, tax.category_code = "VAT", line.category
    if line.category != vat.OUTSIDE:
        tax.rate_applicable_percent = percent(line.rate_bp)
    item.settlement.monetary_summation.total_amount = _money(line.net, unit)
    return item


def percent(rate_bp: int) -> Decimal:
    return Decimal(rate_bp).scaleb(-2)


def _money(amount: int, unit: str) -> Decimal:
    return Decimal(amount).scaleb(-UNITS[unit].decimals)
