"""Roll-outs: a new server behind a model's name has a share of its calls that climbs, or comes back to nothing.

A roll-out climbs by its steps, each held for a time and for a number of calls at the new server. A flow looks at it every
few seconds: it compares what all processes have reported of both servers (`serving.climbing`) and climbs, completes or rolls
back. All that a look goes by and leaves behind is in one row and changes in one transaction, so it does not matter where it
is killed. Complete, the new server stands in the place of those that shared the calls; servers of a higher rank, which are
asked when these fail, stay.

It rolls back by itself when the new server fails, or is slow, more often than the old one beyond chance; when the brake of a
process is on; when drift is found in the model's calls; and when its server, its release or the model is no longer there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field
from sqlalchemy import func, or_, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.flows import Again, Run
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub import service as hub
from gongqi.resources.serving import climbing, tallies
from gongqi.resources.serving.candidates import candidate
from gongqi.resources.serving.climbing import HUNDRED, RULES, WORSE, Pair, Side
from gongqi.resources.serving.endpoints import ID, raise_version, version_now
from gongqi.resources.serving.events import DriftFound, RolloutClimbed, RolloutCompleted, RolloutRolledBack
from gongqi.resources.serving.models import ModelEndpoint, ModelRoute
from gongqi.resources.serving.rollout_models import ModelRollout
from gongqi.resources.serving.routes import require_settled, stated_of

READ = "serving:rollout:read"
FLOW = "serving.climb"
LOOK_SECONDS = 2  # between two looks; processes report every second
MAX_OPEN = 64  # at once: each costs a look every LOOK_SECONDS
MAX_STEPS = 20
CLIMBING, HELD, COMPLETE, ROLLED_BACK = "climbing", "held", "complete", "rolled-back"
OPEN = (CLIMBING, HELD)
ASKED, STOPPED, DRIFT, GONE = "asked", "stopped", "drift", "gone"  # beside RULES: why one was rolled back


class BeginRollout(Input):
    """`steps` in percent, the last 100; each is held for `hold_seconds` and until `calls` have gone to the new server. An
    answer that has not begun within `slow_ms` is slow. `release`: what runs there, where the endpoint does not say it."""

    route: str = Field(max_length=ID)
    endpoint: str = Field(max_length=ID)
    model: str = Field(min_length=1, max_length=200)
    release: str | None = Field(None, max_length=ID)
    steps: list[int] = Field(default_factory=lambda: list(climbing.STEPS), min_length=1, max_length=MAX_STEPS)
    hold_seconds: int = Field(climbing.HOLD_SECONDS, ge=1, le=30 * 86_400)
    calls: int = Field(climbing.CALLS, ge=1, le=10_000_000)
    slow_ms: int | None = Field(None, ge=1, le=900_000)


class OneRollout(Input):
    rollout: str = Field(max_length=ID)


class ListRollouts(Paged):
    route: str | None = Field(None, max_length=ID)
    state: str | None = Field(None, pattern=f"^({CLIMBING}|{HELD}|{COMPLETE}|{ROLLED_BACK})$")


class StepOut(Output):
    """A share, since when, and the sums at its beginning: calls, faults, slow ones."""

    percent: int
    at: datetime
    old: list[int]
    new: list[int]


class RolloutOut(Output):
    """`reason`: why it was rolled back (faults, slow, stopped, drift, gone, asked)."""

    id: str
    route: str
    org: str
    endpoint: str
    model: str
    release: str | None
    steps: list[int]
    hold_seconds: int
    calls: int
    slow_ms: int | None
    state: str
    percent: int
    step_at: datetime
    path: list[StepOut]
    reason: str | None
    began_at: datetime
    ended_at: datetime | None
    evidence: str
    version: int


class RolloutWithFigures(RolloutOut):
    """`old`, `new`: calls, faults and slow ones of each so far. `step_calls_left`: at the new server, before it climbs."""

    old: list[int]
    new: list[int]
    step_calls_left: int


@verb("serving:rollout:begin", evidence="serving.rollout-begun")
def begin_rollout(ctx: Write, input: BeginRollout) -> RolloutOut:
    """Give the first share to a new server. Raises Refused: serving.rollout-under-way, serving.rollout-steps-invalid,
    serving.rollouts-too-many, and what `candidate` raises."""
    route = ctx.find(ModelRoute, input.route, to="serving:rollout:begin")
    try:
        steps = climbing.steps_of(input.steps)
    except ValueError as error:
        raise Refused("serving.rollout-steps-invalid", steps=", ".join(map(str, input.steps))) from error
    require_settled(ctx, route)
    release = candidate(ctx, route, input.endpoint, input.model, input.release)
    if (ctx.session.scalar(select(func.count()).where(ModelRollout.state.in_(OPEN))) or 0) >= MAX_OPEN:
        raise Refused("serving.rollouts-too-many", limit=MAX_OPEN)
    raise_version(ctx)
    row = ctx.add(
        ModelRollout(
            id=ctx.new_id("mro"), route=route.id, org=route.org, endpoint=input.endpoint, model=input.model,
            release=release, steps=list(steps), hold_seconds=input.hold_seconds, calls=input.calls, slow_ms=input.slow_ms,
            state=CLIMBING, percent=steps[0], step_at=ctx.now, step_calls=0, seen=_kept(Pair()),
            weights={rule: [0.0] * len(WORSE) for rule in RULES}, path=[_step(ctx, steps[0], Pair())], reason=None,
            began_version=version_now(ctx), ended_version=None, began_at=ctx.now, ended_at=None, evidence="",
        )
    )  # fmt: skip
    ctx.session.flush()
    _told(
        ctx, row, Pair(), None, steps=list(steps), hold_seconds=row.hold_seconds, calls=row.calls, slow_ms=row.slow_ms
    )
    ctx.emit(RolloutClimbed(row.id, row.route, row.org, row.release, row.percent))
    ctx.start_flow(FLOW, key=row.id, rollout=row.id)
    return RolloutOut.model_validate(row)


@verb("serving:rollout:hold", evidence="serving.rollout-held")
def hold_rollout(ctx: Write, input: OneRollout) -> RolloutOut:
    """Stay at this share. It still rolls back by itself."""
    row = _open(ctx, input, to="serving:rollout:hold")
    if row.state != CLIMBING:
        raise Refused("serving.rollout-held", rollout=row.id)
    row.state = HELD
    _told(ctx, row, totals(ctx, row.id)[0], None)
    return RolloutOut.model_validate(row)


@verb("serving:rollout:resume", evidence="serving.rollout-resumed")
def resume_rollout(ctx: Write, input: OneRollout) -> RolloutOut:
    """Climb on, when this share has been held for its time anew."""
    row = _open(ctx, input, to="serving:rollout:resume")
    if row.state != HELD:
        raise Refused("serving.rollout-not-held", rollout=row.id)
    row.state, row.step_at = CLIMBING, ctx.now
    _told(ctx, row, totals(ctx, row.id)[0], None)
    return RolloutOut.model_validate(row)


@verb("serving:rollout:complete", evidence="serving.rollout-completed")
def complete_rollout(ctx: Write, input: OneRollout) -> RolloutOut:
    """Put the new server in the place of the old one now."""
    row = _open(ctx, input, to="serving:rollout:complete")
    if _is_gone(ctx, row):
        raise Refused("serving.rollout-target-gone", rollout=row.id)
    _complete(ctx, row, totals(ctx, row.id)[0], None)
    return RolloutOut.model_validate(row)


@verb("serving:rollout:rollback", evidence="serving.rollout-rolled-back")
def roll_rollout_back(ctx: Write, input: OneRollout) -> RolloutOut:
    """Give the new server no call any more; those under way come to their end."""
    row = _open(ctx, input, to="serving:rollout:rollback")
    _roll_back(ctx, row, totals(ctx, row.id)[0], ASKED, None)
    return RolloutOut.model_validate(row)


@read("serving:rollout:list")
def list_rollouts(ctx: Read, input: ListRollouts) -> Page[RolloutOut]:
    return ctx.listed(ModelRollout, RolloutOut, input, to=READ)


@read("serving:rollout:get")
def get_rollout(ctx: Read, input: OneRollout) -> RolloutWithFigures:
    row = ctx.find(ModelRollout, input.rollout, to=READ)
    pair = totals(ctx, row.id)[0] if row.state in OPEN else _pair(row.seen)
    left = max(0, row.calls - (pair.new.calls - row.step_calls)) if row.state in OPEN else 0
    known = RolloutOut.model_validate(row).model_dump()
    return RolloutWithFigures(**known, old=list(pair.old), new=list(pair.new), step_calls_left=left)


# --- within the room -------------------------------------------------------------------------------------------------


def open_rollouts(ctx: Read) -> Sequence[ModelRollout]:
    return ctx.session.scalars(select(ModelRollout).where(ModelRollout.state.in_(OPEN)).order_by(ModelRollout.id)).all()


def is_certain(ctx: Read, route: str, endpoint: str | None, snapshot: int) -> bool:
    """Whether it was the model's own release that answered there under this version, and not one on trial."""
    tried = select(ModelRollout.ended_version).where(
        ModelRollout.route == route, ModelRollout.endpoint == endpoint, ModelRollout.began_version <= snapshot
    )
    return not any(ended is None or snapshot < ended for ended in ctx.session.scalars(tried))


