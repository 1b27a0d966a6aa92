"""The registration of standards."""

from pathlib import Path

from gongqi.chain.standards import documents, proofs, service
from gongqi.chain.standards.api import ENDPOINTS
from gongqi.chain.standards.flows import FLOWS, SCHEDULES
from gongqi.chain.standards.pages import PANELS, VIEWS
from gongqi.kernel.events import Handler
from gongqi.kernel.room import Figure, Room
from gongqi.resources.hub.events import ReleasePublished

ROOM = Room(
    name="standards",
    folder=Path(__file__).parent,
    reads=(service.list_rules, proofs.show_proof),
    handlers=(Handler(ReleasePublished, documents.DESCRIBE, documents.on_published),),
    flows=FLOWS,
    schedules=SCHEDULES,
    views=VIEWS,
    panels=PANELS,
    endpoints=ENDPOINTS,
    figures=(Figure("standards.rules", "/standards", service.rule_count),),
)
