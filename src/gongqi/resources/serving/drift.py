"""Drift: the calls of each model are watched, and who reviews it is told when they are not what they were.

Looked at is a sample: of every ten minutes the first SAMPLE calls of a model, once they had the time to be settled, and
what was said of its answers. A change is written down with evidence and told as an event; what it means is for a person
to say. The figures that led to it are seen by who offers the model and by who reviews; the log says that there was a change,
and in what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field
from sqlalchemy import exists, select
from sqlalchemy.orm import aliased

from gongqi.kernel.flows import Run
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read
from gongqi.resources.serving import metering
from gongqi.resources.serving.drift_models import Drift, DriftWatch
from gongqi.resources.serving.drifting import STREAMS, Change, change_in, kept
from gongqi.resources.serving.endpoints import ID
from gongqi.resources.serving.events import DriftFound
from gongqi.resources.serving.feedback_models import Feedback
from gongqi.resources.serving.models import ModelRoute, Usage
from gongqi.resources.serving.watch import FAULTS

WATCH_EVERY_SECONDS = 600
SETTLED_SECONDS = 600  # after which a call is in the books, unless it still goes on
FIRST_HOURS = 24  # looked back when a model is first watched
SAMPLE = 200  # calls of a model in one look
MAX_ROUTES = 1000  # in one look


class DriftOut(Output):
    """`before` and `after`: medians, in tokens or microseconds, or of shares millionths."""

    id: str
    route: str
    org: str
    release: str | None
    stream: str
    before: int
    after: int
    before_count: int
    after_count: int
    at: datetime
    evidence: str


class ListDrift(Paged):
    route: str | None = Field(None, max_length=ID)


class OneDrift(Input):
    drift: str = Field(max_length=ID)


@read("serving:drift:list")
def list_drift(ctx: Read, input: ListDrift) -> Page[DriftOut]:
    return ctx.listed(Drift, DriftOut, input, to="serving:drift:read")


@read("serving:drift:get")
def get_drift(ctx: Read, input: OneDrift) -> DriftOut:
    return DriftOut.model_validate(ctx.find(Drift, input.drift, to="serving:drift:read"))


# --- for our flow ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class News:
    """What a look found of a route's calls since `since`, None at the first look, up to `upto`: figures by stream."""

    route: str
    since: datetime | None
    upto: datetime
    figures: dict[str, list[int]]


def look(run: Run) -> int:
    """Look at all models; returns how many changes were found. Looking changes nothing and may happen again."""
    found = 0
    for route in run.kernel.look(_watched):
        news = run.kernel.look(lambda ctx, route=route: news_of(ctx, route))
        if news is not None:
            found += run.write(f"watch-{route}", lambda ctx, news=news: judge(ctx, news))
    return found


def news_of(ctx: Read, route: str) -> News | None:
    """None when nothing was called and nothing said."""
    watch = ctx.session.get(DriftWatch, route)
    upto = ctx.now - timedelta(seconds=SETTLED_SECONDS)
    since = watch.upto if watch else upto - timedelta(hours=FIRST_HOURS)
    calls = select(Usage.ending, Usage.input_tokens, Usage.output_tokens, Usage.duration_us)
    calls = calls.where(Usage.route == route, Usage.at > since, Usage.at <= upto, Usage.ending != metering.KEY_REVOKED)
    calls = calls.where(Usage.repeats.is_(None))  # the model was not asked
    earlier = aliased(Feedback)
    said = select(Feedback.rating).where(Feedback.route == route, Feedback.rating.is_not(None))
    same = (earlier.call == Feedback.call, earlier.rating == Feedback.rating, earlier.at < Feedback.at)
    said = said.where(Feedback.at > since, Feedback.at <= upto, ~exists().where(*same))  # not said again with the rest
    rows = ctx.session.execute(calls.order_by(Usage.at, Usage.id).limit(SAMPLE)).all()
    ratings = ctx.session.scalars(said.order_by(Feedback.at, Feedback.id).limit(SAMPLE)).all()
    if not rows and not ratings:
        return None
    whole = [row for row in rows if row.ending == metering.COMPLETE]
    figures = {
        "input-tokens": [row.input_tokens for row in whole],
        "output-tokens": [row.output_tokens for row in whole],
        "latency": [row.duration_us for row in whole],
        "errors": [int(row.ending in FAULTS) for row in rows],
        "down-ratings": [int(rating == "down") for rating in ratings],
    }
    return News(route, watch.upto if watch else None, upto, figures)


def judge(ctx: Write, news: News) -> int:
    """Take the figures to those that are kept, and tell of what has changed; nothing when another look was quicker."""
    watch = ctx.session.get(DriftWatch, news.route)
    if (watch.upto if watch else None) != news.since:
        return 0
    before = watch.streams if watch else {}
    streams, found = {}, 0
    for name in STREAMS:
        figures: Sequence[int] = [*before.get(name, ()), *news.figures[name]]
        change = change_in(name, figures) if news.figures[name] else None
        if change is not None:
            figures = figures[change.begins :]
            tell(ctx, news.route, name, change)
            found += 1
        streams[name] = kept(figures)
    if watch is None:
        watch = ctx.add(DriftWatch(route=news.route, upto=news.upto, streams=streams))
    watch.upto, watch.streams = news.upto, streams
    ctx.session.flush()
    return found


def _watched(ctx: Read) -> list[str]:
    ready = select(ModelRoute.id).where(ModelRoute.state == "ready").order_by(ModelRoute.id)
    return list(ctx.session.scalars(ready.limit(MAX_ROUTES)))


def tell(ctx: Write, route: str, stream: str, change: Change) -> None:
    """A drift, its evidence, and the event that others act on."""
    model = ctx.session.get_one(ModelRoute, route)
    row = ctx.add(
        Drift(
            id=ctx.new_id("drf"), route=route, org=model.org, release=model.release, stream=stream, before=change.before,
            after=change.after, before_count=change.before_count, after_count=change.after_count, at=ctx.now,
            evidence="",
        )
    )  # fmt: skip
    sealed = change._asdict()
    row.evidence = ctx.record(row.id, kind="serving.drift-found", private=sealed, route=route, stream=stream)
    ctx.session.flush()
    ctx.emit(DriftFound(drift=row.id, route=route, org=model.org, release=model.release, stream=stream))
