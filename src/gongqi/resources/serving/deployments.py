"""Deployments: a published release under a name, at a price, on terms; and what organisations will spend on one.

A price is whole booked units a row, and has a version; a call keeps the version it was made under. An upgrade puts
another published release of the same asset in the place of the present one, so callers know what kind of thing answers.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pydantic import Field
from sqlalchemy import func, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.money import unit_named
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.events import ReleaseWithdrawn
from gongqi.resources.serving.agreements import TO_IMPROVE, Agreement, Purpose, RetentionDays, Terms, drawn_up
from gongqi.resources.serving.models import Budget, Deployment

ID = 64
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"  # a path segment that needs no escaping
MAX_PRICE = 1_000_000_000  # booked units a row; times MAX_ROWS it is still an amount that the ledger books
MODEL_SUFFIX = ".onnx"


class Create(Input):
    """`retention_days` None: what is sent back is kept until the dataset is withdrawn."""

    release: str = Field(max_length=ID)
    name: str = Field(pattern=NAME_PATTERN)
    org: str = Field(max_length=ID)
    unit: str = Field(max_length=40)
    price_per_row: int = Field(ge=1, le=MAX_PRICE)
    agreement_zh: Terms
    agreement_en: Terms
    purpose: Purpose = TO_IMPROVE
    retention_days: RetentionDays | None = None


class Upgrade(Input):
    deployment: str = Field(max_length=ID)
    release: str = Field(max_length=ID)


class Reprice(Input):
    deployment: str = Field(max_length=ID)
    price_per_row: int = Field(ge=1, le=MAX_PRICE)


class OneDeployment(Input):
    deployment: str = Field(max_length=ID)


class ListDeployments(Paged):
    name: str | None = Field(None, max_length=63)
    org: str | None = Field(None, max_length=ID)
    asset: str | None = Field(None, max_length=ID)
    state: str | None = Field(None, pattern="^(ready|retired)$")


class DeploymentOut(Output):
    id: str
    name: str
    org: str
    asset: str
    release: str
    release_name: str
    blob: str
    unit: str
    price_per_row: int
    price_version: int
    state: str
    agreement: Agreement
    created_at: datetime
    version: int


class SetBudget(Input):
    deployment: str = Field(max_length=ID)
    org: str = Field(max_length=ID)
    limit_amount: int = Field(ge=0, le=2**53 - 1)


class ListBudgets(Paged):
    deployment: str | None = Field(None, max_length=ID)
    org: str | None = Field(None, max_length=ID)


class BudgetOut(Output):
    """`limit_amount` and `spent` in booked units; zero allows nothing."""

    id: str
    deployment: str
    org: str
    unit: str
    limit_amount: int
    spent: int
    version: int


@verb("serving:deployment:create", evidence="serving.deployment-created")
def create(ctx: Write, input: Create) -> DeploymentOut:
    ctx.require("serving:deployment:create", input.org)
    members.require_organisation(ctx, input.org)
    unit = unit_named(input.unit)
    if ctx.session.scalar(select(Deployment.id).where(Deployment.name == input.name)):
        raise Refused("serving.name-taken", name=input.name)
    release = servable(ctx, input.release)
    terms = {
        "text_zh": input.agreement_zh, "text_en": input.agreement_en, "purpose": input.purpose,
        "retention_days": input.retention_days,
    }  # fmt: skip
    deployment = ctx.add(
        Deployment(
            id=ctx.new_id("dep"), name=input.name, org=input.org, asset=release.asset, release=release.release,
            release_name=release.name, blob=_model_blob(release), unit=unit.code, price_per_row=input.price_per_row,
            price_version=1, state="ready", agreement=drawn_up(terms), created_at=ctx.now,
        )
    )  # fmt: skip
    return _changed(ctx, deployment)


@verb("serving:deployment:upgrade", evidence="serving.deployment-upgraded")
def upgrade(ctx: Write, input: Upgrade) -> DeploymentOut:
    deployment = _ready(ctx, input.deployment, to="serving:deployment:upgrade")
    release = servable(ctx, input.release)
    if release.asset != deployment.asset:
        raise Refused("serving.release-of-another-asset", release=release.release, asset=deployment.asset)
    deployment.release, deployment.release_name = release.release, release.name
    deployment.blob = _model_blob(release)
    return _changed(ctx, deployment)


@verb("serving:deployment:reprice", evidence="serving.deployment-repriced")
def reprice(ctx: Write, input: Reprice) -> DeploymentOut:
    deployment = _ready(ctx, input.deployment, to="serving:deployment:reprice")
    deployment.price_per_row, deployment.price_version = input.price_per_row, deployment.price_version + 1
    return _changed(ctx, deployment)


@verb("serving:deployment:retire", evidence="serving.deployment-retired")
def retire(ctx: Write, input: OneDeployment) -> DeploymentOut:
    deployment = _ready(ctx, input.deployment, to="serving:deployment:retire")
    deployment.state = "retired"
    return _changed(ctx, deployment)


@verb("serving:budget:set", evidence="serving.budget-set")
def set_budget(ctx: Write, input: SetBudget) -> BudgetOut:
    """The whole budget, spent part included. Lowering it below what is spent stops further calls."""
    ctx.require("serving:budget:set", input.org)
    deployment = ctx.find(Deployment, input.deployment, to="serving:deployment:read")
    members.require_organisation(ctx, input.org)
    key = select(Budget.id).where(Budget.deployment == deployment.id, Budget.org == input.org)
    if existing := ctx.session.scalar(key):
        budget = ctx.find(Budget, existing, to="serving:budget:set")
        budget.limit_amount = input.limit_amount
    else:
        budget = ctx.add(
            Budget(
                id=ctx.new_id("bud"), deployment=deployment.id, org=input.org, unit=deployment.unit,
                limit_amount=input.limit_amount, spent=0,
            )
        )  # fmt: skip
    ctx.session.flush()
    sealed = {"deployment": deployment.id, "org": input.org, "limit_amount": input.limit_amount}
    ctx.record(budget.id, withhold=True, private=sealed)
    return BudgetOut.model_validate(budget)


@read("serving:deployment:list")
def list_deployments(ctx: Read, input: ListDeployments) -> Page[DeploymentOut]:
    return ctx.listed(Deployment, DeploymentOut, input, to="serving:deployment:read")


@read("serving:deployment:get")
def get_deployment(ctx: Read, input: OneDeployment) -> DeploymentOut:
    return DeploymentOut.model_validate(ctx.find(Deployment, input.deployment, to="serving:deployment:read"))


@read("serving:budget:list")
def list_budgets(ctx: Read, input: ListBudgets) -> Page[BudgetOut]:
    return ctx.listed(Budget, BudgetOut, input, to="serving:budget:read")


# --- for rooms above and for our own protocol door -------------------------------------------------------------------


def count_deployments(ctx: Read) -> int:
    """How many deployments answer now: a public figure."""
    ready = select(func.count()).select_from(Deployment).where(Deployment.state == "ready")
    return ctx.session.scalar(ready) or 0


def deployment_facts(ctx: Read, deployment: str) -> DeploymentOut:
    """Any deployment; it is public. Raises Refused access.not-found."""
    return DeploymentOut.model_validate(ctx.find(Deployment, deployment, to="serving:deployment:read"))


def visible_deployments(ctx: Read, keys: Collection[str]) -> dict[str, DeploymentOut]:
    """Of these deployments, those that the reader may see."""
    query = ctx.visible(Deployment, to="serving:deployment:read").where(Deployment.id.in_(keys))
    return {row.id: DeploymentOut.model_validate(row) for row in ctx.session.scalars(query)}


def is_reachable(ctx: Read) -> bool:
    """Whether the book of deployments can be read: true, or an error."""
    ctx.session.scalar(select(Deployment.id).limit(1))
    return True


def deployment_named(ctx: Read, name: str, version: str | None = None) -> DeploymentOut:
    """The deployment that answers under `name`, and only as release `version` when one is given.

    Raises Refused: serving.model-unknown, serving.deployment-retired, serving.version-unknown.
    """
    row = ctx.session.scalar(ctx.visible(Deployment, to="serving:deployment:read").where(Deployment.name == name))
    if row is None:
        raise Refused("serving.model-unknown", name=name[:63])
    if row.state != "ready":
        raise Refused("serving.deployment-retired", name=row.name)
    if version is not None and version != row.release_name:
        raise Refused("serving.version-unknown", name=row.name, version=version[:ID], current=row.release_name)
    return DeploymentOut.model_validate(row)


def actions(ctx: Read, deployment: str) -> list[str]:
    """The verbs that the actor may use on this deployment now."""
    row = ctx.find(Deployment, deployment, to="serving:deployment:read")
    if row.state != "ready":
        return []
    verbs = ("serving:deployment:upgrade", "serving:deployment:reprice", "serving:deployment:retire")
    found = [verb for verb in verbs if ctx.actor.may_somewhere(verb) and ctx.may(verb, row)]
    return found + [verb for verb in ("serving:budget:set",) if ctx.actor.may_somewhere(verb)]


def retire_withdrawn(ctx: Write, event: ReleaseWithdrawn) -> None:
    """What should no longer be used is no longer served. Twice is once."""
    rows = select(Deployment).where(Deployment.release == event.release, Deployment.state == "ready")
    for deployment in ctx.session.scalars(rows.order_by(Deployment.id)):
        deployment.state = "retired"
        _changed(ctx, deployment, kind="serving.deployment-retired")


# --- within ----------------------------------------------------------------------------------------------------------


def _ready(ctx: Write, deployment: str, *, to: str) -> Deployment:
    row = ctx.find(Deployment, deployment, to=to)
    if row.state != "ready":
        raise Refused("serving.deployment-retired", name=row.name)
    return row


def _changed(ctx: Write, row: Deployment, *, kind: str | None = None) -> DeploymentOut:
    ctx.session.flush()
    ctx.record(
        row.id, kind=kind, release=row.release, org=row.org, state=row.state, unit=row.unit,
        price_per_row=row.price_per_row, price_version=row.price_version, agreement_sha256=row.agreement["sha256"],
    )  # fmt: skip
    return DeploymentOut.model_validate(row)


def servable(ctx: Write, release: str) -> hub.ReleaseFacts:
    """A published release that the actor may see. Raises Refused access.not-found, serving.release-not-published."""
    seen = hub.get_release.run(ctx, hub.OneRelease(release=release))
    if seen.state != "published":
        raise Refused("serving.release-not-published", release=seen.id, state=seen.state)
    return hub.release_facts(ctx, seen.id)


def _model_blob(release: hub.ReleaseFacts) -> str:
    """The one file that is the model: its component is `parameters` and its name ends in .onnx."""
    found = [f.sha256 for f in release.files if f.component == "parameters" and f.path.endswith(MODEL_SUFFIX)]
    if len(found) != 1:
        raise Refused("serving.no-model-file", release=release.release, count=len(found))
    return found[0]
