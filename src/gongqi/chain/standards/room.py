"""The registration of standards."""

from pathlib import Path

from gongqi.chain.standards import documents, flows, previews, proofs, service
from gongqi.chain.standards.api import ENDPOINTS
from gongqi.chain.standards.pages import PANELS, VIEWS
from gongqi.kernel.events import Handler
from gongqi.kernel.room import Figure, Room
from gongqi.resources.hub.events import ReleasePublished, RevisionCommitted

ROOM = Room(
    name="standards",
    folder=Path(__file__).parent,
    reads=(
        service.list_rules,
        proofs.show_proof,
        previews.list_tables,
        previews.preview,
        previews.compare_tables,
        previews.show_description,
    ),
    handlers=(
        Handler(ReleasePublished, documents.DESCRIBE, documents.on_published),
        Handler(RevisionCommitted, flows.READ, flows.on_committed),
    ),
    flows=flows.FLOWS,
    schedules=flows.SCHEDULES,
    views=VIEWS,
    panels=PANELS,
    endpoints=ENDPOINTS,
    figures=(Figure("standards.rules", "/standards", service.rule_count),),
)