def latest(ctx: Read, *, since: datetime) -> list[ModelRollout]:
    """The last roll-out of each model, if it is open or has ended since then: all that are open, and as many more."""
    rows = select(ModelRollout).where(or_(ModelRollout.ended_at.is_(None), ModelRollout.ended_at >= since))
    order = (ModelRollout.ended_at.is_not(None), ModelRollout.began_at.desc(), ModelRollout.id)
    found: dict[str, ModelRollout] = {}
    for row in ctx.session.scalars(rows.order_by(*order).limit(2 * MAX_OPEN)):
        found.setdefault(row.route, row)
    return list(found.values())


def with_totals(ctx: Read, rows: Sequence[ModelRollout]) -> list[tuple[ModelRollout, Pair]]:
    reported = tallies.reported_of(ctx, [row.id for row in rows if row.state in OPEN])
    return [(row, _summed(reported.get(row.id, [])) if row.state in OPEN else _pair(row.seen)) for row in rows]


def totals(ctx: Read, rollout: str) -> tuple[Pair, bool]:
    """What all processes have reported, and whether one of them has stopped it."""
    told = tallies.reported(ctx, rollout)
    return _summed(told), any(each["is_stopped"] for each in told)


def _summed(told: Sequence[Mapping[str, Any]]) -> Pair:
    old, new = ([sum(column) for column in zip(*(each[side] for each in told), strict=True)] for side in ("old", "new"))
    return Pair(Side(*old), Side(*new))


