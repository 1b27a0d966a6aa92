"""The parent's side of a process that forks a fresh, bounded child for each request (`spawning.py` is the other side).

Requests travel over a socket whose other end is the process's standard input. With each go open files and the writing
ends of two pipes: one for what the child answers, one for how it ended, which the child never holds. The process starts
when it is first needed, ends when this one does, and is replaced when it has died.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import structlog

from gongqi.kernel.errors import Broken
from gongqi.kernel.sandbox.alone import ENVIRONMENT
from gongqi.kernel.sandbox.confine import Bounds

START_SECONDS = 60  # of imports, on a busy machine
GRACE_SECONDS = 5  # beyond the child's own time, in which the other side must have ended it
REQUEST_BYTES = 64 << 10  # one packet
MAX_FILES = 2  # of one request: whatever is compared, it is with one other
ANSWER_BYTES = 4 << 20
READ_BYTES = 64 << 10

log = structlog.get_logger("gongqi.sandbox")

# crash: ended by a signal, or answered nonsense; memory, time: it used up its own; late: the machine was too busy.
Ending = Literal["done", "crash", "memory", "time", "late"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended, and its answer when that is "done". `detail` is for the log."""

    ending: Ending
    answer: Any = None
    detail: str = ""


class Spawner:
    """Children that run `serve(request, *files)` of one Python file; usable from any thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._forget()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.lacking: tuple[str, ...] = ()  # of "network" and "files": what this machine cannot keep from a child

    def ask(self, request: dict[str, Any], *files: BinaryIO, bounds: Bounds, wait_seconds: float) -> Outcome:
        """Let a fresh child answer a request about open files, MAX_FILES at most.

        Raises Broken kernel.sandbox-broken when no child can be started, or when it fails by a mistake of ours.
        """
        packet = json.dumps({"request": request, "bounds": bounds.to_json(), "wait_seconds": wait_seconds}).encode()
        if len(packet) > REQUEST_BYTES:
            raise Broken("kernel.sandbox-broken", detail=f"a request of {len(packet)} bytes")
        for _ in range(2):  # the process may just have died; then nothing of the request has been done
            outcome = self._converse(packet, files, time.monotonic() + wait_seconds + GRACE_SECONDS)
            if outcome is not None:
                return outcome
        raise Broken("kernel.sandbox-broken", detail="the process that forks has died twice")

    def close(self) -> None:
        """End the process and all its children."""
        with self._lock:
            self._end()

    def _converse(self, packet: bytes, files: Sequence[BinaryIO], give_up_at: float) -> Outcome | None:
        """How the child ended, or None when the process that forked it died before it could say so."""
        control = self._started()
        with _Pipe() as answer, _Pipe() as status:
            try:
                handed = [file.fileno() for file in files]
                socket.send_fds(control, [packet], [answer.writing, status.writing, *handed])
            except OSError:
                self._replace(control)
                return None
            answer.close_writing()
            status.close_writing()
            try:
                said = answer.read(give_up_at)
                how = status.read(give_up_at)
            except TimeoutError:
                self._replace(control)
                return Outcome("late")
        if not how:
            self._replace(control)
            return None
        return _outcome(said, json.loads(how))

    def _started(self) -> socket.socket:
        if self._owner != os.getpid():  # we are a fork: the process belongs to the parent
            self._forget()
        with self._lock:
            if self._control is None:
                self._start()
            assert self._control is not None
            return self._control

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-m", "gongqi.kernel.sandbox.spawning", str(self._file)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,  # an interrupt at the terminal is for us to handle
            )
        self._control = ours
        ours.settimeout(START_SECONDS)
        try:
            greeting = json.loads(ours.recv(REQUEST_BYTES) or b"{}")
        except (TimeoutError, OSError) as error:
            self._end()
            raise Broken("kernel.sandbox-broken", detail=f"no greeting: {error}") from error
        if "lacking" not in greeting:
            self._end()
            raise Broken("kernel.sandbox-broken", detail=greeting.get("failure", "it ended before its greeting"))
        self.lacking = tuple(greeting["lacking"])
        if self.lacking:
            log.warning("this machine cannot keep everything from a child", lacking=self.lacking)

    def _replace(self, control: socket.socket) -> None:
        with self._lock:
            if self._control is control:  # else somebody has done so already
                self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)  # its children have asked to end with it
            self._process.wait()
        self._process = self._control = None


class _Pipe:
    """One answer on its way: the other end is given away, and what comes is read to its end, its limit or its time."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_reading()
        self.close_writing()

    def close_reading(self) -> None:
        if self.reading >= 0:
            os.close(self.reading)
        self.reading = -1

    def close_writing(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
        self.writing = -1

    def read(self, give_up_at: float) -> bytes:
        """At most ANSWER_BYTES and a little more; whoever writes still more finds the pipe closed. Raises TimeoutError."""
        waiting = select.poll()
        waiting.register(self.reading, select.POLLIN)
        held = bytearray()
        while len(held) <= ANSWER_BYTES:
            if not waiting.poll(max(0.0, give_up_at - time.monotonic()) * 1000):
                raise TimeoutError
            chunk = os.read(self.reading, READ_BYTES)
            if not chunk:
                break
            held += chunk
        self.close_reading()
        return bytes(held)


def _outcome(said: bytes, how: dict[str, Any]) -> Outcome:
    """What the child said of its work, and what the process that forked it said of its end."""
    if how["is_late"]:
        return Outcome("late")
    if how["status"] == -signal.SIGXCPU:
        return Outcome("time")
    if how["status"] < 0:
        return Outcome("crash", detail=signal.Signals(-how["status"]).name)
    try:
        spoken = json.loads(said) if len(said) <= ANSWER_BYTES else {}
    except ValueError:
        spoken = {}
    if "failure" in spoken:
        raise Broken("kernel.sandbox-broken", detail=spoken["failure"])
    if "answer" not in spoken:
        return Outcome("memory") if "memory" in spoken else Outcome("crash", detail="no answer")
    return Outcome("done", answer=spoken["answer"])
