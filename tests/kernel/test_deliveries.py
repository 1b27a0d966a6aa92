"""Events and their deliveries: every handler once, and only of what was committed."""

from __future__ import annotations

import pytest
import sqlalchemy
from sqlalchemy import select

from gongqi.kernel import flows
from gongqi.kernel.errors import Broken
from gongqi.kernel.events import EventRow, Handler
from gongqi.kernel.flows import FlowRow
from gongqi.kernel.verbs import Caller, execute
from tests.kernel.flowing import emit, notes, put


def test_an_event_reaches_every_handler_once_and_only_if_the_verb_committed(raise_house, village):
    kernel, worker = raise_house(
        handlers=tuple(
            Handler(village.NoteEdited, name, lambda ctx, event, name=name: put(village, f"{name}:{event.text}")(ctx))
            for name in ("copy", "count")
        )
    )
    alice = village.person("alice", "o")
    note = execute(kernel, village.create, Caller(alice), village.Create(org="o", text="0"))
    execute(kernel, village.edit, Caller(alice), village.Edit(note=note.id, text="1"))

    def fails(ctx):
        ctx.emit(village.NoteEdited(note=note.id, text="2"))
        raise Broken("kernel.broken")

    with pytest.raises(Broken):
        kernel.transact(fails, reason="test")
    worker.run_until_idle()
    assert notes(kernel, village) == ["1", "copy:1", "count:1"]


def test_a_handler_that_fails_is_tried_again_and_leaves_nothing_of_the_failure(raise_house, village):
    down = [True]

    def handle(ctx, event):
        put(village, f"heard {event.text}")(ctx)
        ctx.session.flush()
        if down:
            down.pop()
            raise ConnectionError

    kernel, worker = raise_house(handlers=(Handler(village.NoteEdited, "hear", handle),))
    emit(kernel, village, "n", "it")
    worker.run_until_idle()
    assert notes(kernel, village) == []
    kernel.clock.advance(seconds=1)
    worker.run_until_idle()
    assert notes(kernel, village) == ["heard it"]


def test_a_hundred_deliveries_need_few_claims(raise_house, village):
    kernel, worker = raise_house(
        handlers=(Handler(village.NoteEdited, "hear", lambda ctx, event: put(village, event.text)(ctx)),)
    )

    def burst(ctx):
        for number in range(100):
            ctx.emit(village.NoteEdited(note="n", text=f"{number:03}"))

    kernel.transact(burst, reason="test")
    assert worker.run_until_idle() == -(-100 // flows.MAX_DELIVERIES)
    assert notes(kernel, village) == [f"{number:03}" for number in range(100)]


def test_a_delivery_whose_event_is_gone_is_our_bug_and_says_so(raise_house, village):
    kernel, worker = raise_house(handlers=(Handler(village.NoteEdited, "hear", lambda ctx, event: None),))
    emit(kernel, village, "n", "it")
    kernel.db.write(lambda session: session.execute(sqlalchemy.delete(EventRow)))
    worker.run_until_idle()
    assert kernel.look(lambda ctx: ctx.session.scalar(select(FlowRow.error))).startswith("kernel.event-lost")