# --- its flow --------------------------------------------------------------------------------------------------------


def climb(run: Run, rollout: str) -> Any:
    """Look at it again and again until it is over."""
    is_open = run.write("look", lambda ctx: look(ctx, rollout))
    return Again(LOOK_SECONDS) if is_open else None


def look(ctx: Write, rollout: str) -> bool:
    """Compare, and climb, complete or roll back; whether it goes on."""
    row = ctx.session.get_one(ModelRollout, rollout)
    if row.state not in OPEN:
        return False
    pair, is_stopped = totals(ctx, row.id)
    before = _pair(row.seen)
    if climbing.is_comparable(before, pair, row.percent):
        row.weights = {rule: climbing.weighed(row.weights[rule], before, pair, rule) for rule in RULES}
        row.seen = _kept(pair)
    if (reason := _why_back(ctx, row, is_stopped=is_stopped)) is not None:
        _roll_back(ctx, row, pair, reason, "serving.rollout-rolled-back")
        return False
    held_long = ctx.now - row.step_at >= timedelta(seconds=row.hold_seconds)
    if row.state == CLIMBING and held_long and pair.new.calls - row.step_calls >= row.calls:
        if row.percent == HUNDRED:
            _complete(ctx, row, pair, "serving.rollout-completed")
            return False
        _climb(ctx, row, pair)
    return True


def roll_back_on_drift(ctx: Write, event: DriftFound) -> None:
    """Calls that are not what they were, while a new server has a share of them, go back to the old one. Twice is once."""
    found = select(ModelRollout).where(ModelRollout.route == event.route, ModelRollout.state.in_(OPEN))
    for row in ctx.session.scalars(found):
        _roll_back(ctx, row, totals(ctx, row.id)[0], DRIFT, "serving.rollout-rolled-back")


