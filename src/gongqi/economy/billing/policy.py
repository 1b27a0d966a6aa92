"""Who sees what in billing: prices are public, every version of them."""

from __future__ import annotations

from gongqi.economy.billing.models import Price
from gongqi.kernel.access import Policy, everyone

POLICIES = (Policy(Price, read="billing:price:read", rules={"billing:price:read": everyone}),)
