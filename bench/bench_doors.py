"""What a door costs: a verb in process, a write verb over HTTP, the command line's help, the server's start and memory.

The write verb authenticates a token, checks a right, inserts one row, leaves evidence and commits, on SQLite, while the
sequencer puts that evidence into the log. Its peer is the same server and database driver with nothing of ours between:
a bare ASGI application that inserts one row and commits, called by the same client in the same run.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy.orm import Mapped, mapped_column

from bench import Figure
from gongqi.app import settle_memory
from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.room import ROOM as EVIDENCE
from gongqi.books.evidence.signing import SigningKeys
from gongqi.doors.web.server import build
from gongqi.kernel.access import SYSTEM
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.room import House, Kernel, Room
from gongqi.kernel.verbs import Caller, Input, Output, Write, execute, verb
from gongqi.kernel.worker import Worker
from gongqi.members import VOCABULARY
from gongqi.members.bootstrap import bootstrap_operator
from gongqi.members.room import ROOM as MEMBERS

CONNECTIONS = 16
SECONDS = 4.0
WARM_SECONDS = 1.0
CALLS = 500
STARTS = 5
START_LIMIT_SECONDS = 120.0  # on a machine that is busy with much else
SERVE = "import sys; from bench.bench_doors import serve; serve(*sys.argv[1:])"
ROOT = Path(__file__).parents[1]


class BenchNote(Base):
    __tablename__ = "bench_note"

    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]


class Nothing(Input):
    pass


class WriteNote(Input):
    text: str


class NoteOut(Output):
    id: str


@verb("bench:note:nothing", evidence=None)
def nothing(ctx: Write, input: Nothing) -> NoteOut:
    ctx.require("bench:note:nothing")
    return NoteOut(id="none")


@verb("bench:note:write", evidence="bench.note-written")
def write(ctx: Write, input: WriteNote) -> NoteOut:
    ctx.require("bench:note:write")
    note = ctx.add(BenchNote(id=ctx.new_id("note"), text=input.text))
    ctx.record(note.id)
    return NoteOut(id=note.id)


def kernel_at(home: Path) -> Kernel:
    words = [
        f'[verb."{each.name}"]\nzh = "测"\nen = "bench"\nhelp_zh = "测"\nhelp_en = "bench"' for each in (nothing, write)
    ]
    (home / "words.toml").write_text("\n".join(words), "utf-8")
    settings = Settings.from_environment({"GONGQI_HOME": str(home)})
    doors = ROOT / "src" / "gongqi" / "doors"
    room = Room("bench", home, verbs=(nothing, write))
    house = House.build((EVIDENCE, MEMBERS, room), VOCABULARY, doors / "words.toml", doors / "web" / "words.toml")
    database = Database(settings.database_url)
    Base.metadata.create_all(database.writer)
    kernel = Kernel(settings, house, database, FolderBlobs(home / "blobs"), record=evidence.append)
    kernel.parts[SigningKeys] = SigningKeys.load_or_generate(home / "keys")
    return kernel


# ---- the two servers, each a process of its own ----------------------------------------------------


def serve(kind: str, home: str, port: str) -> None:
    app = _ours(Path(home)) if kind == "ours" else _bare(Path(home))
    uvicorn.run(app, port=int(port), loop="uvloop", http="httptools", log_config=None, access_log=False)


def _ours(home: Path) -> Any:
    kernel = kernel_at(home)
    kernel.transact(evidence.ensure, reason="bench")
    (home / "token").write_text(bootstrap_operator(kernel).token, "ascii")
    worker = Worker(kernel)
    kernel.nudge = worker.nudge
    worker.start()
    app = build(kernel)
    settle_memory()
    return app


def _bare(home: Path) -> Any:
    connection = sqlite3.connect(home / "bare.sqlite", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO note (text) VALUES (?)", (body.decode(),))
        connection.execute("COMMIT")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                if connection.recv(12).startswith(b"HTTP/1.1 "):
                    return
        except OSError:
            time.sleep(0.005)
    raise RuntimeError("bench: the server did not start")


@contextmanager
def server(command: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))} | environment
    process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield process
    finally:
        process.terminate()
        process.wait(START_LIMIT_SECONDS)


# ---- the client ------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as the answer is whole."""

    def __init__(self, request: bytes, answered: Counter[bool]) -> None:
        self.request = request
        self.answered = answered
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, whole, body = self.received.partition(b"\r\n\r\n")
        if not whole or len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r")[0]):
            return
        self.answered[head.startswith(b"HTTP/1.1 200")] += 1
        self.received = b""
        self.transport.write(self.request)


