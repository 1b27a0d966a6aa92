"""The composition root: settings → engines → rooms → doors.

The only place that knows everything. `assemble` makes a kernel for any use (server, offline command, test); `serve` adds
the doors and the flow worker and listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from gongqi import migrations
from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.signing import SigningKeys
from gongqi.doors.cli.server import write_private
from gongqi.doors.web.sending import Protocol
from gongqi.doors.web.server import Server
from gongqi.kernel.blobs.address import open_blobs
from gongqi.kernel.clock import MAX_CARRIED_SECONDS, Clock, SystemClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.flows import bring_forward
from gongqi.kernel.ids import mint
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.worker import Worker
from gongqi.members import VOCABULARY
from gongqi.members.bootstrap import bootstrap_operator
from gongqi.packs import service as packs
from gongqi.packs import shelf
from gongqi.resources.serving.control import GatewayControl
from gongqi.resources.serving.crossings import Detectors
from gongqi.resources.serving.engine import Engine
from gongqi.resources.serving.engines.host import Host
from gongqi.resources.serving.plane.door import Door, is_ours
from gongqi.resources.serving.plane.process import Plane
from gongqi.resources.serving.plane.wire import Wires
from gongqi.resources.serving.settlement import SPOOL, Settler
from gongqi.resources.serving.traces import Traces, tracing
from gongqi.rooms import ROOMS

GRACEFUL_SECONDS = 5
BACKLOG = 2048
SWITCH_SECONDS = 0.0005  # for which a thread beside the loop may keep the interpreter; all requests wait meanwhile
YOUNG_OBJECTS = 20_000  # between two collections; some hundred requests make as many
DOORS = Path(__file__).parent / "doors"

# The log goes to stderr and has the lines of a failure, not the values in them, of which some are secrets.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback),
    ],
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
)
log = structlog.get_logger("gongqi.app")


def house() -> House:
    """All rooms joined, with the doors' words; raises ValueError at whatever does not fit."""
    return House.build(
        ROOMS, VOCABULARY, *(DOORS / name for name in ("words.toml", "web/words.toml", "web/fields.toml")),
        *(pack.folder / "words.toml" for pack in shelf.PACKS),
    )  # fmt: skip


def assemble(settings: Settings, *, clock: Clock | None = None, migrate: bool = False) -> Kernel:
    """A kernel over the settings' home and database, the schema brought up to date (or checked, without `migrate`)."""
    with disk_that_may_be_full():
        settings.prepare_home()
        db = Database(settings.database_url)
        migrations.prepare(db, upgrade=migrate)
        blobs = open_blobs(settings.blobs_url, settings.home / "blobs")
        clock = clock or clock_that_goes_on(db)
        kernel = Kernel(settings, house(), db, blobs, record=evidence.append, clock=clock)
        kernel.parts[SigningKeys] = SigningKeys.load_or_generate(settings.home / "keys")
        kernel.parts[Engine] = Engine(blobs)
        kernel.parts[Host] = Host(kernel)
        kernel.parts[Detectors] = Detectors(shelf.detector)
        return kernel


def clock_that_goes_on(db: Database) -> Clock:
    """The machine's clock, which may have been set back since this database was last written."""
    with db.reading() as session:
        last = evidence.last_recorded(session)
    clock = SystemClock(not_before=last)
    if clock.behind_seconds > 1:
        log.warning("the machine's clock is behind what was recorded", recorded=last, seconds=clock.behind_seconds)
    if clock.behind_seconds > MAX_CARRIED_SECONDS:
        db.write(lambda session: bring_forward(session, clock.now(), seconds=clock.behind_seconds))
    return clock


@contextlib.contextmanager
def disk_that_may_be_full() -> Iterator[None]:
    """Starting writes files; when there is no room for one, that is said as the database would say it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable("kernel.disk-full", retry_after_seconds=60, detail=str(error)) from error


def application(kernel: Kernel) -> ASGIApp:
    """The doors that share one port: API, console, protocols, MCP."""
    from gongqi.doors.mcp.server import McpDoor
    from gongqi.doors.web.server import build

    door = McpDoor(kernel)
    app = build(kernel, door.routes)
    plane, traces = data_plane(kernel), tracing(os.environ)

    @contextlib.asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        worker = Worker(kernel)
        kernel.nudge = worker.nudge
        async with door.running(), hosting(kernel.part(Host)), settled(kernel, plane, traces):
            worker.start()
            yield
            worker.stop()
        kernel.db.close()

    return _Front(app, Door(plane), lifespan)


def data_plane(kernel: Kernel) -> Plane:
    """The gateway's data plane, for one process."""
    return Plane(
        mint("plane", kernel.clock.now()), GatewayControl(kernel), kernel.house.words, kernel.settings.home / SPOOL
    )


