"""Who sees what in billing: prices are public, every version of them; so are funds, packages and the tax table. Aid is known
to who is aided, a subscription to who has it, an invoice to who is billed."""

from __future__ import annotations

from sqlalchemy import ColumnElement, false, true

from gongqi.economy.billing.models import (
    AidFund,
    AidGrant,
    BillingAddress,
    Invoice,
    Package,
    Price,
    Subscription,
    TaxRule,
)
from gongqi.kernel.access import Actor, Policy, everyone, within


def foundation(actor: Actor, permission: str) -> ColumnElement[bool]:
    """All rows, for those who hold the permission foundation-wide."""
    return true() if actor.may(permission) else false()


POLICIES = (
    Policy(Price, read="billing:price:read", rules={"billing:price:read": everyone}),
    Policy(AidFund, read="billing:fund:read", rules={"billing:fund:read": everyone}),
    Policy(
        Package,
        read="billing:package:read",
        rules={"billing:package:read": everyone, "billing:package:withdraw": foundation},
    ),
    Policy(
        Subscription,
        read="billing:subscription:read",
        rules={
            "billing:subscription:read": within(Subscription.org),
            "billing:subscription:end": within(Subscription.org),
        },
    ),
    Policy(
        BillingAddress,
        read="billing:address:read",
        rules={"billing:address:read": within(BillingAddress.org)},
    ),
    Policy(
        TaxRule,
        read="billing:tax:read",
        rules={"billing:tax:read": everyone, "billing:tax:end": foundation},
    ),
    Policy(Invoice, read="billing:invoice:read", rules={"billing:invoice:read": within(Invoice.org)}),
    Policy(
        AidGrant,
        read="billing:aid:read",
        rules={"billing:aid:read": within(AidGrant.org), "billing:aid:end": foundation},
    ),
)