async def _rate(port: int, request: bytes) -> float:
    answered: Counter[bool] = Counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(request, answered), "127.0.0.1", port)
        for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(WARM_SECONDS)
    before, started = answered[True], time.perf_counter()
    await asyncio.sleep(SECONDS)
    rate = (answered[True] - before) / (time.perf_counter() - started)
    for transport, _ in made:
        transport.close()
    if answered[False]:
        raise RuntimeError(f"bench: {answered[False]} requests were refused")
    return rate


def rate(kind: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        with server([sys.executable, "-c", SERVE, kind, folder, str(port)], port):
            token = Path(folder, "token").read_text("ascii") if kind == "ours" else ""
            body = b'{"text": "a few words about nothing in particular"}'
            head = (
                "POST /api/v1/bench/note/write HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            return asyncio.run(_rate(port, head.encode() + body))


# ---- the figures -----------------------------------------------------------------------------------


def verb_in_process() -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        kernel = kernel_at(Path(folder))
        caller, input = Caller(SYSTEM), Nothing()
        times = [_seconds(lambda: execute(kernel, nothing, caller, input)) for _ in range(CALLS)]
        kernel.db.close()
        bare = sqlite3.connect(Path(folder, "gongqi.sqlite"), isolation_level=None)
        raw = [_seconds(lambda: (bare.execute("BEGIN IMMEDIATE"), bare.execute("COMMIT"))) for _ in range(CALLS)]
        bare.close()
    value, peer = statistics.median(times) * 1e3, statistics.median(raw) * 1e3
    return Figure("no-op verb in process, p50", value, "ms", "≤ 1", "BEGIN IMMEDIATE; COMMIT", peer, value / peer)


def verb_over_http() -> Figure:
    ours, bare = rate("ours"), rate("bare")
    name = f"HTTP write verb, {CONNECTIONS} connections"
    return Figure(name, ours, "/s", "≥ 1,000", "bare ASGI insert and commit", bare, ours / bare)


def help_of_the_command() -> Figure:
    def median(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        run_it = functools.partial(subprocess.run, command, stdout=subprocess.DEVNULL, check=True)
        return statistics.median(_seconds(run_it) for _ in range(STARTS))

    ours, bare = median("-m", "gongqi", "--help"), median("-c", "pass")
    return Figure("gongqi --help", ours, "s", "≤ 0.2", "python -c pass", bare, ours / bare)


def start_and_memory() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        port, starts, memory = free_port(), [], 0.0
        command = [sys.executable, "-m", "gongqi", "serve"]
        for _ in range(2):  # the second start finds its schema and keys
            started = time.perf_counter()
            with server(command, port, GONGQI_HOME=folder, GONGQI_PORT=str(port)) as process:
                starts.append(time.perf_counter() - started)
                time.sleep(2.0)
                memory = _resident_bytes(process.pid) / 1e6
    return [
        Figure("server start, first", starts[0], "s", "≤ 3"),
        Figure("server start, again", starts[1], "s", "≤ 3"),
        Figure("server, idle memory", memory, "MB", "≤ 200"),
    ]


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run() -> list[Figure]:
    return [verb_in_process(), verb_over_http(), help_of_the_command(), *start_and_memory()]
