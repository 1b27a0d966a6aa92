"""The compliance room's registration. It has no verbs: what it says follows from the release and the rules in force."""

from __future__ import annotations

from pathlib import Path

from gongqi.governance.compliance import service
from gongqi.governance.compliance.pages import VIEWS
from gongqi.kernel.events import Handler
from gongqi.kernel.gates import Answerer
from gongqi.kernel.room import Room
from gongqi.resources.hub.events import ReleasePublished, ReleaseWithdrawn
from gongqi.resources.hub.gates import RELEASE_PUBLISH

ROOM = Room(
    name="compliance",
    folder=Path(__file__).parent,
    reads=(service.show_verdict,),
    answerers=(
        Answerer(RELEASE_PUBLISH, service.LICENCE, service.answer_licence),
        Answerer(RELEASE_PUBLISH, service.CARD, service.answer_card),
        Answerer(RELEASE_PUBLISH, service.OPENNESS, service.answer_openness),
    ),
    handlers=(
        Handler(ReleasePublished, "compliance.openness-published", service.tell_openness),
        Handler(ReleaseWithdrawn, "compliance.openness-withdrawn", service.tell_openness),
    ),
    views=VIEWS,
)
