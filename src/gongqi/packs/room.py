"""The registration of packs."""

from __future__ import annotations

from pathlib import Path

from gongqi.kernel.gates import Answerer
from gongqi.kernel.room import Room
from gongqi.packs import service
from gongqi.packs.pages import PANELS, VIEWS
from gongqi.packs.policy import POLICIES
from gongqi.resources.serving.gates import CALL_FORWARD

ROOM = Room(
    name="packs",
    folder=Path(__file__).parent,
    verbs=(service.load_pack, service.unload_pack),
    reads=(service.list_packs, service.list_shelf, service.ask_rules),
    policies=POLICIES,
    answerers=(Answerer(CALL_FORWARD, service.ANSWERER, service.answer_crossing),),
    views=VIEWS,
    panels=PANELS,
)
