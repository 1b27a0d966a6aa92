"""Upstream's registration."""

from pathlib import Path

from gongqi.chain.upstream import service
from gongqi.chain.upstream.flows import FLOWS
from gongqi.chain.upstream.imported import answer_import
from gongqi.chain.upstream.pages import FIGURES, PANELS, VIEWS
from gongqi.chain.upstream.pledges import answer_pledges, get_pledge, list_pledges, make_pledge, revoke_pledge
from gongqi.chain.upstream.policy import POLICIES
from gongqi.kernel.gates import Answerer
from gongqi.kernel.room import Room
from gongqi.resources.hub.gates import RELEASE_PUBLISH

ROOM = Room(
    name="upstream",
    folder=Path(__file__).parent,
    verbs=(service.offer, service.accept, service.decline, service.reschedule, make_pledge, revoke_pledge),
    reads=(service.list_donations, service.get_donation, list_pledges, get_pledge),
    policies=POLICIES,
    answerers=(
        Answerer(RELEASE_PUBLISH, "upstream.donation", service.answer_donation),
        Answerer(RELEASE_PUBLISH, "upstream.import", answer_import),
        Answerer(RELEASE_PUBLISH, "upstream.pledge", answer_pledges),
    ),
    flows=FLOWS,
    views=VIEWS,
    panels=PANELS,
    figures=FIGURES,
)
