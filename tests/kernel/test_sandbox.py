"""A child that meets hostile bytes harms one request and nothing else, and the next one knows nothing of it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from gongqi.kernel.errors import Broken
from gongqi.kernel.sandbox import Bounds, Outcome, Spawner, run_file

HOSTILE = Path(__file__).parents[1] / "sim" / "hostile.py"
BOUNDS = Bounds(cpu_seconds=1, memory_bytes=1 << 30, processes=0)


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    made = Spawner(HOSTILE)
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    path = tmp_path / "upload"
    path.write_bytes(b"what was uploaded")
    with path.open("rb") as opened:
        yield opened


def ask(spawner: Spawner, file: BinaryIO, trick: str, *, wait_seconds: float = 20, **more: Any) -> Outcome:
    return spawner.ask({"trick": trick, **more}, file, bounds=BOUNDS, wait_seconds=wait_seconds)


def process_of(spawner: Spawner) -> int:
    assert spawner._process is not None
    return spawner._process.pid


def test_a_child_reads_the_file_it_was_handed(spawner, file):
    assert ask(spawner, file, "read") == Outcome("done", "what was uploaded")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("trick", "ending", "detail"),
    [
        ("crash", "crash", "SIGSEGV"),
        ("eat", "memory", ""),
        ("spin", "time", ""),
        ("babble", "crash", "no answer"),
        ("leave", "crash", "no answer"),
    ],
)
def test_a_child_that_misbehaves_is_named_and_the_next_one_is_well(spawner, file, trick, ending, detail):
    assert ask(spawner, file, trick) == Outcome(ending, detail=detail)
    before = process_of(spawner)
    assert ask(spawner, file, "remember", word="next").answer == ["next"]
    assert process_of(spawner) == before, "one child's end is not the end of the process that forked it"


def test_a_child_that_sleeps_is_ended_when_its_time_is_up(spawner, file):
    started = time.monotonic()
    assert ask(spawner, file, "wait", seconds=60, wait_seconds=0.3).ending == "late"
    assert time.monotonic() - started < 5


def test_children_share_no_memory(spawner, file):
    assert [ask(spawner, file, "remember", word=word).answer for word in "ab"] == [["a"], ["b"]]


@pytest.mark.heavy
def test_a_slow_child_does_not_hold_up_the_others(spawner, file):
    slow: list[Outcome] = []
    thread = threading.Thread(target=lambda: slow.append(ask(spawner, file, "wait", seconds=2)))
    thread.start()
    started = time.monotonic()
    answers = [ask(spawner, file, "remember", word="quick").answer for _ in range(5)]
    assert answers == [["quick"]] * 5 and time.monotonic() - started < 2
    thread.join()
    assert slow == [Outcome("done", "awake")]


def test_a_mistake_of_ours_is_said_as_such_with_its_traceback(spawner, file):
    with pytest.raises(Broken) as caught:
        ask(spawner, file, "fail")
    assert caught.value.code == "kernel.sandbox-broken"
    assert "a mistake of ours" in (caught.value.detail or "")


def test_a_file_that_cannot_be_imported_is_said_as_such(tmp_path, file):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    with pytest.raises(Broken, match=r"kernel\.sandbox-broken") as caught:
        ask(Spawner(broken), file, "read")
    assert "nothing_of_that_name" in (caught.value.detail or "")


def test_a_child_holds_nothing_of_ours(spawner, file, monkeypatch):
    monkeypatch.setenv("GONGQI_SECRET", "x")
    seen = ask(spawner, file, "look_around").answer
    assert not [name for name in seen["environment"] if "GONGQI" in name]
    assert seen["group"]
    assert seen["descriptors"] == 4, "standard output and error, which lead nowhere, the file, the answer"


def test_a_child_can_start_nothing_and_write_nothing(spawner, file, tmp_path):
    written = tmp_path / "written"
    assert ask(spawner, file, "attempt", deed="write", address=str(written)).answer != "done"
    assert not written.exists() or written.read_bytes() == b""
    assert ask(spawner, file, "attempt", deed="start").answer != "done"


def test_a_child_reaches_no_network_where_the_machine_allows_it(spawner, file):
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = ask(spawner, file, "attempt", deed="connect", address=str(server.getsockname()[1])).answer
    assert (said == "done") == ("network" in spawner.lacking)


def test_a_child_opens_no_file_by_name_where_the_machine_allows_it(spawner, file, tmp_path):
    secret = tmp_path / "operator.token"
    secret.write_text("gq_")
    said = ask(spawner, file, "attempt", deed="read", address=str(secret)).answer
    assert (said == "done") == ("files" in spawner.lacking)


def test_what_the_machine_lacks_is_known_before_the_first_answer(spawner, file):
    ask(spawner, file, "read")
    assert set(spawner.lacking) <= {"network", "files"}


def test_a_dead_process_is_replaced_and_nobody_notices(spawner, file):
    ask(spawner, file, "read")
    before = process_of(spawner)
    os.kill(before, signal.SIGKILL)
    assert ask(spawner, file, "read").answer == "what was uploaded"
    assert process_of(spawner) != before


@pytest.mark.heavy
def test_a_process_that_dies_under_a_request_is_asked_once_more_and_then_given_up(spawner, file):
    """Its children end with it; the request is repeated, for a child that did not end has done nothing."""
    ask(spawner, file, "read")
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(ask(spawner, file, "wait", seconds=1)))
    thread.start()
    time.sleep(0.3)
    os.kill(process_of(spawner), signal.SIGKILL)
    thread.join()
    assert outcomes == [Outcome("done", "awake")]


def test_a_stopped_process_does_not_stop_us(spawner, file, monkeypatch):
    monkeypatch.setattr("gongqi.kernel.sandbox.spawner.GRACE_SECONDS", 0.2)
    ask(spawner, file, "read")
    os.kill(process_of(spawner), signal.SIGSTOP)
    assert ask(spawner, file, "read", wait_seconds=0.3).ending == "late"
    assert ask(spawner, file, "read").answer == "what was uploaded"


def test_a_fork_of_ours_gets_a_process_of_its_own(spawner, file):
    ask(spawner, file, "read")
    before = process_of(spawner)
    pid = os.fork()
    if pid == 0:
        well = ask(spawner, file, "remember", word="fork").answer == ["fork"] and process_of(spawner) != before
        spawner.close()
        os._exit(0 if well else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert ask(spawner, file, "remember", word="still").answer == ["still"] and process_of(spawner) == before


def test_the_process_ends_when_the_last_of_us_lets_go(file):
    lonely = Spawner(HOSTILE)
    ask(lonely, file, "read")
    assert lonely._process is not None and lonely._control is not None
    lonely._control.close()
    assert lonely._process.wait(10) == 0


def test_a_request_that_is_too_long_is_our_mistake(spawner, file):
    with pytest.raises(Broken, match=r"kernel\.sandbox-broken"):
        ask(spawner, file, "read", word="x" * (64 << 10))


@pytest.mark.heavy
def test_a_file_run_alone_is_bounded_too(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, json\nprint(json.dumps([sys.stdin.read(), sorted(os.environ), os.listdir('.')]))\n"
    )
    bounds = Bounds(cpu_seconds=5, memory_bytes=1 << 30)
    ran = run_file(str(program), b"asked", bounds=bounds, wait_seconds=10)
    assert ran.status == 0 and ran.output.startswith(b'["asked", [') and b"HOME" not in ran.output
    assert ran.output.rstrip().endswith(b"[]]"), "it begins in an empty folder"
    program.write_text("while True: pass\n")
    assert run_file(str(program), b"", bounds=Bounds(1, 1 << 30), wait_seconds=10).status is None
    program.write_text("import time\ntime.sleep(60)\n")
    assert run_file(str(program), b"", bounds=bounds, wait_seconds=0.5).status is None
    program.write_text("with open('x', 'wb') as file: file.write(b'x')\n")
    assert run_file(str(program), b"", bounds=bounds, wait_seconds=10).status != 0
