"""The page of scenarios: each deployment's agreement and what came back under it, and the returns into datasets."""

from __future__ import annotations

from typing import Any

from gongqi.chain.scenarios import service
from gongqi.kernel.room import View
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


VIEWS = (View("/scenarios", "scenarios_list.html", load_scenarios, params=("cursor",)),)
