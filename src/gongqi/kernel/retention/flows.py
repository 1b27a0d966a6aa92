"""What the kernel keeps only for a while: answers kept for retries, deliveries that are done, and their events.

Kept for ever: the two books, and every flow that someone started by a key, because a key starts one flow for ever.
Kept until someone looks: whatever is dead, with its event, so that it can be revived. Deleted `DAYS` after they were
done with: deliveries, flows that a schedule started, events that no delivery and no waiting flow still needs, and what
idempotency keys had done. So an Idempotency-Key is a promise for `DAYS`, and `Run.wait` looks back no further.

A key that moves money is two promises. The caller's, on a verb, is this one. The ledger's own, which names a hold, a call
or a split, is in the book and holds for ever, so that no delivery and no revived flow books anything twice.

Each batch is a transaction of its own, small enough that nobody waits for it.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, or_, select

from gongqi.kernel.events import EventRow
from gongqi.kernel.flows import DELIVERY, Flow, FlowRow, Run, Schedule, StepRow
from gongqi.kernel.ids import earliest
from gongqi.kernel.verbs import IdempotencyRow, Write

DAYS = 30  # longer than any program retries, and than an operator takes to ask what a delivery did
BATCH = 500  # rows a transaction
MAX_BATCHES = 4000  # a day's work at most; the rest is the next day's
DAY_SECONDS = 86_400


def forget(run: Run) -> None:
    """Delete what has had its time, batch by batch."""
    for what, batch in (("flows", _flows), ("events", _events), ("answers", _answers)):
        for number in range(MAX_BATCHES):
            if run.write(f"{what} {number}", batch) < BATCH:
                break


def _flows(ctx: Write) -> int:
    until = ctx.now - timedelta(days=DAYS)
    scheduled = [FlowRow.key.startswith(f"{each.kind}@", autoescape=True) for each in ctx.kernel.house.schedules]
    done = (
        select(FlowRow.id)
        .where(FlowRow.id < earliest("flow", until), FlowRow.state == "done", FlowRow.finished_at <= until)
        .where(or_(FlowRow.kind == DELIVERY, *scheduled))
        .order_by(FlowRow.id)
        .limit(BATCH)
    )
    ids = list(ctx.session.scalars(done))
    ctx.session.execute(delete(StepRow).where(StepRow.flow_id.in_(ids)))
    ctx.session.execute(delete(FlowRow).where(FlowRow.id.in_(ids)))
    return len(ids)


def _events(ctx: Write) -> int:
    undone = FlowRow.state.in_(["open", "dead"])
    undelivered = select(FlowRow.payload["event"].as_string()).where(undone, FlowRow.kind == DELIVERY)
    waking = select(FlowRow.woken_by).where(undone, FlowRow.woken_by.is_not(None))
    old = (
        select(EventRow.id)
        .where(EventRow.id < earliest("evt", ctx.now - timedelta(days=DAYS)))
        .where(EventRow.id.not_in(undelivered), EventRow.id.not_in(waking))
        .order_by(EventRow.id)
        .limit(BATCH)
    )
    ids = list(ctx.session.scalars(old))
    ctx.session.execute(delete(EventRow).where(EventRow.id.in_(ids)))
    return len(ids)


def _answers(ctx: Write) -> int:
    until = ctx.now - timedelta(days=DAYS)
    old = select(IdempotencyRow).where(IdempotencyRow.at <= until).order_by(IdempotencyRow.at).limit(BATCH)
    rows = list(ctx.session.scalars(old))
    for row in rows:
        ctx.session.delete(row)
    return len(rows)


FLOWS = (Flow("kernel.forget", forget),)
SCHEDULES = (Schedule("kernel.forget", DAY_SECONDS),)
