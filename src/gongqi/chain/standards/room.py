"""The registration of standards."""

from pathlib import Path

from gongqi.chain.standards import service
from gongqi.chain.standards.pages import VIEWS
from gongqi.kernel.room import Figure, Room

ROOM = Room(
    name="standards",
    folder=Path(__file__).parent,
    reads=(service.list_rules,),
    views=VIEWS,
    figures=(Figure("standards.rules", "/standards", service.rule_count),),
)
