"""Model routes: the names by which applications ask for models, and where each is answered.

A route has targets in ranks: those of the lowest rank share the calls by weight, the others are asked in turn when they
fail. What a call costs is the route's tariff, whoever answers; it comes down from billing and is kept here as the data
plane goes by it. A route without a tariff is not offered: nobody should call what has no price.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.serving.agreements import (
    TO_IMPROVE,
    Agreement,
    Openness,
    Purpose,
    RetentionDays,
    Terms,
    drawn_up,
)
from gongqi.resources.serving.deployments import servable
from gongqi.resources.serving.endpoints import ID, raise_version, require_fit, version_now
from gongqi.resources.serving.metering import Tariff
from gongqi.resources.serving.models import ModelEndpoint, ModelRoute
from gongqi.resources.serving.plane.inference import TAILS
from gongqi.resources.serving.rollout_models import ModelRollout

ROUTE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$"  # as model names are: `org/model-1.5:latest`
MAX_TARGETS = 16
MAX_CONTEXT = 10_000_000
_TERMS = (
    "agreement_zh", "agreement_en", "purpose", "retention_days", "feedback_visibility", "feedback_names_org",
)  # fmt: skip
_KEPT = ("price", "version", "unit", "input_nanos", "cached_nanos", "output_nanos")  # of a tariff, on its route


class TargetIn(Input):
    """Lower `rank` first; `weight` divides the calls among equals. `model` is its name at that endpoint."""

    endpoint: str = Field(max_length=ID)
    model: str = Field(min_length=1, max_length=200)
    weight: int = Field(1, ge=1, le=1000)
    rank: int = Field(0, ge=0, le=100)


class DefineRoute(Input):
    """`context_tokens` and `output_tokens` bound what a call can cost, which is reserved before it is forwarded. Of the kind
    `inference` the input is rows, of which a call has `context_tokens` at most, and the output is one, for the answer.

    `licence` and `openness` are typed for outside models alone; of a `release` the hub knows them. With an agreement, in
    both languages, callers may send back what they know of answers: it goes to a dataset of `org`, `feedback_visibility`
    open, which says who sent it if `feedback_names_org`. With `has_affinity` calls of one organisation that begin alike go
    to the same of several equal targets, which may remember the prompt.
    """

    name: str = Field(pattern=ROUTE_NAME)
    org: str = Field(max_length=ID)
    kind: str = Field("chat", pattern="^(chat|completions|embeddings|inference)$")
    targets: list[TargetIn] = Field(min_length=1, max_length=MAX_TARGETS)
    context_tokens: int = Field(ge=1, le=MAX_CONTEXT)
    output_tokens: int = Field(4096, ge=1, le=1_000_000)
    licence: str = Field("", max_length=100)
    openness: str = Field("", max_length=40)
    release: str | None = Field(None, max_length=ID)
    region: str = Field("", max_length=40)
    has_affinity: bool = False
    agreement_zh: Terms | None = None
    agreement_en: Terms | None = None
    purpose: Purpose = TO_IMPROVE
    retention_days: RetentionDays | None = None
    feedback_visibility: Openness = "private"
    feedback_names_org: bool = False


class OneRoute(Input):
    route: str = Field(max_length=ID)


class ListRoutes(Paged):
    name: str | None = Field(None, max_length=100)
    state: str | None = Field(None, pattern="^(ready|retired)$")


class RatesOut(Output):
    """Nanos a token."""

    input_nanos: int
    cached_nanos: int
    output_nanos: int


class TariffOut(Output):
    """Nanos a token: 10⁻⁹ of a booked unit, so 30,000 of a fen is 30 fen a million tokens. `tiers`: where a tier of
    membership has its own."""

    price: str
    version: int
    unit: str
    input_nanos: int
    cached_nanos: int
    output_nanos: int
    tiers: dict[str, RatesOut] = Field(default_factory=dict)


class RouteOut(Output):
    id: str
    name: str
    org: str
    kind: str
    context_tokens: int
    output_tokens: int
    licence: str
    openness: str
    release: str | None
    region: str
    has_affinity: bool
    tariff: TariffOut | None
    agreement: Agreement | None
    evidence: str
    state: str
    created_at: datetime
    version: int


class RouteWithTargets(RouteOut):
    targets: list[dict[str, Any]]


@verb("serving:route:define", evidence="serving.route-defined")
def define_route(ctx: Write, input: DefineRoute) -> RouteWithTargets:
    """Make a route, or put this definition in the place of the one it has; its price stays. Raises Refused:
    serving.route-name-reserved, serving.endpoint-retired, serving.endpoint-unfit, serving.route-of-another,
    serving.rollout-under-way, serving.agreement-one-language, and what `_stated` raises."""
    ctx.require("serving:route:define")
    members.require_organisation(ctx, input.org)
    tail = next((tail for tail in TAILS if input.name.endswith(tail)), None)
    if input.kind == "inference" and tail is not None:
        raise Refused("serving.route-name-reserved", name=input.name, tail=tail)
    stated = _stated(ctx, input)
    for target in input.targets:
        endpoint = ctx.find(ModelEndpoint, target.endpoint, to="serving:endpoint:read")
        if endpoint.state != "ready":
            raise Refused("serving.endpoint-retired", name=endpoint.name)
        require_fit(endpoint, input.name, input.kind)
    given = input.model_dump(exclude={"name", "targets", *_TERMS})
    given |= {"targets": [each.model_dump() for each in input.targets]} | stated
    row = ctx.session.scalar(select(ModelRoute).where(ModelRoute.name == input.name))
    given["agreement"] = _agreed(input, row.agreement if row else None)
    is_other_release = row is None or row.release != input.release
    if row is None:
        row = ctx.add(
            ModelRoute(
                id=ctx.new_id("mrt"),
                name=input.name,
                tariff=None,
                evidence="",
                state="ready",
                created_at=ctx.now,
                release_from=0,
                **given,
            )
        )
    elif row.org != input.org:
        raise Refused("serving.route-of-another", name=row.name)
    else:
        require_settled(ctx, row)
        for name, value in given.items():
            setattr(row, name, value)
        row.state = "ready"
    return _changed(ctx, row, is_other_release=is_other_release)


@verb("serving:route:retire", evidence="serving.route-retired")
def retire_route(ctx: Write, input: OneRoute) -> RouteWithTargets:
    row = ctx.find(ModelRoute, input.route, to="serving:route:retire")
    if row.state != "ready":
        raise Refused("serving.route-retired", name=row.name)
    row.state = "retired"
    return _changed(ctx, row)


@read("serving:route:list")
def list_routes(ctx: Read, input: ListRoutes) -> Page[RouteOut]:
    return ctx.listed(ModelRoute, RouteOut, input, to="serving:route:read")


@read("serving:route:get")
def get_route(ctx: Read, input: OneRoute) -> RouteOut:
    return RouteOut.model_validate(ctx.find(ModelRoute, input.route, to="serving:route:read"))


@read("serving:route:targets")
def get_targets(ctx: Read, input: OneRoute) -> RouteWithTargets:
    """Where it is answered, for those who run it."""
    return RouteWithTargets.model_validate(ctx.find(ModelRoute, input.route, to="serving:route:targets"))


# --- for billing, above ----------------------------------------------------------------------------------------------


def set_tariff(ctx: Write, route: str, tariff: Tariff, tiers: Mapping[str, Mapping[str, int]]) -> None:
    """Calls admitted from now on cost this, and those of callers of a tier what `tiers` says for it. The room above has
    authorised it and left the evidence."""
    row = ctx.find(ModelRoute, route, to="serving:route:read")
    row.tariff = {name: getattr(tariff, name) for name in _KEPT} | {"tiers": {k: dict(v) for k, v in tiers.items()}}
    ctx.session.flush()
    raise_version(ctx)


def route_facts(ctx: Read, route: str) -> RouteOut:
    """Any route; it is public. Raises Refused access.not-found."""
    return RouteOut.model_validate(ctx.find(ModelRoute, route, to="serving:route:read"))


def names_of(ctx: Read, routes: Collection[str]) -> dict[str, str]:
    """Any routes; they are public."""
    rows = ctx.session.execute(select(ModelRoute.id, ModelRoute.name).where(ModelRoute.id.in_(routes)))
    return {row.id: row.name for row in rows}


def tariffs_of(row: Mapping[str, Any]) -> dict[str, Tariff]:
    """What calls cost, by tier: the general price, and those of tiers that have their own."""
    general = Tariff(**{name: row[name] for name in _KEPT})
    own = {tier: replace(general, tier=tier, **rates) for tier, rates in row.get("tiers", {}).items()}
    return {general.tier: general} | own


def require_settled(ctx: Read, route: ModelRoute) -> None:
    """Raises Refused serving.rollout-under-way."""
    open_one = select(ModelRollout.id).where(ModelRollout.route == route.id, ModelRollout.ended_at.is_(None))
    if (found := ctx.session.scalar(open_one)) is not None:
        raise Refused("serving.rollout-under-way", name=route.name, rollout=found)


def _stated(ctx: Write, input: DefineRoute) -> dict[str, str]:
    """Licence and openness: of a release of the hub what its card and the gates said, of an outside model what is typed.

    Raises Refused: serving.route-of-release, serving.release-not-published.
    """
    if input.release is None:
        return {"licence": input.licence, "openness": input.openness}
    if input.licence or input.openness:
        raise Refused("serving.route-of-release", release=input.release)
    return stated_of(ctx, servable(ctx, input.release))


def stated_of(ctx: Write, release: hub.ReleaseFacts) -> dict[str, str]:
    """Licence and openness of a release, as its card and the gates have it."""
    latest = hub.latest_releases(ctx, {release.asset}).get(release.asset)  # of which the gates' words are on the asset
    labels = hub.labels_of(ctx, release.asset) if latest is not None and latest.id == release.release else {}
    card = hub.revision_facts(ctx, release.revision).card
    return {"licence": card.get("license") or "", "openness": labels.get("openness", "")}


def _agreed(input: DefineRoute, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """Raises Refused serving.agreement-one-language."""
    if input.agreement_zh is None and input.agreement_en is None:
        return None
    if input.agreement_zh is None or input.agreement_en is None:
        raise Refused("serving.agreement-one-language", name=input.name)
    terms = {
        "text_zh": input.agreement_zh, "text_en": input.agreement_en, "purpose": input.purpose,
        "retention_days": input.retention_days, "visibility": input.feedback_visibility,
        "names_org": input.feedback_names_org,
    }  # fmt: skip
    return drawn_up(terms, before)


def _changed(ctx: Write, row: ModelRoute, *, is_other_release: bool = False) -> RouteWithTargets:
    ctx.session.flush()
    raise_version(ctx)
    if is_other_release:
        row.release_from = version_now(ctx)
    row.evidence = ctx.record(
        row.id, private={"targets": row.targets}, name=row.name, org=row.org, state=row.state, licence=row.licence,
        openness=row.openness, release=row.release, region=row.region, context_tokens=row.context_tokens,
        output_tokens=row.output_tokens, agreement_sha256=row.agreement["sha256"] if row.agreement else None,
    )  # fmt: skip
    ctx.session.flush()
    return RouteWithTargets.model_validate(row)
