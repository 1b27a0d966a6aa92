"""Shadows: a share of a model's calls is made once more at another server, whose answers nobody gets (`plane.shadow`).

A shadow answers for nothing, yet it reads what was asked: so what holds for a model's own servers holds for it
(`serving.candidates`), and a call of a key that is narrowed to models is not mirrored to what is offered under other names
that the key may not use; and what is withdrawn reads nothing any more. Callers pay nothing for it; what the server asks is
paid by who runs the foundation, and its tokens are told. Compared are sums: answered and failed, times, tokens. No content
is kept, nor are there pairs of calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub.events import ReleaseWithdrawn
from gongqi.resources.serving import tallies
from gongqi.resources.serving.candidates import candidate
from gongqi.resources.serving.endpoints import ID, raise_version
from gongqi.resources.serving.models import ModelRoute
from gongqi.resources.serving.rollout_models import ModelShadow

READ = "serving:shadow:read"
FIGURES = (
    "answered", "failed", "unsaid", "dropped", "slower", "output_tokens", "shadow_input_tokens", "shadow_output_tokens",
)  # fmt: skip
MIRRORING, ENDED = "mirroring", "ended"


class BeginShadow(Input):
    """`percent` of the calls that were answered whole. `release`: what runs there, where the endpoint does not say it."""

    route: str = Field(max_length=ID)
    endpoint: str = Field(max_length=ID)
    model: str = Field(min_length=1, max_length=200)
    release: str | None = Field(None, max_length=ID)
    percent: int = Field(5, ge=1, le=100)


class OneShadow(Input):
    shadow: str = Field(max_length=ID)


class ListShadows(Paged):
    route: str | None = Field(None, max_length=ID)


class ShadowOut(Output):
    id: str
    route: str
    org: str
    endpoint: str
    model: str
    release: str | None
    percent: int
    state: str
    began_at: datetime
    ended_at: datetime | None
    evidence: str
    version: int


class ShadowWithFigures(ShadowOut):
    """Calls by what became of their shadow: `answered`; `failed`; `unsaid`, where the request cannot be put in that server's
    API, or would have tools called elsewhere again; `dropped`, for want of room. Of those answered, sums: the callers' times
    and tokens, the shadow's, and how often it was the slower. None before the first."""

    answered: int
    failed: int
    unsaid: int
    dropped: int
    slower: int
    mean_us: int | None
    shadow_mean_us: int | None
    output_tokens: int
    shadow_input_tokens: int
    shadow_output_tokens: int


@verb("serving:shadow:begin", evidence="serving.shadow-begun")
def begin_shadow(ctx: Write, input: BeginShadow) -> ShadowOut:
    """Raises Refused: serving.shadow-under-way, and what `candidate` raises."""
    route = ctx.find(ModelRoute, input.route, to="serving:shadow:begin")
    known = select(ModelShadow.id).where(ModelShadow.route == route.id, ModelShadow.state == MIRRORING)
    if (found := ctx.session.scalar(known)) is not None:
        raise Refused("serving.shadow-under-way", name=route.name, shadow=found)
    release = candidate(ctx, route, input.endpoint, input.model, input.release)
    row = ctx.add(
        ModelShadow(
            id=ctx.new_id("msh"), route=route.id, org=route.org, endpoint=input.endpoint, model=input.model,
            release=release, percent=input.percent, state=MIRRORING, began_at=ctx.now, ended_at=None, evidence="",
        )
    )  # fmt: skip
    return _changed(ctx, row)


@verb("serving:shadow:end", evidence="serving.shadow-ended")
def end_shadow(ctx: Write, input: OneShadow) -> ShadowOut:
    """No further call is mirrored, and what is under way there is given up."""
    row = ctx.find(ModelShadow, input.shadow, to="serving:shadow:end")
    if row.state != MIRRORING:
        raise Refused("serving.shadow-over", shadow=row.id)
    row.state, row.ended_at = ENDED, ctx.now
    return _changed(ctx, row)


@read("serving:shadow:list")
def list_shadows(ctx: Read, input: ListShadows) -> Page[ShadowOut]:
    return ctx.listed(ModelShadow, ShadowOut, input, to=READ)


@read("serving:shadow:get")
def get_shadow(ctx: Read, input: OneShadow) -> ShadowWithFigures:
    row = ctx.find(ModelShadow, input.shadow, to=READ)
    sums: Counter[str] = Counter()
    for told in tallies.reported(ctx, row.id):
        sums.update(told)
    means = {
        name: sums[of] // sums["answered"] if sums["answered"] else None
        for name, of in (("mean_us", "duration_us"), ("shadow_mean_us", "shadow_duration_us"))
    }
    figures = {name: sums[name] for name in FIGURES}
    return ShadowWithFigures.model_validate(ShadowOut.model_validate(row).model_dump() | figures | means)


def open_shadows(ctx: Read) -> Sequence[ModelShadow]:
    return ctx.session.scalars(select(ModelShadow).where(ModelShadow.state == MIRRORING).order_by(ModelShadow.id)).all()


def end_withdrawn(ctx: Write, event: ReleaseWithdrawn) -> None:
    """What should no longer be used is asked nothing more, for nobody either. Twice is once."""
    rows = select(ModelShadow).where(ModelShadow.release == event.release, ModelShadow.state == MIRRORING)
    for row in ctx.session.scalars(rows.order_by(ModelShadow.id)):
        row.state, row.ended_at = ENDED, ctx.now
        _changed(ctx, row, kind="serving.shadow-ended")


def _changed(ctx: Write, row: ModelShadow, *, kind: str | None = None) -> ShadowOut:
    ctx.session.flush()
    raise_version(ctx)
    sealed = {"endpoint": row.endpoint, "model": row.model}
    row.evidence = ctx.record(
        row.id, kind=kind, private=sealed, route=row.route, release=row.release, state=row.state, percent=row.percent
    )
    ctx.session.flush()
    return ShadowOut.model_validate(row)