@contextlib.asynccontextmanager
async def hosting(host: Host) -> AsyncIterator[None]:
    """The thread that keeps the engines of this home, which end with it."""
    host.start()
    yield
    await asyncio.to_thread(host.stop)


@contextlib.asynccontextmanager
async def settled(kernel: Kernel, plane: Plane, traces: Traces | None) -> AsyncIterator[None]:
    """The data plane at work, and the thread that settles what it and its like on this home do."""
    await plane.start()
    settler = Settler(kernel, kernel.settings.home / SPOOL, traces)
    settler.start()
    yield
    settler.stop()
    await plane.close()
    settler.finish()
    if traces is not None:
        await asyncio.to_thread(traces.stop)


class _Front:
    """Calls of models go to the data plane before all else; the worker runs for as long as the server does."""

    def __init__(self, app: ASGIApp, door: Door, lifespan: object) -> None:
        self.app = app
        self.door = door
        self.lifespan = lifespan

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["type"] == "http" and is_ours(scope):
            await self.door(scope, receive, send)
            return
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        await receive()
        async with self.lifespan(self.app):  # type: ignore[operator]
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def prepare(kernel: Kernel) -> str:
    """What a first start needs: an operator, their token in the home, the endless flows. Returns a sign-in link.

    Every start gives a fresh link; the token is written once, mode 0600.
    """
    kernel.transact(evidence.ensure, reason="start")
    kernel.transact(lambda ctx: packs.load_named(ctx, kernel.settings.packs), reason="start")
    path = kernel.settings.home / "operator.token"
    kept = path.read_text("ascii").strip() if path.exists() else None
    started = bootstrap_operator(kernel, token=kept)
    if started.token != kept:
        with disk_that_may_be_full():
            write_private(path, started.token + "\n")
    return started.link


@contextlib.contextmanager
def only_server(settings: Settings) -> Iterator[IO[str]]:
    """Hold the home's lock: two servers on one embedded home would run its flows twice as often for nothing."""
    settings.prepare_home()
    with (settings.home / "server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused("app.already-running", home=str(settings.home)) from error
        yield lock


def listen(settings: Settings, *, port: int | None = None, shared: bool = False) -> socket.socket:
    """The listening socket, taken before anything else starts, so that a used port damages nothing. `shared`: several
    processes listen there, and the system deals connections out to them."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port = settings.port if port is None else port
    try:
        listener.bind((settings.host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Refused("kernel.port-in-use", port=port) from error
    return listener


def settle_memory() -> None:
    """What the start has made stays: to search it for garbage again and again was a tenth of the cost of a verb."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def serve(kernel: Kernel, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; running requests and steps get a few seconds to end."""
    config = uvicorn.Config(
        application(kernel),
        loop="uvloop",
        http=Protocol,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        h11_max_incomplete_event_size=64 * 1024,
    )
    settle_memory()
    sys.setswitchinterval(SWITCH_SECONDS)
    Server(config, kernel).run(sockets=[listener])


def serve_calls(kernel: Kernel, listener: socket.socket) -> None:
    """Serve calls of models and nothing else until SIGINT or SIGTERM: the data plane without a web server around it."""
    traces = tracing(os.environ)

    async def serving() -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stopping.set)
        plane = data_plane(kernel)
        async with settled(kernel, plane, traces):
            wires = Wires(Door(plane), loop)
            server = await loop.create_server(wires, sock=listener, backlog=BACKLOG)
            settle_memory()
            sys.setswitchinterval(SWITCH_SECONDS)
            await stopping.wait()
            server.close()
            await wires.close(GRACEFUL_SECONDS)
        kernel.db.close()

    uvloop.run(serving())
