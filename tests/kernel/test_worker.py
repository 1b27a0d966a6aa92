"""Workers: fencing, threads, heartbeats, leases of the dead, chores."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from gongqi.kernel import flows
from gongqi.kernel.events import Handler
from gongqi.kernel.flows import Again, Flow, StepRow
from gongqi.kernel.room import Chore
from gongqi.kernel.worker import Worker
from tests.kernel.flowing import begin, emit, notes, put, state


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


@pytest.mark.heavy
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
