"""Feedback: what callers say of answers they got, taken under the agreement of the model that was asked.

It is taken from the key that made the call, about a call that is settled, for MAX_DAYS. Of a call each kind (rating,
outcome, correction) counts once: said again while it waits, the later stands in the place of the earlier, which is
removed with that reason; once it is on its way into a dataset nothing replaces it. What was asked and answered is not
known here: content is what the caller chooses to give.

What waits under terms that are no longer in force goes nowhere: it was given on others. Whatever happens to feedback,
its row stays and says so; content goes as soon as it is in a dataset, is removed, or its days are over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import Field
from sqlalchemy import ColumnElement, func, select, update

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.serving import metering
from gongqi.resources.serving.agreements import Agreement
from gongqi.resources.serving.endpoints import ID
from gongqi.resources.serving.feedback_models import Feedback
from gongqi.resources.serving.models import ModelRoute, Usage
from gongqi.resources.serving.plane.opinions import KINDS, Opinion
from gongqi.resources.serving.rollouts import is_certain

MAX_DAYS = 30  # after the call: who learns the outcome later than that reports it with a new call
MAX_OF_A_CALL = 20  # said anew; each leaves a row
MAX_WAITING_OF_A_KEY = 2000  # 256 MiB of content at the very most; it goes with the next return or with its days
SETTLING_SECONDS = 60  # a call this young may not be in the books yet
RETRY_SECONDS = 2  # the books lag by one
BATCH = 500  # rows named in one statement, and removed in one transaction
MAX_BATCH_BYTES = 32 << 20  # of content on its way at once: it is in memory while its lines are made
WAITING, CLAIMED, RETURNED, REMOVED = "waiting", "claimed", "returned", "removed"
REPLACED, AGREEMENT_ENDED, DAYS_OVER, WITHDRAWN = "replaced", "agreement-ended", "days-over", "withdrawn"


class FeedbackOut(Output):
    """`release` None: an outside model, or one whose release has changed since the call."""

    id: str
    call: str
    org: str
    key: str
    route: str
    release: str | None
    called_at: datetime
    kinds: list[str]
    rating: str | None
    agreement: str
    state: str
    batch: str | None
    reason: str | None
    at: datetime
    until: datetime | None
    ended_at: datetime | None
    evidence: str


class FeedbackDetail(FeedbackOut):
    """`content` for those who may see it, while it is there."""

    content: dict[str, Any] | None


class ListFeedback(Paged):
    route: str | None = Field(None, max_length=ID)
    org: str | None = Field(None, max_length=ID)
    call: str | None = Field(None, max_length=ID)
    state: str | None = Field(None, pattern=f"^({WAITING}|{CLAIMED}|{RETURNED}|{REMOVED})$")


class OneFeedback(Input):
    feedback: str = Field(max_length=ID)


@verb("serving:feedback:withdraw", evidence="serving.feedback-withdrawn")
def withdraw(ctx: Write, input: OneFeedback) -> FeedbackOut:
    """Take back what still waits. What is in a dataset already is for its steward."""
    row = ctx.find(Feedback, input.feedback, to="serving:feedback:withdraw")
    if row.state != WAITING:
        raise Refused("serving.feedback-ended", feedback=row.id, state=row.state)
    _end(ctx, Feedback.id == row.id, state=REMOVED, reason=WITHDRAWN)
    ctx.session.refresh(row)
    ctx.record(row.id, withhold=True, route=row.route)
    return FeedbackOut.model_validate(row)


@read("serving:feedback:list")
def list_feedback(ctx: Read, input: ListFeedback) -> Page[FeedbackOut]:
    return ctx.listed(Feedback, FeedbackOut, input, to="serving:feedback:read")


@read("serving:feedback:get")
def get_feedback(ctx: Read, input: OneFeedback) -> FeedbackDetail:
    row = ctx.find(Feedback, input.feedback, to="serving:feedback:read")
    shown = row.content is not None and ctx.may("serving:feedback:content", row)
    content = orjson.loads(row.content) if shown and row.content else None
    return FeedbackDetail(**FeedbackOut.model_validate(row).model_dump(), content=content)


# --- for the gateway -------------------------------------------------------------------------------------------------


def receive(ctx: Write, key: str, opinion: Opinion) -> dict[str, Any]:
    """Take an opinion from who shows `key`, and say what became of it.

    Raises Refused: serving.usage-unknown, serving.feedback-without-agreement, serving.feedback-agreement-differs,
    serving.feedback-late, serving.feedback-nothing-answered, serving.feedback-taken, serving.feedback-too-many;
    Unavailable serving.feedback-early.
    """
    call = _own_call(ctx, key, opinion.id)
    route = ctx.session.get_one(ModelRoute, call.route)
    terms = _agreed(route, opinion)
    if call.ending == metering.REFUSED:
        raise Refused("serving.feedback-nothing-answered", call=call.id)
    if ctx.now - call.at > timedelta(days=MAX_DAYS):
        raise Refused("serving.feedback-late", days=MAX_DAYS)
    before = list(ctx.session.scalars(select(Feedback).where(Feedback.call == call.id).order_by(Feedback.at)))
    taken = {kind for row in before if row.state in (CLAIMED, RETURNED) for kind in row.kinds}
    if again := sorted(taken & set(opinion.kinds)):
        raise Refused("serving.feedback-taken", kinds=", ".join(again))
    _check_room(ctx, key, before)
    waiting = [row for row in before if row.state == WAITING]
    content, rating, kinds = _joined(opinion, [row for row in waiting if row.agreement == terms.sha256])
    replaced = sorted({kind for row in waiting for kind in row.kinds} & set(opinion.kinds))
    for row in waiting:
        reason = REPLACED if row.agreement == terms.sha256 else AGREEMENT_ENDED
        _end(ctx, Feedback.id == row.id, state=REMOVED, reason=reason)
    days = terms.retention_days
    made = ctx.add(
        Feedback(
            id=ctx.new_id("fbk"), call=call.id, org=call.org, key=key, route=route.id,
            release=_answered_by(ctx, route, call), called_at=call.at, kinds=kinds,
            rating=rating, agreement=terms.sha256, content=orjson.dumps(content), state=WAITING, batch=None, reason=None,
            at=ctx.now, until=None if days is None else ctx.now + timedelta(days=days), ended_at=None, evidence="",
        )
    )  # fmt: skip
    sealed = {"org": call.org, "key": key, "call": call.id, "kinds": kinds}
    made.evidence = ctx.record(
        made.id, kind="serving.feedback-received", withhold=True, private=sealed, route=route.id, agreement=terms.sha256
    )
    ctx.session.flush()
    return {
        "id": made.id, "object": "feedback", "call": call.id, "state": WAITING, "kinds": kinds, "replaced": replaced,
        "agreement": terms.sha256, "until": None if made.until is None else made.until.isoformat(),
    }  # fmt: skip


def _answered_by(ctx: Read, route: ModelRoute, call: Usage) -> str | None:
    """The release, where it is certain: the model had it then, and it was not another that was on trial."""
    if call.snapshot < route.release_from or not is_certain(ctx, route.id, call.endpoint, call.snapshot):
        return None
    return route.release


def _own_call(ctx: Read, key: str, id: str) -> Usage:
    """The settled call of this key. Others' are not even admitted to be."""
    call = ctx.session.get(Usage, id)
    if call is not None and call.key == key:
        return call
    if call is None and 0 <= ctx.now.timestamp() - _began(id) < SETTLING_SECONDS:
        raise Unavailable("serving.feedback-early", retry_after_seconds=RETRY_SECONDS)
    raise Refused("serving.usage-unknown", usage=id)


