"""The registration of billing."""

from pathlib import Path

from gongqi.economy.billing import service
from gongqi.economy.billing.policy import POLICIES
from gongqi.kernel.room import Room

ROOM = Room(
    name="billing",
    folder=Path(__file__).parent,
    verbs=(service.publish_price,),
    reads=(service.list_prices, service.get_price),
    policies=POLICIES,
)
