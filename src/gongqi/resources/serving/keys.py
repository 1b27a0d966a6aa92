"""Virtual keys: what an application shows at the gateway, who pays for it, and how much it may.

A key belongs to an organisation and a project; its secret is shown once and kept by digest. It names the models it may
use (or all), its limits in memory (requests and tokens a minute, calls at once) and its budgets, a day and a month in
UTC; and whether answers to its calls are kept to be given again, which nobody's are who does not ask for it. Rotating is
issuing the next and revoking the last. A revoked key stops within a second, calls under way included.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from gongqi.kernel.errors import Refused
from gongqi.kernel.money import MAX_AMOUNT, unit_named
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import rules as members_rules
from gongqi.members import service as members
from gongqi.members.actors import new_secret
from gongqi.resources.serving.endpoints import ID, REGION, raise_version
from gongqi.resources.serving.models import ModelKey, ModelRoute
from gongqi.resources.serving.plane.snapshot import KEY

SHOWN = len(KEY) + 6
MAX_DAYS = 3650
MAX_ROUTES = 200
MAX_PARALLEL = 1024
MAX_CACHE_SECONDS = 86_400  # a day: an answer that is older is not the model's any more

RouteId = Annotated[str, Field(max_length=ID)]
Audience = Literal["public", "internal"]
Spends = Literal["credits-first", "money"]
Caches = Literal["off", "asked", "always"]
Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]


class IssueKey(Input):
    """`routes` None: every model. A budget None: the organisation's funds alone limit it; in booked `unit`s. `spends`:
    credit of a package that the organisation has bought before its money, or its money alone. `cache`: answers are kept in
    memory for its organisation, to be given again: `asked` for calls that say `Cache-Control: max-age`, `always` also for
    those that leave nothing to chance. `region`: the country from which it calls; `audience`: whom the answers are shown
    to, as they come. By both the law of its calls is told."""

    org: str = Field(max_length=ID)
    label: str = Field(min_length=1, max_length=80)
    project: str = Field("default", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    days: int = Field(90, ge=1, le=MAX_DAYS)
    routes: list[RouteId] | None = Field(None, min_length=1, max_length=MAX_ROUTES)
    unit: str = Field("CNY-fen", max_length=40)
    budget_day: Amount | None = None
    budget_month: Amount | None = None
    requests_per_minute: int = Field(600, ge=1, le=10_000_000)
    tokens_per_minute: int = Field(1_000_000, ge=1, le=10_000_000_000)
    parallel: int = Field(64, ge=1, le=MAX_PARALLEL)
    spends: Spends = "credits-first"
    cache: Caches = "off"
    cache_seconds: int = Field(3600, ge=1, le=MAX_CACHE_SECONDS)
    region: str = Field("", pattern=REGION)
    audience: Audience | None = None


class OneKey(Input):
    model_key: str = Field(max_length=ID)


class ListKeys(Paged):
    org: str | None = Field(None, max_length=ID)


class KeyOut(Output):
    id: str
    shown: str
    label: str
    org: str
    project: str
    issued_by: str
    routes: list[str] | None
    unit: str
    budget_day: int | None
    budget_month: int | None
    requests_per_minute: int
    tokens_per_minute: int
    parallel: int
    spends: str
    cache: str
    cache_seconds: int
    region: str
    audience: str
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    version: int


class IssuedKeyOut(KeyOut):
    """`secret` is given here and never again."""

    secret: str


@verb("serving:key:issue", evidence="serving.key-issued", secret=True)
def issue_key(ctx: Write, input: IssueKey) -> IssuedKeyOut:
    ctx.require("serving:key:issue", input.org)
    members.require_organisation(ctx, input.org)
    unit_named(input.unit)
    for route in input.routes or ():
        ctx.find(ModelRoute, route, to="serving:route:read")
    secret = new_secret(KEY)
    row = ctx.add(
        ModelKey(
            id=ctx.new_id("mkey"), digest=members_rules.digest(secret), shown=secret[:SHOWN], issued_by=ctx.actor.id,
            issued_at=ctx.now, expires_at=ctx.now + timedelta(days=input.days), revoked_at=None,
            **input.model_dump(exclude={"days", "audience"}), audience=input.audience or "",
        )
    )  # fmt: skip
    return IssuedKeyOut(secret=secret, **_changed(ctx, row).model_dump())


@verb("serving:key:revoke", evidence="serving.key-revoked")
def revoke_key(ctx: Write, input: OneKey) -> KeyOut:
    row = ctx.find(ModelKey, input.model_key, to="serving:key:revoke")
    if row.revoked_at is not None:
        raise Refused("serving.key-revoked", key=row.id)
    row.revoked_at = ctx.now
    return _changed(ctx, row)


@read("serving:key:list")
def list_keys(ctx: Read, input: ListKeys) -> Page[KeyOut]:
    return ctx.listed(ModelKey, KeyOut, input, to="serving:key:read")


@read("serving:key:get")
def get_key(ctx: Read, input: OneKey) -> KeyOut:
    return KeyOut.model_validate(ctx.find(ModelKey, input.model_key, to="serving:key:read"))


def _changed(ctx: Write, row: ModelKey) -> KeyOut:
    ctx.session.flush()
    raise_version(ctx)
    names = ("org", "project", "budget_day", "budget_month", "region", "audience")
    sealed = {name: getattr(row, name) for name in names}
    ctx.record(row.id, withhold=True, private=sealed, revoked=row.revoked_at is not None)
    return KeyOut.model_validate(row)
