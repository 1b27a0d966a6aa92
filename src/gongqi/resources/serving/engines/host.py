"""The server's side of engines: a thread that keeps a child process for each endpoint that is hosted, in one home.

Twice a second it looks at what is to be hosted and hears its children. One that has died is started again after a rest
that doubles; one that says nothing is ended first. One whose endpoint is retired gets no new calls: the data planes hear of
that within a second, then it is told to end, and ends when what it has under way is over.

Each home hosts what its database says, for itself: a socket is no address, so a call is answered by an engine of the home
that it came to, or by the next target of its route. Of the processes that serve on one home the one that holds the lock
hosts. Children ask the system to be ended with the thread that forked them, so none is left however the server ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated

import msgspec
import structlog
from sqlalchemy import select

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.room import Kernel
from gongqi.kernel.sandbox.alone import ENVIRONMENT
from gongqi.kernel.sockets import short_name
from gongqi.kernel.verbs import Read
from gongqi.resources.serving.models import ModelEndpoint
from gongqi.resources.serving.plane import spool

FOLDER = "engines"  # in the home: a socket and a log for each
LOOK_SECONDS = 0.5
START_SECONDS = 900.0  # to hash, load and run once a large model from a slow disk
SILENT_SECONDS = 20.0  # of a child that says every second that it lives
LEAVE_SECONDS = 3.0  # in which data planes hear that an endpoint is retired
DRAIN_SECONDS = 75.0  # for what is under way; the child itself waits for a minute
STOP_SECONDS = 5.0  # when the server ends
REST_SECONDS, MAX_REST_SECONDS = 1.0, 60.0  # before a child is started again
GOOD_SECONDS = 60.0  # a child that lived so long has not failed to start
TOLD_BYTES = 64 << 10  # read at a time; a line is shorter by far

STARTING, READY, ENDING, RESTING = "starting", "ready", "ending", "resting"
DIED = "died"  # of a child that said nothing against its model
MEMORY = "memory"  # it needs more than it may have

log = structlog.get_logger("gongqi.serving.engines")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An endpoint that is to be hosted."""

    id: str
    name: str
    engine: str
    release: str
    files: tuple[tuple[str, str], ...]  # part and digest
    memory_bytes: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class State:
    """What is known of an engine here. `since`: seconds of the epoch; `batches` and `rows`: what it ran in this life of its
    process; `trouble`: why it last ended, the code of an error, MEMORY or DIED."""

    endpoint: str
    name: str
    release: str
    engine: str
    state: str
    since: float
    restarts: int
    waiting: int
    batches: int
    rows: int
    memory_bytes: int
    trouble: str | None


class _Said(msgspec.Struct, frozen=True):
    """A line of a child. It runs what others made, so what it says is read as strictly as what comes from outside."""

    waiting: Annotated[int, msgspec.Meta(ge=0)] = 0
    batches: Annotated[int, msgspec.Meta(ge=0)] = 0
    rows: Annotated[int, msgspec.Meta(ge=0)] = 0
    ready: bool = False
    failed: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    why: str = ""
    lacking: list[str] = []


HEARD = msgspec.json.Decoder(_Said)


@dataclass(slots=True)
class _Kept:
    """An endpoint as this home keeps it: its child, or when there will be one again."""

    wanted: Wanted
    state: str = RESTING
    since: float = field(default_factory=time.time)
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0  # these by the clock that only goes on
    heard: float = 0.0
    left_at: float | None = None  # when its endpoint was found retired
    starts_at: float = 0.0
    failures: int = 0
    restarts: int = 0
    waiting: int = 0
    batches: int = 0
    rows: int = 0
    said: bytes = b""
    failed: str | None = None  # what the child said against its model
    trouble: str | None = None

    def becomes(self, state: str) -> None:
        self.state, self.since = state, time.time()


