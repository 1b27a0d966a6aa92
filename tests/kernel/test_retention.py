"""What the kernel forgets, and what it must not."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.events import EventRow, Handler
from gongqi.kernel.flows import DELIVERY, Flow, FlowRow, Schedule, StepRow, revive
from gongqi.kernel.ids import earliest, mint
from gongqi.kernel.retention import flows as retention
from gongqi.kernel.verbs import Caller, IdempotencyRow, execute
from gongqi.kernel.worker import Worker

KEPT = {"days": retention.DAYS - 1}


@pytest.fixture
def house(build, village, clock):
    """`house(handle, flow)`: a kernel whose notes, when edited, are delivered to `handle`; and its worker."""

    def make(handle=lambda ctx, event: None, flow=lambda run: None):
        kernel = build(
            village.house(
                handlers=(Handler(village.NoteEdited, "village.reader", handle),),
                flows=(Flow("f", flow), Flow("sweep", lambda run: run.write("swept", lambda ctx: 1)), *retention.FLOWS),
                schedules=(Schedule("sweep", 3600), *retention.SCHEDULES),
            ),
            record=village.witness,
            clock=clock,
        )
        worker = Worker(kernel, threads=0)
        worker.run_until_idle()
        return kernel, worker

    return make


def edit(kernel, village, key: str = "") -> str:
    writer = village.person("a", "o")
    made = execute(kernel, village.create, Caller(writer), village.Create(org="o", text="as it was"))
    execute(
        kernel, village.edit, Caller(writer, idempotency_key=key or None), village.Edit(note=made.id, text="as it is")
    )
    return made.id


def count(kernel, model, *where) -> int:
    return kernel.look(lambda ctx: ctx.session.scalar(select(func.count()).select_from(model).where(*where)))


def deliveries(kernel) -> tuple[int, int]:
    """(deliveries, events)"""
    return count(kernel, FlowRow, FlowRow.kind == DELIVERY), count(kernel, EventRow)


def test_done_deliveries_and_their_events_are_forgotten_in_time(house, village, clock):
    kernel, worker = house()
    for _ in range(3):
        edit(kernel, village)
    worker.run_until_idle()
    clock.advance(**KEPT)
    worker.run_until_idle()
    assert deliveries(kernel) == (3, 3)
    edit(kernel, village)
    clock.advance(days=2)
    worker.run_until_idle()
    assert deliveries(kernel) == (1, 1)


def test_more_than_a_batch_is_forgotten_at_once(house, village, clock, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    kernel, worker = house()
    for number in range(5):
        edit(kernel, village, key=f"key {number}")
    worker.run_until_idle()
    clock.advance(days=retention.DAYS + 1)
    worker.run_until_idle()
    assert deliveries(kernel) == (0, 0) and count(kernel, IdempotencyRow) == 0


def test_a_dead_delivery_keeps_its_event_and_can_be_revived(house, village, clock):
    heard: list[str] = []

    def handle(_ctx, event) -> None:
        if not heard:
            heard.append("refused")
            raise Refused("kernel.broken")
        heard.append(event.text)

    kernel, worker = house(handle)
    edit(kernel, village)
    worker.run_until_idle()
    clock.advance(days=400)
    worker.run_until_idle()
    assert deliveries(kernel) == (1, 1)
    dead = kernel.look(lambda ctx: ctx.session.scalar(select(FlowRow.id).where(FlowRow.state == "dead")))
    kernel.transact(lambda ctx: revive(ctx, dead), reason="test")
    worker.run_until_idle()
    assert heard == ["refused", "as it is"]
    clock.advance(days=retention.DAYS + 1)
    worker.run_until_idle()
    assert deliveries(kernel) == (0, 0)


def test_an_event_that_has_woken_a_flow_waits_for_it(house, village, clock):
    """The flow's worker is away for longer than events are kept; it still learns what it waited for."""

    def flow(run, note):
        return run.wait("edited", village.NoteEdited.kind, note, timeout_seconds=86_400 * 365)

    kernel, worker = house(flow=flow)
    writer = village.person("a", "o")
    made = execute(kernel, village.create, Caller(writer), village.Create(org="o", text="as it was"))
    waiting = kernel.transact(lambda ctx: ctx.start_flow("f", key="1", note=made.id), reason="test")
    worker.run_until_idle()
    execute(kernel, village.edit, Caller(writer), village.Edit(note=made.id, text="as it is"))
    far = clock.now() + timedelta(days=retention.DAYS + 5)

    def hold(session) -> None:
        session.get(FlowRow, waiting).wake_at = far

    kernel.db.write(hold)
    clock.advance(days=retention.DAYS + 2)
    worker.run_until_idle()
    assert count(kernel, EventRow) == 1
    clock.advance(days=4)
    worker.run_until_idle()
    assert kernel.look(lambda ctx: ctx.session.get(FlowRow, waiting).output)["text"] == "as it is"
    clock.advance(days=1)
    worker.run_until_idle()
    assert count(kernel, EventRow) == 0


def test_flows_of_a_schedule_go_and_flows_of_a_key_stay(house, clock):
    kernel, worker = house()
    asked = [
        kernel.transact(lambda ctx, kind=kind: ctx.start_flow(kind, key="asked for"), reason="test")
        for kind in ("f", "sweep")
    ]
    worker.run_until_idle()
    clock.advance(days=retention.DAYS + 1)
    worker.run_until_idle()
    left = kernel.look(lambda ctx: list(ctx.session.scalars(select(FlowRow).order_by(FlowRow.id))))
    slots = [row for row in left if row.id not in asked]
    assert len(left) == len(slots) + 2
    assert {row.created_at for row in slots} == {clock.now()} and {row.kind for row in slots} == {
        "sweep",
        "kernel.forget",
    }
    steps = {row.flow_id for row in kernel.look(lambda ctx: list(ctx.session.scalars(select(StepRow))))}
    assert steps <= {row.id for row in left} and asked[1] in steps


def test_a_key_is_a_promise_for_its_time_and_then_a_new_one(house, village, clock):
    kernel, worker = house()
    caller = Caller(village.person("a", "o"), idempotency_key="once")
    given = village.Create(org="o", text="only once")
    first = execute(kernel, village.create, caller, given)
    clock.advance(**KEPT)
    worker.run_until_idle()
    assert execute(kernel, village.create, caller, given) == first
    clock.advance(days=2)
    worker.run_until_idle()
    assert execute(kernel, village.create, caller, given) != first


def test_a_delivery_whose_event_is_gone_says_so(house, village):
    """What the order of deletion prevents: were it ever to happen, it would not pass in silence."""
    kernel, worker = house()
    edit(kernel, village)
    kernel.db.write(lambda session: session.delete(session.scalar(select(EventRow))))
    worker.run_until_idle()
    row = kernel.look(lambda ctx: ctx.session.scalar(select(FlowRow).where(FlowRow.kind == DELIVERY)))
    assert row.error.startswith(Broken("kernel.event-lost", event="x").code)


def test_the_earliest_id_parts_what_was_minted_before_from_what_came_after():
    moment = datetime.fromisoformat("2026-03-01T12:00:00.500+00:00")
    before, after = mint("evt", moment - timedelta(milliseconds=1)), mint("evt", moment)
    assert before < earliest("evt", moment) < after
    assert len(earliest("evt", moment)) == len(after)
