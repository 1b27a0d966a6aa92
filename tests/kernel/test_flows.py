"""Flows in one process: steps, timers, waits, retries, dead letters, schedules."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from gongqi.kernel import flows
from gongqi.kernel.errors import Refused
from gongqi.kernel.flows import Again, Schedule, StepRow
from gongqi.kernel.worker import Worker
from tests.kernel.flowing import begin, emit, notes, put, state


def test_a_flow_runs_its_steps_once_and_ends_with_its_output(raise_house, village):
    def flow(run, name):
        made = run.write("put", lambda ctx: put(village, name)(ctx) or {"name": name})
        sent = run.call("send", lambda key: f"sent by {key}")
        return {**made, "sent": sent}

    kernel, worker = raise_house(flow)
    flow_id = begin(kernel, name="n")
    assert worker.run_until_idle() == 1
    assert state(kernel, flow_id).output == {"name": "n", "sent": f"sent by {flow_id}:send"}
    assert notes(kernel, village) == ["n"]
    assert worker.run_until_idle() == 0


def test_the_same_kind_and_key_start_once_for_ever(raise_house):
    kernel, worker = raise_house(lambda run: None)
    assert begin(kernel) == begin(kernel)
    worker.run_until_idle()
    assert state(kernel, begin(kernel)).state == "done"
    assert worker.run_until_idle() == 0


def test_a_step_gives_the_same_value_the_first_time_as_when_replayed(raise_house):
    seen = []

    def flow(run):
        seen.append(run.call("pair", lambda _key: (1, (2, 3))))
        run.sleep("nap", 10)

    kernel, worker = raise_house(flow)
    begin(kernel)
    worker.run_until_idle()
    kernel.clock.advance(seconds=11)
    worker.run_until_idle()
    assert seen == [[1, [2, 3]]] * 2


def test_a_step_whose_output_is_not_json_fails_and_keeps_nothing(raise_house, village):
    kernel, worker = raise_house(lambda run: run.write("put", lambda ctx: put(village, "x")(ctx) or object()))
    flow_id = begin(kernel)
    worker.run_until_idle()
    assert "not JSON serializable" in state(kernel, flow_id).error
    assert notes(kernel, village) == []


def test_a_sleeping_flow_holds_no_thread_and_wakes_in_time(raise_house, village):
    def flow(run):
        run.sleep("nap", 60)
        run.write("put", put(village, "awake"))

    kernel, worker = raise_house(flow)
    flow_id = begin(kernel)
    worker.run_until_idle()
    assert state(kernel, flow_id).owner is None
    kernel.clock.advance(seconds=59)
    assert worker.run_until_idle() == 0
    kernel.clock.advance(seconds=1)
    worker.run_until_idle()
    assert notes(kernel, village) == ["awake"]


def test_a_delayed_flow_starts_late(raise_house):
    kernel, worker = raise_house(lambda run: None)
    kernel.transact(lambda ctx: ctx.start_flow("f", key="1", delay_seconds=30), reason="test")
    assert worker.run_until_idle() == 0
    kernel.clock.advance(seconds=30)
    assert worker.run_until_idle() == 1


def test_what_waits_for_the_time_before_a_clock_was_set_back_is_brought_forward(raise_house):
    kernel, worker = raise_house(lambda run: None)
    kernel.transact(lambda ctx: ctx.start_flow("f", key="soon", delay_seconds=30), reason="test")
    kernel.clock.advance(days=-3)
    days = timedelta(days=3).total_seconds()
    assert kernel.db.write(lambda session: flows.bring_forward(session, kernel.clock.now(), seconds=days)) == 1
    assert worker.run_until_idle() == 0
    kernel.clock.advance(seconds=30)
    assert worker.run_until_idle() == 1


def test_what_waits_for_a_date_is_looked_at_early_and_goes_on_waiting(raise_house, village):
    def flow(run):
        run.sleep("nap", 60)
        run.write("put", put(village, "awake"))

    kernel, worker = raise_house(flow)
    begin(kernel)
    worker.run_until_idle()
    kernel.db.write(lambda session: flows.bring_forward(session, kernel.clock.now(), seconds=3600))
    worker.run_until_idle()
    assert notes(kernel, village) == []
    kernel.clock.advance(seconds=60)
    worker.run_until_idle()
    assert notes(kernel, village) == ["awake"]


def wait_flow(village):
    def flow(run, note):
        event = run.wait("edited", "village.note-edited.v1", note, timeout_seconds=100)
        run.write("put", put(village, event["text"] if event else "nothing came"))

    return flow


def test_a_flow_waits_for_the_event_about_its_subject(raise_house, village):
    kernel, worker = raise_house(wait_flow(village))
    begin(kernel, note="n1")
    worker.run_until_idle()
    emit(kernel, village, "n2", "of another")
    assert worker.run_until_idle() == 0
    emit(kernel, village, "n1", "mine")
    worker.run_until_idle()
    assert notes(kernel, village) == ["mine"]


def test_an_event_that_comes_before_the_flow_looks_is_not_missed(raise_house, village):
    kernel, worker = raise_house(wait_flow(village))
    begin(kernel, note="n1")
    kernel.clock.advance(seconds=1)
    emit(kernel, village, "n1", "early")
    worker.run_until_idle()
    assert notes(kernel, village) == ["early"]


def test_an_event_from_before_the_flow_began_is_not_taken_for_an_answer(raise_house, village):
    kernel, worker = raise_house(wait_flow(village))
    emit(kernel, village, "n1", "old")
    kernel.clock.advance(seconds=1)
    begin(kernel, note="n1")
    worker.run_until_idle()
    assert notes(kernel, village) == []


def test_a_wait_ends_at_its_time_out(raise_house, village):
    kernel, worker = raise_house(wait_flow(village))
    begin(kernel, note="n1")
    worker.run_until_idle()
    kernel.clock.advance(seconds=100)
    worker.run_until_idle()
    assert notes(kernel, village) == ["nothing came"]


def test_an_event_whose_clock_was_behind_still_ends_the_wait(raise_house, village):
    kernel, worker = raise_house(wait_flow(village))
    begin(kernel, note="n1")
    worker.run_until_idle()
    kernel.clock.advance(hours=-1)  # the server was restarted after its clock had been set back
    emit(kernel, village, "n1", "from the past")
    worker.run_until_idle()
    assert notes(kernel, village) == ["from the past"]


def test_failures_are_tried_again_later_and_later_until_the_flow_is_a_dead_letter(raise_house):
    tries = []

    def flow(run):
        tries.append(run.kernel.clock.now())
        raise ConnectionError("outside is down")

    kernel, worker = raise_house(flow)
    flow_id = begin(kernel)
    for pause in flows.BACKOFF_SECONDS:
        worker.run_until_idle()
        kernel.clock.advance(seconds=pause - 0.001)
        assert worker.run_until_idle() == 0
        kernel.clock.advance(seconds=0.001)
    worker.run_until_idle()
    assert len(tries) == flows.MAX_FAILURES == len(flows.BACKOFF_SECONDS) + 1
    dead = state(kernel, flow_id)
    assert (dead.state, dead.error) == ("dead", "ConnectionError: outside is down")
    kernel.clock.advance(days=1)
    assert worker.run_until_idle() == 0


def test_a_refusal_is_a_dead_letter_at_once_and_can_be_revived(raise_house, village):
    allowed = []

    def flow(run):
        run.write("put", put(village, "first"))
        if not allowed:
            raise Refused("kernel.unit-unknown", unit="x")
        run.write("more", put(village, "second"))

    kernel, worker = raise_house(flow)
    flow_id = begin(kernel)
    worker.run_until_idle()
    assert state(kernel, flow_id).state == "dead"
    allowed.append(True)
    kernel.transact(lambda ctx: flows.revive(ctx, flow_id), reason="test")
    worker.run_until_idle()
    assert state(kernel, flow_id).state == "done"
    assert notes(kernel, village) == ["first", "second"]  # the recorded step stood


@pytest.mark.parametrize("flow_id", ["flow_none", None])
def test_only_a_dead_flow_can_be_revived(raise_house, flow_id):
    kernel, worker = raise_house(lambda run: None)
    done = begin(kernel)
    worker.run_until_idle()
    with pytest.raises(Refused) as caught:
        kernel.transact(lambda ctx: flows.revive(ctx, flow_id or done), reason="test")
    assert caught.value.code == "kernel.flow-not-dead"


def test_a_flow_of_a_kind_that_no_longer_exists_waits_for_the_operator(raise_house):
    kernel, worker = raise_house(lambda run: None)
    flow_id = kernel.transact(lambda ctx: ctx.start_flow("gone", key="1"), reason="test")
    worker.run_until_idle()
    assert state(kernel, flow_id).error.startswith("kernel.flow-unknown")


def test_a_flow_with_too_many_steps_is_stopped(raise_house, monkeypatch):
    monkeypatch.setattr(flows, "MAX_STEPS", 3)
    kernel, worker = raise_house(lambda run: [run.call(str(number), lambda key: None) for number in range(4)] and None)
    flow_id = begin(kernel)
    worker.run_until_idle()
    assert state(kernel, flow_id).error.startswith("kernel.flow-too-long")


# Endless flows, nudges, schedules


def test_an_endless_flow_forgets_its_steps_and_runs_again_after_its_pause_or_a_nudge(raise_house, village):
    def flow(run):
        run.write("put", put(village, "round"))
        return Again(60)

    kernel, worker = raise_house(flow)
    begin(kernel)
    worker.run_until_idle()
    assert kernel.look(lambda ctx: ctx.session.scalar(select(func.count()).select_from(StepRow))) == 0
    assert worker.run_until_idle() == 0
    worker.nudge({"f"})
    worker.run_until_idle()
    kernel.clock.advance(seconds=60)
    worker.run_until_idle()
    assert notes(kernel, village) == ["round"] * 3


def test_a_nudge_while_the_flow_runs_is_not_lost(raise_house, village):
    nudges = []

    def flow(run):
        run.write("put", put(village, "round"))
        if not nudges:
            nudges.append(True)
            worker.nudge({"f"})
            worker._once()  # another thread of this worker looks for work, and cannot move what is running
        return Again(3600)

    kernel, worker = raise_house(flow)
    begin(kernel)
    worker.run_until_idle()
    assert notes(kernel, village) == ["round"] * 2


def test_a_nudge_between_the_end_of_a_round_and_its_rest_is_not_lost(raise_house, village, monkeypatch):
    kernel, worker = raise_house(lambda run: run.write("put", put(village, "round")) or Again(3600))
    close, nudged = worker._close, []

    def late_nudge(*args, **values):
        if not nudged:
            nudged.append(True)
            worker.nudge({"f"})
            worker._once()
        close(*args, **values)

    monkeypatch.setattr(worker, "_close", late_nudge)
    begin(kernel)
    worker.run_until_idle()
    assert notes(kernel, village) == ["round"] * 2


def test_a_schedule_starts_once_a_slot_however_many_workers_look(raise_house, village):
    def flow(run):
        run.write("put", put(village, str(int(run.created_at.timestamp()) // 60)))

    kernel, _worker = raise_house(flow, schedules=(Schedule("f", 60),))
    for _ in range(3):
        workers = [Worker(kernel, threads=0) for _ in range(4)]
        with ThreadPoolExecutor(len(workers)) as pool:
            list(pool.map(Worker.run_until_idle, workers))  # raises what a look raised
        kernel.clock.advance(seconds=60)
    slot = int(kernel.clock.now().timestamp()) // 60
    assert notes(kernel, village) == [str(slot - 3), str(slot - 2), str(slot - 1)]
