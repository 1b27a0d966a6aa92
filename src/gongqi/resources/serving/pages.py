"""The pages of serving: what is served at what price, one deployment and what the reader may see of its use, one call."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from statistics import median
from typing import Any

from gongqi.books.ledger.rules import written
from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read
from gongqi.resources.serving import service

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


VIEWS = (
    View("/serving", "serving_list.html", load_deployments, params=("cursor",)),
    View("/serving/deployment/{key}", "serving_deployment.html", load_deployment, id_prefix="dep"),
    View("/serving/call/{key}", "serving_call.html", load_call, id_prefix="call"),
)
