"""The page of scenarios: each deployment's agreement and what came back under it, and the returns into datasets; and what
the page of a model says of feedback on it."""

from __future__ import annotations

from typing import Any

from gongqi.chain.scenarios import gathering, service
from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import MAX_PAGE, Read
from gongqi.resources.serving import service as serving

PAGE = 30


def load_scenarios(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    deployments = serving.list_deployments.run(
        ctx, serving.ListDeployments.model_validate({"limit": PAGE, "cursor": cursor})
    )
    signatures = service.list_signatures.run(ctx, service.ListSignatures.model_validate({"limit": MAX_PAGE})).items
    signed: dict[str, list[str]] = {}
    for each in signatures:
        signed.setdefault(each.deployment, []).append(each.org)
    verbs = ("scenarios:agreement:sign", "scenarios:outcome:report", "scenarios:return:start")
    return {
        "page": deployments,
        "signed": signed,
        "totals": {each.id: service.outcome_totals(ctx, each.id) for each in deployments.items},
        "actions": [verb for verb in verbs if ctx.actor.may_somewhere(verb)],
        "returns": service.list_returns.run(ctx, service.ListReturns.model_validate({"limit": PAGE})).items,
    }


def load_model_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    """What the page of a model says of its feedback: how much there is, and the gatherings that the reader may see."""
    route = serving.route_facts(ctx, key)
    if route.agreement is None:
        return None
    return {
        "route": route.id,
        "totals": serving.feedback_totals(ctx, key),
        "gatherings": gathering.list_gatherings.run(
            ctx, gathering.ListGatherings.model_validate({"route": key, "limit": PAGE})
        ).items,
        "may_gather": ctx.actor.may(gathering.GATHER, route.org),
    }


VIEWS = (View("/scenarios", "scenarios_list.html", load_scenarios, params=("cursor",)),)
PANELS = (Panel("serving_model.html", "scenarios_model_panel.html", load_model_panel),)
