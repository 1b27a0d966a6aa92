"""Serving's registration."""

from pathlib import Path

from gongqi.kernel.events import Handler
from gongqi.kernel.room import Figure, Room
from gongqi.resources.hub.events import ReleaseWithdrawn
from gongqi.resources.serving import service
from gongqi.resources.serving.api import ENDPOINTS
from gongqi.resources.serving.flows import FLOWS, SCHEDULES
from gongqi.resources.serving.pages import VIEWS
from gongqi.resources.serving.policy import POLICIES

ROOM = Room(
    name="serving",
    folder=Path(__file__).parent,
    verbs=(service.create, service.upgrade, service.reprice, service.retire, service.set_budget),
    reads=(
        service.list_deployments,
        service.get_deployment,
        service.list_budgets,
        service.list_calls,
        service.get_call,
        service.get_receipt,
    ),
    policies=POLICIES,
    handlers=(Handler(ReleaseWithdrawn, "serving.retire-withdrawn", service.retire_withdrawn),),
    flows=FLOWS,
    schedules=SCHEDULES,
    views=VIEWS,
    endpoints=ENDPOINTS,
    figures=(
        Figure("serving.deployments", "/serving", service.count_deployments),
        Figure("serving.calls", "/serving", lambda ctx: service.totals(ctx)["calls"]),
        Figure("serving.rows", "/serving", lambda ctx: service.totals(ctx)["rows"]),
    ),
)