def _why_back(ctx: Read, row: ModelRollout, *, is_stopped: bool) -> str | None:
    if _is_gone(ctx, row):
        return GONE
    if is_stopped:
        return STOPPED
    return next((rule for rule in RULES if climbing.is_worse(row.weights[rule])), None)


def _is_gone(ctx: Read, row: ModelRollout) -> bool:
    places = (ctx.session.get_one(ModelRoute, row.route), ctx.session.get_one(ModelEndpoint, row.endpoint))
    if any(place.state != "ready" for place in places):
        return True
    return row.release is not None and hub.release_facts(ctx, row.release).state != "published"


def _climb(ctx: Write, row: ModelRollout, pair: Pair) -> None:
    row.percent = next(step for step in row.steps if step > row.percent)
    row.step_at, row.step_calls = ctx.now, pair.new.calls
    row.path = [*row.path, _step(ctx, row.percent, pair)]
    raise_version(ctx)
    _told(ctx, row, pair, "serving.rollout-climbed")
    ctx.emit(RolloutClimbed(row.id, row.route, row.org, row.release, row.percent))


def _complete(ctx: Write, row: ModelRollout, pair: Pair, kind: str | None) -> None:
    route = ctx.session.get_one(ModelRoute, row.route)
    least = min(each["rank"] for each in route.targets)
    new = {"endpoint": row.endpoint, "model": row.model, "weight": 1, "rank": least}
    replaced, row.path = route.targets, [*row.path, _step(ctx, HUNDRED, pair)]
    route.targets = [new, *(each for each in route.targets if each["rank"] != least)]
    row.state, row.percent = COMPLETE, HUNDRED
    _end(ctx, row, pair)
    if row.release is not None and row.release != route.release:
        stated = stated_of(ctx, hub.release_facts(ctx, row.release))
        route.release, route.release_from = row.release, version_now(ctx)
        route.licence, route.openness = stated["licence"], stated["openness"]
    _told(ctx, row, pair, kind, sealed={"replaced": replaced})
    route.evidence = row.evidence
    ctx.emit(RolloutCompleted(row.id, row.route, row.org, row.release))


def _roll_back(ctx: Write, row: ModelRollout, pair: Pair, reason: str, kind: str | None) -> None:
    row.state, row.percent, row.reason = ROLLED_BACK, 0, reason
    row.path = [*row.path, _step(ctx, 0, pair)]
    _end(ctx, row, pair)
    _told(ctx, row, pair, kind, reason=reason)
    ctx.emit(RolloutRolledBack(row.id, row.route, row.org, row.release, reason))


def _end(ctx: Write, row: ModelRollout, pair: Pair) -> None:
    raise_version(ctx)
    row.seen, row.ended_at, row.ended_version = _kept(pair), ctx.now, version_now(ctx)


def _told(
    ctx: Write, row: ModelRollout, pair: Pair, kind: str | None, *, sealed: dict[str, Any] | None = None, **facts: Any
) -> None:
    """The log says what became of it; how many calls the model has, and where, is sealed."""
    where = {"endpoint": row.endpoint, "model": row.model, "weights": row.weights}
    row.evidence = ctx.record(
        row.id, kind=kind, private=where | _kept(pair) | (sealed or {}), route=row.route, release=row.release,
        state=row.state, percent=row.percent, **facts,
    )  # fmt: skip
    ctx.session.flush()


def _open(ctx: Write, input: OneRollout, *, to: str) -> ModelRollout:
    row = ctx.find(ModelRollout, input.rollout, to=to)
    if row.state not in OPEN:
        raise Refused("serving.rollout-over", rollout=row.id)
    return row


def _step(ctx: Read, percent: int, pair: Pair) -> dict[str, Any]:
    return {"percent": percent, "at": ctx.now.isoformat(), "old": list(pair.old), "new": list(pair.new)}


def _kept(pair: Pair) -> dict[str, Any]:
    return {"old": list(pair.old), "new": list(pair.new)}


def _pair(kept: dict[str, Any]) -> Pair:
    return Pair(Side(*kept["old"]), Side(*kept["new"]))
