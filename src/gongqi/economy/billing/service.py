"""Billing's verbs and reads, by idea: `prices` (what a model's tokens cost) → `aid` (funds that pay a part of it)."""

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
from gongqi.economy.billing.prices import get_price, list_prices, publish_price

__all__ = [
    "ListAid",
    "ListFunds",
    "end_aid",
    "get_fund",
    "get_price",
    "give_to_fund",
    "grant_aid",
    "list_aid",
    "list_funds",
    "list_prices",
    "open_fund",
    "publish_price",
]
