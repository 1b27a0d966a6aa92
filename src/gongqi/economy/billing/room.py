"""The registration of billing."""

from pathlib import Path

from gongqi.economy.billing import service
from gongqi.economy.billing.api import ENDPOINTS
from gongqi.economy.billing.flows import FLOWS, SCHEDULES
from gongqi.economy.billing.pages import PANELS, VIEWS
from gongqi.economy.billing.policy import POLICIES
from gongqi.kernel.room import Room

ROOM = Room(
    name="billing",
    folder=Path(__file__).parent,
    verbs=(
        service.publish_price,
        service.open_fund,
        service.give_to_fund,
        service.grant_aid,
        service.end_aid,
        service.publish_package,
        service.withdraw_package,
        service.start_subscription,
        service.end_subscription,
        service.set_address,
        service.publish_tax,
        service.end_tax,
        service.issue_invoice,
        service.credit_invoice,
    ),
    reads=(
        service.list_prices,
        service.get_price,
        service.list_funds,
        service.get_fund,
        service.list_aid,
        service.list_packages,
        service.list_subscriptions,
        service.get_statement,
        service.get_address,
        service.list_taxes,
        service.list_invoices,
        service.get_invoice,
        service.report_tax,
    ),
    policies=POLICIES,
    flows=FLOWS,
    schedules=SCHEDULES,
    views=VIEWS,
    panels=PANELS,
    endpoints=ENDPOINTS,
)
