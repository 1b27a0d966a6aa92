"""The pages of serving: what is served at what price, one deployment and what the reader may see of its use, one call;
the models of the gateway, each with its last day; the latest calls of all; and the engines of this home."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from itertools import accumulate
from statistics import median
from typing import Any

from gongqi.books.ledger.rules import written
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read
from gongqi.resources.serving import service
from gongqi.resources.serving.drift import ListDrift, list_drift
from gongqi.resources.serving.drifting import STREAMS
from gongqi.resources.serving.feedback import ListFeedback, list_feedback
from gongqi.resources.serving.hosted import ListEngines, list_engines
from gongqi.resources.serving.keys import ListKeys, list_keys
from gongqi.resources.serving.metering import exact
from gongqi.resources.serving.rollouts import (
    CLIMBING,
    HELD,
    ListRollouts,
    OneRollout,
    get_rollout,
    list_rollouts,
)
from gongqi.resources.serving.routes import ListRoutes, OneRoute, get_route, list_routes
from gongqi.resources.serving.shadows import ListShadows, OneShadow, get_shadow, list_shadows
from gongqi.resources.serving.tail import COLUMNS, latest
from gongqi.resources.serving.usage import ListUsage, list_usage
from gongqi.resources.serving.watch import PARTS, day_of

PAGE = 30
RECENT = 100  # calls in the picture
FOLLOW_SECONDS = 3  # between two looks of a page that follows; the books lag by one
LISTED = 20  # calls in the table of the page
_OPEN = ("serving:rollout:complete", "serving:rollout:rollback")
NEXT = {CLIMBING: ("serving:rollout:hold", *_OPEN), HELD: ("serving:rollout:resume", *_OPEN)}  # of an open roll-out
TRIED_TOKENS = 256  # of an answer, until the reader asks for more


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
        "per_million": _per_million,
        "exact": exact,
        "base_url": f"{ctx.kernel.settings.origin}/v1",
        "may_follow": not ctx.actor.is_anonymous,
        "may_see_engines": ctx.actor.may("serving:engine:list"),
    }


def load_model(ctx: Read, key: str) -> dict[str, Any]:
    """One model: what it is, and of its calls in the last day, and of what was said of them, what the reader may see."""
    day = day_of(ctx, key)
    return {
        "route": get_route.run(ctx, OneRoute(route=key)),
        "day": day,
        "parts": PARTS,
        "bins": [(at.timestamp(), at.timestamp() + 3600, calls) for at, calls, *_ in day.hours],
        "calls": list_usage.run(ctx, ListUsage.model_validate({"route": key, "limit": LISTED})).items,
        "drifts": list_drift.run(ctx, ListDrift.model_validate({"route": key, "limit": LISTED})).items,
        "figure": partial(_figure, ctx),
        "said": list_feedback.run(ctx, ListFeedback.model_validate({"route": key, "limit": LISTED})).items,
        "hour_of": lambda seconds: f"{datetime.fromtimestamp(seconds, UTC):%m-%d %H:%M}",
        "per_million": _per_million,
        "exact": exact,
    } | _tried(ctx, key)


def _tried(ctx: Read, route: str) -> dict[str, Any]:
    """What is tried behind the model's name, for those who run it, and the verbs that they may use on it now."""
    rolled = list_rollouts.run(ctx, ListRollouts.model_validate({"route": route, "limit": LISTED})).items
    mirrored = list_shadows.run(ctx, ListShadows.model_validate({"route": route, "limit": 1})).items
    rollout = get_rollout.run(ctx, OneRollout(rollout=rolled[0].id)) if rolled else None
    shadow = get_shadow.run(ctx, OneShadow(shadow=mirrored[0].id)) if mirrored else None
    verbs = list(NEXT.get(rollout.state if rollout else "", ("serving:rollout:begin",)))
    mirrors = shadow is not None and shadow.ended_at is None
    if not mirrors:
        verbs.append("serving:shadow:begin")
    return {
        "rollout": rollout,
        "earlier_rollouts": rolled[1:],
        "rollout_actions": [verb for verb in verbs if ctx.actor.may(verb)],
        "shadow": shadow,
        "shadow_actions": [verb for verb in ("serving:shadow:end",) if mirrors and ctx.actor.may(verb)],
    }


def load_try(ctx: Read, key: str) -> dict[str, Any]:
    """A model to be talked to, with the reader's own key; what is asked goes from their browser to `/v1`.

    Raises Refused serving.kind-differs for one that takes tensors."""
    route = get_route.run(ctx, OneRoute(route=key))
    if route.kind == "inference":
        raise Refused("serving.kind-differs", model=route.name, kind=route.kind)
    return {
        "route": route,
        "base_url": f"{ctx.kernel.settings.origin}/v1",
        "tried_tokens": TRIED_TOKENS,
    }


def load_model_calls(ctx: Read, key: str) -> dict[str, Any]:
    """The latest calls of a model that the reader may see, to be followed."""
    return {
        "route": get_route.run(ctx, OneRoute(route=key)),
        "calls": list_usage.run(ctx, ListUsage.model_validate({"route": key, "limit": PAGE})).items,
        "seconds": FOLLOW_SECONDS,
        "exact": exact,
    }


def load_tail(ctx: Read) -> dict[str, Any]:
    """The latest calls of all models that the reader may see; `following` goes on from there."""
    return {"calls": latest(ctx), "names": COLUMNS}


def load_engines(ctx: Read) -> dict[str, Any]:
    """The models that this home runs itself, as they are now."""
    return {"engines": list_engines.run(ctx, ListEngines()).items, "seconds": FOLLOW_SECONDS}


def _figure(ctx: Read, stream: str, figure: int) -> str:
    """A figure of a stream, with its unit."""
    if STREAMS[stream].is_share:
        return f"{figure / 10_000:.1f}%"
    if stream == "latency":
        return ctx.text("serving.latency.ms", ms=round(figure / 1000, 1))
    return ctx.text("serving.drift.tokens", count=figure)


def _per_million(nanos: int, unit: str) -> str:
    return exact(nanos * 10**6, unit)


VIEWS = (
    View("/serving", "serving_list.html", load_deployments, params=("cursor",)),
    View("/serving/models", "serving_models.html", load_models, params=("cursor",)),
    View("/serving/tail", "serving_tail.html", load_tail),
    View("/serving/engines", "serving_engines.html", load_engines),
    View("/serving/model/{key}", "serving_model.html", load_model, id_prefix="mrt"),
    View("/serving/model/{key}/calls", "serving_model_calls.html", load_model_calls),
    View("/serving/model/{key}/try", "serving_try.html", load_try),
    View("/serving/deployment/{key}", "serving_deployment.html", load_deployment, id_prefix="dep"),
    View("/serving/call/{key}", "serving_call.html", load_call, id_prefix="call"),
)
