"""Registration of the evidence room."""

from __future__ import annotations

from pathlib import Path

from gongqi.books.evidence import service
from gongqi.books.evidence.api import ENDPOINTS
from gongqi.books.evidence.flows import FLOWS
from gongqi.books.evidence.pages import FIGURES, VIEWS
from gongqi.books.evidence.policy import POLICIES
from gongqi.kernel.room import Room

ROOM = Room(
    name="evidence",
    folder=Path(__file__).parent,
    reads=(
        service.list_entries,
        service.get_entry,
        service.prove_entry,
        service.show_checkpoint,
        service.prove_consistency,
        service.show_keys,
        service.get_private,
    ),
    policies=POLICIES,
    flows=FLOWS,
    views=VIEWS,
    endpoints=ENDPOINTS,
    figures=FIGURES,
)
