"""The registration of scenarios."""

from pathlib import Path

from gongqi.chain.scenarios import gathering, gathering_flows, service
from gongqi.chain.scenarios.flows import FLOWS
from gongqi.chain.scenarios.pages import PANELS, VIEWS
from gongqi.chain.scenarios.policy import POLICIES
from gongqi.kernel.gates import Answerer
from gongqi.kernel.room import Figure, Room
from gongqi.resources.hub.gates import ASSET_OPEN

ROOM = Room(
    name="scenarios",
    folder=Path(__file__).parent,
    verbs=(service.sign, service.report, service.start_return, gathering.gather),
    reads=(
        service.list_signatures,
        service.list_outcomes,
        service.list_returns,
        service.get_return,
        gathering.list_gatherings,
        gathering.get_gathering,
    ),
    policies=POLICIES,
    answerers=(Answerer(ASSET_OPEN, "scenarios.agreement", gathering.answer_opening),),
    flows=(*FLOWS, *gathering_flows.FLOWS),
    schedules=gathering_flows.SCHEDULES,
    views=VIEWS,
    panels=PANELS,
    figures=(Figure("scenarios.outcomes", "/scenarios", lambda ctx: service.outcome_totals(ctx)["reported"]),),
)
