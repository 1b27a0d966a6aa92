"""Hosted endpoints: released models that this foundation runs itself, each by an engine of its own (`serving.engines`).

One verb makes a release an endpoint, and a route may name it as any other; retiring it lets its engine end what it has
under way. What runs is what was released and no more: when the release is withdrawn, the endpoint is retired.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.util import find_spec

from pydantic import Field
from sqlalchemy import func, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Read, Write, read, verb
from gongqi.resources.hub.events import ReleaseWithdrawn
from gongqi.resources.serving.deployments import servable
from gongqi.resources.serving.endpoints import ID, NAME, EndpointOut, changed
from gongqi.resources.serving.engines.host import Host
from gongqi.resources.serving.engines.parts import NEEDS, chosen
from gongqi.resources.serving.models import ModelEndpoint

LIST = "serving:engine:list"
MAX_HOSTED = 32  # each is a process with a model in memory


class HostEndpoint(Input):
    """`file`: the path of the model, where a release has several. `memory_mib`: what the engine may use beside a model's own
    file. `context_tokens`: of one conversation, for models that write."""

    release: str = Field(max_length=ID)
    name: str = Field(pattern=NAME)
    file: str | None = Field(None, max_length=400)
    context_tokens: int = Field(4096, ge=128, le=1_000_000)
    memory_mib: int = Field(4096, ge=256, le=1 << 20)
    first_byte_seconds: int = Field(300, ge=1, le=900)
    region: str = Field("", max_length=40)


class ListEngines(Input):
    pass


class EngineOut(Output):
    """An engine of the home that answers. `state`: starting, ready, resting (it will be started again), ending. `waiting`:
    tokens or calls in its queue. `batches`: runs since it was started, of `rows` in all. `trouble`: why it last ended, by
    the code of an error, `memory` or `died`."""

    endpoint: str
    name: str
    release: str
    engine: str
    state: str
    since: datetime
    restarts: int
    waiting: int
    batches: int
    rows: int
    memory_bytes: int
    trouble: str | None


class EnginesOut(Output):
    items: list[EngineOut]


@verb("serving:endpoint:host", evidence="serving.endpoint-hosted")
def host_endpoint(ctx: Write, input: HostEndpoint) -> EndpointOut:
    """Raises Refused: serving.name-taken, serving.no-engine, serving.engine-file-missing, serving.model-too-large,
    serving.engine-missing, serving.engines-too-many, and what `servable` raises."""
    ctx.require("serving:endpoint:host")
    if ctx.session.scalar(select(ModelEndpoint.id).where(ModelEndpoint.name == input.name)):
        raise Refused("serving.name-taken", name=input.name)
    release = servable(ctx, input.release)
    engine, parts = chosen(release.release, release.files, input.file)
    if find_spec(NEEDS[engine]) is None:
        raise Refused("serving.engine-missing", engine=engine, package=NEEDS[engine])
    running = select(func.count()).where(ModelEndpoint.engine.is_not(None), ModelEndpoint.state == "ready")
    if (ctx.session.scalar(running) or 0) >= MAX_HOSTED:
        raise Refused("serving.engines-too-many", limit=MAX_HOSTED)
    row = ctx.add(
        ModelEndpoint(
            id=ctx.new_id("mep"), name=input.name, base_url="", speaks="openai", private=True, credential=None,
            first_byte_seconds=input.first_byte_seconds, state="ready", created_at=ctx.now, engine=engine,
            release=release.release, files=[part._asdict() for part in parts], context_tokens=input.context_tokens,
            memory_mib=input.memory_mib, region=input.region,
        )
    )  # fmt: skip
    return changed(ctx, row)


@read(LIST)
def list_engines(ctx: Read, input: ListEngines) -> EnginesOut:
    """How the engines of this home are."""
    ctx.require(LIST)
    states = sorted(ctx.kernel.part(Host).states(), key=lambda state: state.name)
    return EnginesOut(
        items=[
            EngineOut(
                endpoint=each.endpoint, name=each.name, release=each.release, engine=each.engine, state=each.state,
                since=datetime.fromtimestamp(each.since, UTC), restarts=each.restarts, waiting=each.waiting,
                batches=each.batches, rows=each.rows,
                memory_bytes=each.memory_bytes, trouble=each.trouble,
            )
            for each in states
        ]
    )  # fmt: skip


def retire_hosted(ctx: Write, event: ReleaseWithdrawn) -> None:
    """What should no longer be used is no longer run. Twice is once."""
    rows = select(ModelEndpoint).where(ModelEndpoint.release == event.release, ModelEndpoint.state == "ready")
    for row in ctx.session.scalars(rows.order_by(ModelEndpoint.id)):
        row.state = "retired"
        changed(ctx, row, kind="serving.endpoint-retired")
