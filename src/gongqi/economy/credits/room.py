"""The registration of credits."""

from pathlib import Path

from gongqi.economy.credits import service
from gongqi.economy.credits.flows import FLOWS
from gongqi.economy.credits.pages import PANELS, VIEWS
from gongqi.economy.credits.policy import POLICIES
from gongqi.kernel.events import Handler
from gongqi.kernel.room import Figure, Room
from gongqi.resources.serving.events import CallSettled

ROOM = Room(
    name="credits",
    folder=Path(__file__).parent,
    verbs=(service.publish_policy,),
    reads=(
        service.list_policies,
        service.get_policy,
        service.list_splits,
        service.get_split,
        service.get_split_receipt,
    ),
    policies=POLICIES,
    handlers=(Handler(CallSettled, "credits.split", service.split_fee),),
    flows=FLOWS,
    views=VIEWS,
    panels=PANELS,
    figures=(
        Figure("credits.splits", "/credits", service.splits_done),
        Figure("credits.paid", "/credits", service.money_divided),
    ),
)