def _began(id: str) -> float:
    """When a call began, in seconds of the epoch, as its id says it (`plane.door`); 0 for what is no id."""
    try:
        return int(id.removeprefix("gen_")[:12], 16) / 1000
    except ValueError:
        return 0.0


def _agreed(route: ModelRoute, opinion: Opinion) -> Agreement:
    if route.agreement is None or route.state != "ready":
        raise Refused("serving.feedback-without-agreement", model=route.name)
    terms = Agreement.model_validate(route.agreement)
    if opinion.agreement != terms.sha256:
        raise Refused("serving.feedback-agreement-differs", model=route.name, sha256=terms.sha256)
    return terms


def _check_room(ctx: Read, key: str, before: Collection[Feedback]) -> None:
    if len(before) >= MAX_OF_A_CALL:
        raise Refused("serving.feedback-too-many", limit=MAX_OF_A_CALL)
    waiting = select(func.count()).select_from(Feedback).where(Feedback.key == key, Feedback.state == WAITING)
    if (ctx.session.scalar(waiting) or 0) >= MAX_WAITING_OF_A_KEY:
        raise Refused("serving.feedback-too-many", limit=MAX_WAITING_OF_A_KEY)


def _joined(opinion: Opinion, before: Iterable[Feedback]) -> tuple[dict[str, Any], str | None, list[str]]:
    """What is now said of the call: the opinion, and of what waited that which it does not say anew."""
    content: dict[str, Any] = {}
    rating, kinds = None, set(opinion.kinds)
    for row in before:
        content |= orjson.loads(row.content or b"{}")
        rating, kinds = row.rating or rating, kinds | set(row.kinds)
    if opinion.rating is not None:
        content.pop("reasons", None)
    if opinion.messages is not None or opinion.input is not None:
        content = {name: value for name, value in content.items() if name not in ("messages", "input")}
    return content | opinion.content, opinion.rating or rating, [kind for kind in KINDS if kind in kinds]


