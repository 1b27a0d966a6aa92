"""Flows in one process: steps, timers, waits, retries, dead letters, schedules, deliveries, fencing."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy
from sqlalchemy import func, select

from gongqi.kernel import flows
from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.events import EventRow, Handler
from gongqi.kernel.flows import Again, Flow, FlowRow, Schedule, StepRow
from gongqi.kernel.room import Chore
from gongqi.kernel.verbs import Caller, execute
from gongqi.kernel.worker import Worker


@pytest.fixture
def raise_house(build, village, clock):
    """`raise_house(flow, handlers=..., schedules=...)`: a kernel with the flow `f`, and a worker without threads."""

    def make(flow=None, **more):
        parts = {"flows": (Flow("f", flow),) if flow else ()} | more
        kernel = build(village.house(**parts), record=village.witness, clock=clock)
        return kernel, Worker(kernel, threads=0)

    return make


def begin(kernel, key="1", **payload) -> str:
    return kernel.transact(lambda ctx: ctx.start_flow("f", key=key, **payload), reason="test")


def state(kernel, flow_id) -> FlowRow:
    return kernel.look(lambda ctx: ctx.session.get(FlowRow, flow_id))


def notes(kernel, village) -> list[str]:
    return kernel.look(lambda ctx: list(ctx.session.scalars(select(village.Note.text).order_by(village.Note.text))))


def put(village, text):
    return lambda ctx: ctx.add(village.Note(id=ctx.new_id("note"), org="o", text=text)) and None


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


def emit(kernel, village, note, text):
    kernel.transact(lambda ctx: ctx.emit(village.NoteEdited(note=note, text=text)), reason="test")


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


# Events and their deliveries


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


# Fencing


def test_a_worker_that_was_overtaken_can_write_nothing(raise_house, village):
    first_inside, second_done, results = threading.Event(), threading.Event(), []

    def flow(run):
        me = threading.current_thread().name
        run.call("outside", lambda key: me)
        if me == "first":
            first_inside.set()
            second_done.wait(20)
        run.write("put", put(village, me))
        results.append(me)
        return me

    kernel, slow = raise_house(flow)
    flow_id = begin(kernel)
    thread = threading.Thread(target=slow.run_until_idle, name="first", kwargs={"limit": 1})
    thread.start()
    assert first_inside.wait(20)
    kernel.clock.advance(seconds=flows.LEASE_SECONDS + 1)
    quick = Worker(kernel, threads=0)
    threading.current_thread().name, mine = "second", threading.current_thread().name
    try:
        quick.run_until_idle()
    finally:
        threading.current_thread().name = mine
    second_done.set()
    thread.join(20)
    assert results == ["second"]
    assert notes(kernel, village) == ["second"]
    ended = state(kernel, flow_id)
    assert (ended.state, ended.output, ended.attempt) == ("done", "second", 2)


@pytest.mark.parametrize("way", ["write", "call", "sleep", "wait", "fail", "finish", "again"])
def test_every_way_to_go_on_is_fenced(raise_house, village, way):
    """The lease is lost just before each kind of record; the row must stay as the new owner left it."""

    def flow(run):
        kernel.db.write(lambda session: run.set(session, owner="another", attempt=99, wake_at=lease))
        if way == "write":
            run.write("put", put(village, "x"))
        elif way == "call":
            run.call("send", lambda key: "x")
        elif way == "sleep":
            run.sleep("nap", 1)
        elif way == "wait":
            run.wait("edited", "village.note-edited.v1", "n", timeout_seconds=1)
        elif way == "fail":
            raise ConnectionError
        return Again(1) if way == "again" else "finished"

    kernel, worker = raise_house(flow)
    lease = kernel.clock.now() + timedelta(seconds=30)
    flow_id = begin(kernel)
    worker.run_until_idle()
    row = state(kernel, flow_id)
    assert (row.state, row.owner, row.attempt, row.wake_at, row.output) == ("open", "another", 99, lease, None)
    assert row.failures == 0
    assert notes(kernel, village) == []
    assert kernel.look(lambda ctx: ctx.session.scalar(select(func.count()).select_from(StepRow))) == 0


def test_a_database_that_fails_half_way_through_a_batch_leaves_no_delivery_behind(raise_house, village, monkeypatch):
    kernel, worker = raise_house(
        handlers=(Handler(village.NoteEdited, "hear", lambda ctx, event: put(village, event.text)(ctx)),)
    )
    for text in "abc":
        emit(kernel, village, "n", text)
    advance = worker._advance

    def fail_once(run, row):
        monkeypatch.setattr(worker, "_advance", advance)
        raise ConnectionError("the database went away")

    monkeypatch.setattr(worker, "_advance", fail_once)
    with pytest.raises(ConnectionError):
        worker.run_until_idle()
    assert worker._running == set()  # or the heartbeat would keep what nobody runs
    kernel.clock.advance(seconds=flows.LEASE_SECONDS + 1)
    worker.run_until_idle()
    assert notes(kernel, village) == ["a", "b", "c"]


def test_threads_run_what_is_committed_and_stop_when_asked(build, village):
    kernel = build(village.house(flows=(Flow("f", lambda run: run.write("put", put(village, "x"))),)))
    worker = Worker(kernel, threads=2)
    kernel.nudge = worker.nudge
    worker.start()
    try:
        for number in range(10):
            begin(kernel, key=str(number))
        done = threading.Event()
        for _ in range(200):
            if len(notes(kernel, village)) == 10:
                break
            done.wait(0.05)
    finally:
        worker.stop()
    assert notes(kernel, village) == ["x"] * 10
    assert not any(thread.is_alive() for thread in worker._threads)


def test_a_heartbeat_keeps_a_long_step_from_being_overtaken(build, village, monkeypatch):
    monkeypatch.setattr(flows, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr(flows, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(flows, "POLL_SECONDS", 0.05)
    runs = []

    def flow(run):
        runs.append(1)
        run.call("slow", lambda key: threading.Event().wait(1.0))

    kernel = build(village.house(flows=(Flow("f", flow),)))
    worker = Worker(kernel, threads=2)
    flow_id = begin(kernel)
    worker.start()
    try:
        for _ in range(100):
            if state(kernel, flow_id).state == "done":
                break
            threading.Event().wait(0.05)
    finally:
        worker.stop()
    assert len(runs) == 1
    assert state(kernel, flow_id).attempt == 1


def test_a_flow_that_takes_its_process_down_with_it_ends_as_a_dead_letter(raise_house):
    ran = []
    kernel, worker = raise_house(lambda run: ran.append(run.id))
    flow_id = begin(kernel)

    def claim_and_die() -> None:
        assert kernel.db.write(worker._claim)
        kernel.clock.advance(seconds=flows.LEASE_SECONDS + 1)

    for _ in range(flows.MAX_CRASHES):
        claim_and_die()
    worker.run_until_idle()
    dead = state(kernel, flow_id)
    assert (dead.state, ran) == ("dead", [])
    assert dead.error.startswith("kernel.flow-kills")
    kernel.transact(lambda ctx: flows.revive(ctx, flow_id), reason="test")
    worker.run_until_idle()
    assert ran == [flow_id]


def test_a_restart_does_not_wait_for_the_leases_of_a_dead_process_of_this_machine(raise_house):
    ran = []
    kernel, worker = raise_house(lambda run: ran.append(run.id))
    flow_id = begin(kernel)
    ended = subprocess.Popen(["true"])
    ended.wait()
    worker.name = f"{socket.gethostname()}:{ended.pid}:00000000"
    assert kernel.db.write(worker._claim)
    fresh = Worker(kernel, threads=0)
    assert fresh.run_until_idle() == 0
    assert fresh.release_dead() == 1
    fresh.run_until_idle()
    assert ran == [flow_id]


@pytest.mark.parametrize(
    "owner", [f"{socket.gethostname()}:{os.getpid()}:00000000", "elsewhere:1:00000000"], ids=["living", "distant"]
)
def test_the_leases_of_living_and_of_distant_workers_are_left_alone(raise_house, owner):
    kernel, worker = raise_house(lambda run: None)
    begin(kernel)
    worker.name = owner
    assert kernel.db.write(worker._claim)
    assert Worker(kernel, threads=0).release_dead() == 0


def test_each_process_does_its_chores_again_and_again_and_once_more_at_the_end(raise_house):
    done, failed = threading.Event(), threading.Event()
    last: list[str] = []

    def often(_kernel) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError("no room")
        done.set()

    chores = (Chore("often", 0.01, often), Chore("seldom", 3600, lambda kernel: last.append("seldom")))
    _, worker = raise_house(chores=chores)
    worker.start()
    assert done.wait(10), "one that failed gets its next turn"
    assert last == []
    worker.stop()
    assert last == ["seldom"]
