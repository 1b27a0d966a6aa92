"""Billing's verbs and reads, by idea: `prices` (what a model's tokens cost) → `aid` (funds that pay a part of it)
→ `packages` (credit bought beforehand) → `statements` (what a month came to) → `invoices` (with the tax of `taxes`, reckoned
by `vat`, between `addresses`, in the form of `facturx`) → `credit_notes`."""

from gongqi.economy.billing.addresses import get_address, set_address
from gongqi.economy.billing.aid import (
    ListAid,
    ListFunds,
    end_aid,
    get_fund,
    give_to_fund,
    grant_aid,
    list_aid,
    list_funds,
    open_fund,
)
from gongqi.economy.billing.credit_notes import credit_invoice, credit_returned, report_tax
from gongqi.economy.billing.facturx import notes, percent, xml
from gongqi.economy.billing.invoices import (
    CURRENCIES,
    PACKAGE,
    ListInvoices,
    OneInvoice,
    get_invoice,
    invoice_of,
    issue_invoice,
    issued_for,
    list_invoices,
)
from gongqi.economy.billing.packages import (
    ListPackages,
    ListSubscriptions,
    end_over,
    end_subscription,
    give_back,
    list_packages,
    list_subscriptions,
    publish_package,
    start_subscription,
    withdraw_package,
)
from gongqi.economy.billing.prices import get_price, list_prices, publish_price
from gongqi.economy.billing.statements import UNIT, OneStatement, StatementOut, as_csv, asked, get_statement
from gongqi.economy.billing.taxes import ListTaxes, end_tax, list_taxes, publish_tax

__all__ = [
    "CURRENCIES",
    "PACKAGE",
    "UNIT",
    "ListAid",
    "ListFunds",
    "ListInvoices",
    "ListPackages",
    "ListSubscriptions",
    "ListTaxes",
    "OneInvoice",
    "OneStatement",
    "StatementOut",
    "as_csv",
    "asked",
    "credit_invoice",
    "credit_returned",
    "end_aid",
    "end_over",
    "end_subscription",
    "end_tax",
    "get_address",
    "get_fund",
    "get_invoice",
    "get_price",
    "get_statement",
    "give_back",
    "give_to_fund",
    "grant_aid",
    "invoice_of",
    "issue_invoice",
    "issued_for",
    "list_aid",
    "list_funds",
    "list_invoices",
    "list_packages",
    "list_prices",
    "list_subscriptions",
    "list_taxes",
    "notes",
    "open_fund",
    "percent",
    "publish_package",
    "publish_price",
    "publish_tax",
    "report_tax",
    "set_address",
    "start_subscription",
    "withdraw_package",
    "xml",
]