# --- for the room above that returns it: the caller has authorised ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """Feedback on its way into a dataset."""

    id: str
    org: str
    route: str
    release: str | None
    called_at: datetime
    until: datetime | None
    rating: str | None
    content: dict[str, Any]


def claim_feedback(ctx: Write, route: str, agreement: str, batch: str, limit: int) -> int:
    """Take what waits under this agreement, for a batch; remove what waits under another. Returns how many were taken."""
    waiting = (Feedback.route == route, Feedback.state == WAITING)
    _end(ctx, *waiting, Feedback.agreement != agreement, state=REMOVED, reason=AGREEMENT_ENDED)
    lasting = Feedback.until.is_(None) | (Feedback.until > ctx.now)
    sizes = select(Feedback.id, func.length(Feedback.content)).where(*waiting, lasting).order_by(Feedback.id)
    ids, total = [], 0
    for id, size in ctx.session.execute(sizes.limit(limit)):
        total += size
        if ids and total > MAX_BATCH_BYTES:
            break
        ids.append(id)
    for some in _parts(ids):
        claimed = update(Feedback).where(Feedback.id.in_(some)).values(state=CLAIMED, batch=batch)
        ctx.session.execute(claimed.execution_options(synchronize_session=False))
    return len(ids)


def claimed_feedback(ctx: Read, batch: str) -> list[Said]:
    rows = ctx.session.scalars(select(Feedback).where(Feedback.batch == batch, Feedback.state == CLAIMED))
    return [
        Said(
            row.id, row.org, row.route, row.release, row.called_at, row.until, row.rating,
            orjson.loads(row.content or b"{}"),
        )
        for row in rows
    ]  # fmt: skip


def end_feedback(ctx: Write, batch: str, removed: Mapping[str, Sequence[str]]) -> int:
    """A batch is in its dataset, but for what is `removed`, by reason. Returns how many were returned."""
    claimed = (Feedback.batch == batch, Feedback.state == CLAIMED)
    for reason, ids in removed.items():
        for some in _parts(ids):
            _end(ctx, *claimed, Feedback.id.in_(some), state=REMOVED, reason=reason)
    return _end(ctx, *claimed, state=RETURNED, reason=None)


def free_feedback(ctx: Write, batch: str) -> None:
    """The batch came to nothing: what it took waits again."""
    freed = update(Feedback).where(Feedback.batch == batch, Feedback.state == CLAIMED)
    ctx.session.execute(freed.values(state=WAITING, batch=None).execution_options(synchronize_session=False))


def feedback_totals(ctx: Read, route: str) -> dict[str, int]:
    """By state, how much feedback there is on a model's answers."""
    query = select(Feedback.state, func.count()).where(Feedback.route == route).group_by(Feedback.state)
    return dict.fromkeys((WAITING, CLAIMED, RETURNED, REMOVED), 0) | {
        state: int(count) for state, count in ctx.session.execute(query)
    }


# --- within ----------------------------------------------------------------------------------------------------------


def forget_over(ctx: Write) -> int:
    """Remove a batch of what has waited for its days; returns how many."""
    over = select(Feedback.id).where(Feedback.state == WAITING, Feedback.until <= ctx.now)
    oldest = over.order_by(Feedback.until).limit(BATCH)
    return _end(ctx, Feedback.id.in_(oldest), state=REMOVED, reason=DAYS_OVER)


def _end(ctx: Write, *which: ColumnElement[bool], state: str, reason: str | None) -> int:
    """What is over keeps its row and loses its content; returns how many."""
    ended = update(Feedback).where(*which).values(state=state, reason=reason, content=None, ended_at=ctx.now)
    return ctx.session.execute(ended.execution_options(synchronize_session=False)).rowcount  # type: ignore[attr-defined]


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
