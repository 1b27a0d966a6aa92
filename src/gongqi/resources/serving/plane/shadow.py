"""Calls made once more, for nobody: a share of what a model has answered goes to another server as well, to see how it does.

A shadow begins when its call has been answered, so the caller has nothing to wait for, and it is no call of the plane's: it
has no reservation, no record, no limit and no part in the health of servers. What its server says is read to its end and
thrown away; nothing of it is kept but sums. A call whose tools the server itself would call elsewhere (MCP) has no shadow.
When PARALLEL are under way, or their requests hold MAX_BYTES, the next is dropped and counted. What the server asks for it
is the operator's to pay: that is why its tokens are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog

from gongqi.kernel.errors import GongqiError
from gongqi.resources.serving.climbing import Share
from gongqi.resources.serving.metering import Tokens
from gongqi.resources.serving.plane import affinity, request, stream
from gongqi.resources.serving.plane.dialect import Dialect
from gongqi.resources.serving.plane.pool import Connection, Failed
from gongqi.resources.serving.plane.snapshot import Key, Shadow

if TYPE_CHECKING:
    from gongqi.resources.serving.plane.process import Plane

PARALLEL = 16  # under way in one process
MAX_BYTES = 16 << 20  # of the requests that they hold
MAX_ANSWER_BYTES = 4 << 20  # of an answer in one piece: PARALLEL of them are 64 MiB
MAX_STREAM_BYTES = 32 << 20  # of one that streams, which is not held
SECONDS = 120.0  # after which one is given up
MAX_MIRRORS = 256  # remembered, if they are over
_ACTS = (b'"mcp"', b'"mcp_servers"')  # tools that the server itself calls elsewhere, which would do again what they did
ANSWERED, FAILED, DROPPED, UNSAID = COUNTS = "answered", "failed", "dropped", "unsaid"
SUMS: tuple[str, ...] = (
    "duration_us", "output_tokens", "shadow_duration_us", "shadow_input_tokens", "shadow_output_tokens", "slower"
)  # fmt: skip

log = structlog.get_logger("gongqi.serving.shadow")


class Mirror:
    """One shadow as this process knows it. `sums` are of the calls that both servers answered: the caller's and the shadow's
    times and tokens, and how often the shadow was the slower."""

    __slots__ = ("counts", "reported", "shadow", "share", "sums")

    def __init__(self, process: str, shadow: Shadow) -> None:
        self.shadow = shadow
        self.share = Share(f"{shadow.id} {process}", shadow.percent)
        self.counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.sums: dict[str, int] = dict.fromkeys(SUMS, 0)
        self.reported: Any = None

    def both(self, echo: Echo, duration_us: int, tokens: Tokens) -> None:
        self.counts[ANSWERED] += 1
        values = (
            echo.duration_us, echo.output, duration_us, tokens.input, tokens.output, duration_us > echo.duration_us
        )  # fmt: skip
        for name, value in zip(SUMS, values, strict=True):
            self.sums[name] += value

    def told(self) -> dict[str, int]:
        return self.counts | self.sums


class Echo:
    """A call that has been answered, as far as its shadow goes by it."""

    __slots__ = ("asked", "body", "bound", "dialect", "duration_us", "id", "org", "output")

    def __init__(
        self, dialect: Dialect, org: str, id: str, asked: Any, body: bytes, bound: Tokens, duration_us: int, output: int
    ) -> None:
        self.dialect = dialect
        self.org = org
        self.id = id
        self.asked = asked
        self.body = body
        self.bound = bound
        self.duration_us = duration_us
        self.output = output


class Shadows:
    """All of one process."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._known: dict[str, Mirror] = {}
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._bytes = 0

    def of(self, shadow: Shadow | None, key: Key) -> Mirror | None:
        """Where calls of this key are mirrored, if they are: who narrowed it to models has chosen who reads what it asks."""
        if shadow is None:
            return None
        if key.routes is not None and shadow.routes and not shadow.routes & key.routes:
            return None
        return self._known[shadow.id]

    def go_by(self, shadows: Iterable[Shadow]) -> None:
        """What a new snapshot says. What goes on for a shadow that is over is given up."""
        named = {shadow.id: shadow for shadow in shadows}
        for id in [id for id in self._known if id not in named][: max(0, len(self._known) - MAX_MIRRORS)]:
            del self._known[id]
        for shadow in named.values():
            mirror = self._known.get(shadow.id)
            if mirror is None:
                mirror = self._known[shadow.id] = Mirror(self._plane.name, shadow)
            mirror.shadow = shadow
            mirror.share.becomes(shadow.percent)
        for task, id in list(self._under_way.items()):
            if id not in named:
                task.cancel()

    def offer(self, mirror: Mirror, echo: Echo) -> None:
        """Make this call once more, if it is one of the share and there is room."""
        if not mirror.share.takes():
            return
        if acts(echo.body):
            mirror.counts[UNSAID] += 1
            return
        size = len(echo.body)
        if len(self._under_way) >= PARALLEL or self._bytes + size > MAX_BYTES:
            mirror.counts[DROPPED] += 1
            return
        self._bytes += size
        task = self._plane.loop.create_task(self._make(mirror, echo))
        self._under_way[task] = mirror.shadow.id
        task.add_done_callback(lambda done: self._over(done, size))

    def _over(self, task: asyncio.Task[None], size: int) -> None:
        del self._under_way[task]
        self._bytes -= size

    async def _make(self, mirror: Mirror, echo: Echo) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                tokens, duration_us = await self._answered(mirror.shadow, echo)
        except GongqiError:  # it cannot be said to this server
            mirror.counts[UNSAID] += 1
        except (Failed, stream.Unusable, TimeoutError) as error:
            mirror.counts[FAILED] += 1
            log.info("a shadow was not answered", shadow=mirror.shadow.id, why=str(error)[:200])
        else:
            mirror.both(echo, duration_us, tokens)

    async def _answered(self, shadow: Shadow, echo: Echo) -> tuple[Tokens, int]:
        """(what it came to, microseconds without the connection's making). Raises Failed, stream.Unusable, Refused."""
        server, pool = shadow.target.server, self._plane.pool
        way = echo.dialect.ways[server.speaks](echo.asked, echo.body, echo.id, echo.bound)
        body = way.forwarded(shadow.target.model)
        if server.salts:
            body = affinity.salted(body, echo.org)
        head = self._plane.head_of(server, way.path)
        connection = await pool.fresh(server)  # never one that a caller could have had
        began = self._plane.now()
        try:
            data = b"%s%d\r\n%s\r\n%s" % (head, len(body), way.fields, body)
            answer = await connection.exchange(data, streams=bool(echo.asked.stream), limit_bytes=MAX_ANSWER_BYTES)
            if answer.status != 200:
                raise Failed("refused", str(answer.status))
            if answer.body is not None:
                tokens = way.answered(answer.body).reported or Tokens()
            else:
                tokens = await _read_out(connection, way.events())
            return tokens, round((self._plane.now() - began) * 1e6)
        finally:
            connection.close()

    async def close(self) -> None:
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def unreported(self) -> dict[str, Any]:
        """What has changed since it was last reported."""
        return {
            id: told
            for id, mirror in self._known.items()
            if (told := mirror.told()) != mirror.reported and any(told.values())
        }

    def reported(self, news: dict[str, Any]) -> None:
        for id, told in news.items():
            if id in self._known:
                self._known[id].reported = told


def acts(body: bytes) -> bool:
    """Whether to ask this again may do something again."""
    return any(mark in body for mark in _ACTS) or request.hides(body)


async def _read_out(connection: Connection, events: Any) -> Tokens:
    """A stream to its end. What its tokens are when it does not say: an event each."""
    held = 0
    while data := await connection.read():
        held += len(data)
        if held > MAX_STREAM_BYTES:
            raise Failed("too-large")
        events.feed(data)
        if events.done:
            break
    if not events.done:
        raise Failed("cut")
    return events.reported or Tokens(0, 0, events.events)
