"""Billing's verbs and reads, by idea: `prices` (what a model's tokens cost) → `aid` (funds that pay a part of it)
→ `packages` (credit bought beforehand) → `statements` (what a month came to) → `invoices`."""

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

__all__ = [
    "UNIT",
    "ListAid",
    "ListFunds",
    "ListPackages",
    "ListSubscriptions",
    "OneStatement",
    "StatementOut",
    "as_csv",
    "asked",
    "end_aid",
    "end_over",
    "end_subscription",
    "get_address",
    "get_fund",
    "get_price",
    "get_statement",
    "give_back",
    "give_to_fund",
    "grant_aid",
    "invoice",
    "list_aid",
    "list_funds",
    "list_packages",
    "list_prices",
    "list_subscriptions",
    "open_fund",
    "publish_package",
    "publish_price",
    "set_address",
    "start_subscription",
    "withdraw_package",
]
