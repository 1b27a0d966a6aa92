"""The pages of serving: what is served at what price, one deployment and what the reader may see of its use, one call;
and the models of the gateway."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from statistics import median
from typing import Any

from gongqi.books.ledger.rules import written
from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read
from gongqi.resources.serving import service
from gongqi.resources.serving.keys import ListKeys, list_keys
from gongqi.resources.serving.metering import exact
from gongqi.resources.serving.routes import ListRoutes, list_routes
from gongqi.resources.serving.usage import ListUsage, list_usage

PAGE = 30
RECENT = 100  # calls in the picture
LISTED = 20  # calls in the table of the page


def load_deployments(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    given = {"limit": PAGE, "cursor": cursor}
    return {"page": service.list_deployments.run(ctx, service.ListDeployments.model_validate(given))}


def load_deployment(ctx: Read, key: str) -> dict[str, Any]:
    deployment = service.get_deployment.run(ctx, service.OneDeployment(deployment=key))
    calls = service.list_calls.run(ctx, service.ListCalls.model_validate({"deployment": key, "limit": RECENT})).items
    settled = sorted((call for call in calls if call.state == "settled"), key=lambda call: (call.ended_at, call.id))
    sums = accumulate(call.fee for call in settled)
    budgets = service.ListBudgets.model_validate({"deployment": key, "limit": PAGE})
    return {
        "deployment": deployment,
        "totals": service.totals(ctx, key),
        "latency_ms": round(median(call.latency_us or 0 for call in settled) / 1000, 1) if settled else None,
        "calls": calls[:LISTED],
        "points": [(call.ended_at, total) for call, total in zip(settled, sums, strict=True)],
        "write": partial(written, unit=deployment.unit),
        "budgets": service.list_budgets.run(ctx, budgets).items,
        "actions": service.actions(ctx, key),
    }


def load_call(ctx: Read, key: str) -> dict[str, Any]:
    call = service.get_call.run(ctx, service.OneCall(call=key))
    return {
        "call": call,
        "deployment": service.deployment_facts(ctx, call.deployment),
        "receipt": service.get_receipt.run(ctx, service.OneCall(call=key)) if call.evidence else None,
    }


def load_models(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    """What can be called by a client of OpenAI's, at which price; and of keys and calls what the reader may see."""
    asked = {"limit": PAGE, "cursor": cursor, "state": "ready"}
    keys = list_keys.run(ctx, ListKeys.model_validate({"limit": LISTED}))
    return {
        "page": list_routes.run(ctx, ListRoutes.model_validate(asked)),
        "keys": keys.items,
        "calls": list_usage.run(ctx, ListUsage.model_validate({"limit": LISTED})).items,
        "per_million": lambda nanos, unit: exact(nanos * 10**6, unit),
        "exact": exact,
        "base_url": f"{ctx.kernel.settings.origin}/v1",
    }


VIEWS = (
    View("/serving", "serving_list.html", load_deployments, params=("cursor",)),
    View("/serving/models", "serving_models.html", load_models, params=("cursor",)),
    View("/serving/deployment/{key}", "serving_deployment.html", load_deployment, id_prefix="dep"),
    View("/serving/call/{key}", "serving_call.html", load_call, id_prefix="call"),
)
