"""Billing's verbs and reads, by idea: `prices` (what a model's tokens cost) → `aid` (funds that pay a part of it)
→ `statements` (what a month came to) → `invoices`."""

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
from gongqi.economy.billing.invoices import get_address, invoice, set_address
from gongqi.economy.billing.prices import get_price, list_prices, publish_price
from gongqi.economy.billing.statements import UNIT, OneStatement, StatementOut, as_csv, asked, get_statement

__all__ = [
    "UNIT",
    "ListAid",
    "ListFunds",
    "OneStatement",
    "StatementOut",
    "as_csv",
    "asked",
    "end_aid",
    "get_address",
    "get_fund",
    "get_price",
    "get_statement",
    "give_to_fund",
    "grant_aid",
    "invoice",
    "list_aid",
    "list_funds",
    "list_prices",
    "open_fund",
    "publish_price",
    "set_address",
]