class Host:
    """A kernel part; only a server starts it."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._root = kernel.settings.home / FOLDER
        self._kept: dict[str, _Kept] = {}
        self._lock: IO[str] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="engines", daemon=True)

    def start(self) -> None:
        self._root.mkdir(mode=0o700, exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """The children are told to end, and after a few seconds are."""
        self._stopping.set()
        self._thread.join(2 * STOP_SECONDS)

    def states(self) -> list[State]:
        return [
            State(
                kept.wanted.id, kept.wanted.name, kept.wanted.release, kept.wanted.engine, kept.state, kept.since,
                kept.restarts, kept.waiting, kept.batches, kept.rows, _memory_of(kept.process), kept.trouble,
            )
            for kept in list(self._kept.values())
        ]  # fmt: skip

    # ---- the thread

    def _loop(self) -> None:
        wanted: dict[str, Wanted] = {}
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                if not self._is_ours():
                    continue
                wanted = self._wanted(wanted)
                self._turn(wanted, time.monotonic())
            except Exception as error:  # a thread has nobody above it
                log.error("the engines could not be looked after", exc_info=error)
        self._end_all()
        if self._lock is not None:
            self._lock.close()

    def _is_ours(self) -> bool:
        if self._lock is None:
            with contextlib.suppress(BlockingIOError):
                self._lock = spool.hold(self._root / "lock")
        return self._lock is not None

    def _wanted(self, known: dict[str, Wanted]) -> dict[str, Wanted]:
        try:
            return {each.id: each for each in self._kernel.look(hosted)}
        except Exception as error:  # the database is away: go by what is known
            log.warning("what is to be hosted cannot be asked", error=repr(error))
            return known

    def _turn(self, wanted: dict[str, Wanted], now: float) -> None:
        for id, each in wanted.items():
            self._kept.setdefault(id, _Kept(each))
        for id, kept in list(self._kept.items()):
            if kept.process is not None:
                self._hear(kept, now)
            if kept.process is None:
                if id not in wanted:
                    self._socket(kept).unlink(missing_ok=True)
                    self._log(kept).unlink(missing_ok=True)
                    del self._kept[id]
                elif now >= kept.starts_at:
                    self._start(kept, now)
            elif id not in wanted:
                self._let_end(kept, now)

    def _start(self, kept: _Kept, now: float) -> None:
        try:
            with contextlib.ExitStack() as held:
                files = {
                    part: (held.enter_context(_opened(self._kernel.blobs, digest)), digest)
                    for part, digest in kept.wanted.files
                }
                listener = held.enter_context(self._listener(kept))
                kept.process = self._spawned(kept, files, listener.fileno(), held)
        except Exception as error:  # a blob that is not there, a folder that cannot be written, no more processes
            log.warning("an engine cannot be started", endpoint=kept.wanted.name, error=repr(error))
            self._rest(kept, getattr(error, "code", "kernel.broken"), now)
            return
        kept.began = kept.heard = now
        kept.said, kept.failed = b"", None
        kept.becomes(STARTING)

    def _spawned(
        self, kept: _Kept, files: dict[str, tuple[int, str]], listener: int, held: contextlib.ExitStack
    ) -> subprocess.Popen[bytes]:
        said = held.enter_context(self._log(kept).open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-m", "gongqi.resources.serving.engines.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, cwd=self._root, env=ENVIRONMENT,
            pass_fds=[listener, *(file for file, _ in files.values())],
            start_new_session=True,  # an interrupt at the terminal is for us to handle
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None, "they are pipes"
        os.set_blocking(process.stdout.fileno(), False)
        order = {
            "engine": kept.wanted.engine, "files": files, "socket": listener, "parent": os.getpid(),
            "memory_bytes": kept.wanted.memory_bytes, "context_tokens": kept.wanted.context_tokens,
        }  # fmt: skip
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        return process

    @contextlib.contextmanager
    def _listener(self, kept: _Kept) -> Iterator[socket.socket]:
        """Bound, and heard by nobody until the child listens: until then, and after its death, who calls is turned away."""
        path = self._socket(kept)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            with short_name(path) as name:
                listener.bind(name)
            yield listener

    def _hear(self, kept: _Kept, now: float) -> None:
        process = kept.process
        assert process is not None and process.stdout is not None, "it is heard"
        with contextlib.suppress(BlockingIOError):
            kept.said += os.read(process.stdout.fileno(), TOLD_BYTES)
        *lines, kept.said = kept.said.split(b"\n")
        try:
            for line in lines:
                self._told(kept, HEARD.decode(line), now)
            makes_sense = len(kept.said) < TOLD_BYTES
        except msgspec.MsgspecError:
            makes_sense = False
        if not makes_sense:  # its model may have taken it over; the others are looked after all the same
            log.warning("an engine says what makes no sense and is ended", endpoint=kept.wanted.name)
            kept.said = b""
            process.kill()
        if process.poll() is not None:
            self._bury(kept, now)
        elif (kept.state == STARTING and now - kept.began > START_SECONDS) or (
            kept.state == READY and now - kept.heard > SILENT_SECONDS
        ):
            log.warning("an engine says nothing and is ended", endpoint=kept.wanted.name)
            process.kill()

    def _told(self, kept: _Kept, words: _Said, now: float) -> None:
        kept.heard = now
        kept.waiting, kept.batches, kept.rows = words.waiting, words.batches, words.rows
        if words.failed is not None:
            kept.failed = words.failed
            log.warning("an engine cannot run its model", endpoint=kept.wanted.name, failed=words.failed, why=words.why)
        if words.ready:
            kept.becomes(READY)
            seconds = round(now - kept.began, 2)
            log.info("an engine is ready", endpoint=kept.wanted.name, seconds=seconds, lacking=words.lacking)

    def _bury(self, kept: _Kept, now: float) -> None:
        process = kept.process
        assert process is not None, "it has died"
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        kept.process = None
        if kept.state == ENDING:
            kept.failures, kept.starts_at = 0, now
            return
        if kept.state == READY and now - kept.began > GOOD_SECONDS:
            kept.failures = 0
        log.warning("an engine has ended", endpoint=kept.wanted.name, status=status, log=str(self._log(kept)))
        self._rest(kept, kept.failed or DIED, now)

    def _rest(self, kept: _Kept, trouble: str, now: float) -> None:
        kept.trouble = trouble
        kept.starts_at = now + min(REST_SECONDS * 2**kept.failures, MAX_REST_SECONDS)
        kept.failures = min(kept.failures + 1, 10)
        kept.restarts += 1
        kept.waiting = 0
        kept.becomes(RESTING)

    def _let_end(self, kept: _Kept, now: float) -> None:
        process = kept.process
        assert process is not None, "it lives"
        if kept.left_at is None:
            kept.left_at = now
        elif kept.state != ENDING and now - kept.left_at > LEAVE_SECONDS:
            kept.becomes(ENDING)
            process.send_signal(signal.SIGTERM)
        elif now - kept.left_at > LEAVE_SECONDS + DRAIN_SECONDS:
            process.kill()

    def _end_all(self) -> None:
        living = [kept.process for kept in self._kept.values() if kept.process is not None]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in living:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        for kept in self._kept.values():
            self._socket(kept).unlink(missing_ok=True)

    def _socket(self, kept: _Kept) -> Path:
        return socket_of(self._kernel.settings.home, kept.wanted.id)

    def _log(self, kept: _Kept) -> Path:
        return self._root / f"{kept.wanted.id}.log"


def socket_of(home: Path, endpoint: str) -> Path:
    """Where the engine of an endpoint is heard, in this home."""
    return home / FOLDER / f"{endpoint}.sock"


def hosted(ctx: Read) -> list[Wanted]:
    """What is to be hosted now."""
    rows = select(ModelEndpoint).where(ModelEndpoint.engine.is_not(None), ModelEndpoint.state == "ready")
    return [
        Wanted(
            row.id, row.name, row.engine or "", row.release or "",
            tuple((file["part"], file["sha256"]) for file in row.files or ()),
            (row.memory_mib or 0) << 20, row.context_tokens or 0,
        )
        for row in ctx.session.scalars(rows.order_by(ModelEndpoint.id))
    ]  # fmt: skip


@contextlib.contextmanager
def _opened(blobs: Blobs, digest: str) -> Iterator[int]:
    """A descriptor of the blob's file, to be inherited."""
    with blobs.local(digest) as path:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _memory_of(process: subprocess.Popen[bytes] | None) -> int:
    """What is in memory of it, its model's file included."""
    if process is None:
        return 0
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError):  # it has just ended
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
