"""Serving's registration."""

from pathlib import Path

from gongqi.kernel.events import Handler
from gongqi.kernel.room import Figure, Room
from gongqi.resources.hub.events import ReleaseWithdrawn
from gongqi.resources.serving import (
    caching,
    drift,
    endpoints,
    feedback,
    hosted,
    keys,
    rollouts,
    routes,
    service,
    shadows,
    usage,
)
from gongqi.resources.serving.api import ENDPOINTS
from gongqi.resources.serving.events import DriftFound
from gongqi.resources.serving.flows import FLOWS, SCHEDULES
from gongqi.resources.serving.gates import CALL_FORWARD
from gongqi.resources.serving.pages import VIEWS
from gongqi.resources.serving.policy import POLICIES

GATEWAY_VERBS = (
    endpoints.add_endpoint,
    endpoints.retire_endpoint,
    hosted.host_endpoint,
    routes.define_route,
    routes.retire_route,
    rollouts.begin_rollout,
    rollouts.hold_rollout,
    rollouts.resume_rollout,
    rollouts.complete_rollout,
    rollouts.roll_rollout_back,
    shadows.begin_shadow,
    shadows.end_shadow,
    keys.issue_key,
    keys.revoke_key,
    caching.forget,
    feedback.withdraw,
)
GATEWAY_READS = (
    endpoints.list_endpoints,
    endpoints.get_endpoint,
    hosted.list_engines,
    routes.list_routes,
    routes.get_route,
    routes.get_targets,
    rollouts.list_rollouts,
    rollouts.get_rollout,
    shadows.list_shadows,
    shadows.get_shadow,
    keys.list_keys,
    keys.get_key,
    usage.list_usage,
    usage.get_usage,
    feedback.list_feedback,
    feedback.get_feedback,
    drift.list_drift,
    drift.get_drift,
)

ROOM = Room(
    name="serving",
    folder=Path(__file__).parent,
    verbs=(service.create, service.upgrade, service.reprice, service.retire, service.set_budget, *GATEWAY_VERBS),
    reads=(
        service.list_deployments,
        service.get_deployment,
        service.list_budgets,
        service.list_calls,
        service.get_call,
        service.get_receipt,
        *GATEWAY_READS,
    ),
    policies=POLICIES,
    gates=(CALL_FORWARD,),
    handlers=(
        Handler(ReleaseWithdrawn, "serving.retire-withdrawn", service.retire_withdrawn),
        Handler(ReleaseWithdrawn, "serving.retire-hosted", hosted.retire_hosted),
        Handler(ReleaseWithdrawn, "serving.end-withdrawn", shadows.end_withdrawn),
        Handler(DriftFound, "serving.roll-back-on-drift", rollouts.roll_back_on_drift),
    ),
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
