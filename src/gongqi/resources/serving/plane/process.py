"""One process's data plane: its parts, what it goes by, and the clocks that drive it.

The fast clock writes what waits and looks for time-outs; the slow one asks whether there is a new snapshot to go by. An
ordinary call has no timer of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import structlog

from gongqi.kernel.errors import GongqiError, Unavailable
from gongqi.kernel.words import Words
from gongqi.resources.serving import metering
from gongqi.resources.serving.plane import anthropic, meters
from gongqi.resources.serving.plane.bodies import Bodies
from gongqi.resources.serving.plane.cache import Cache
from gongqi.resources.serving.plane.call import Call
from gongqi.resources.serving.plane.climb import Climbs
from gongqi.resources.serving.plane.dialect import Dialect, Manners, Problem, problem_of
from gongqi.resources.serving.plane.health import Health
from gongqi.resources.serving.plane.limits import Limits
from gongqi.resources.serving.plane.meters import Meters
from gongqi.resources.serving.plane.pool import TOTAL_SECONDS, Pool
from gongqi.resources.serving.plane.purse import Purses
from gongqi.resources.serving.plane.retries import Retries
from gongqi.resources.serving.plane.shadow import Shadows
from gongqi.resources.serving.plane.snapshot import EMPTY, Control, Key, Route, Server, Snapshot
from gongqi.resources.serving.plane.spool import LIMIT_BYTES, Spool
from gongqi.resources.serving.plane.terms import Terms, is_bound, offered, within_law, within_reach

TICK_SECONDS = 0.05  # how often what waits is written, and time-outs are looked for; most calls end within one
LOOK_SECONDS = 0.5  # how often the version is asked for: a revoked key stops within a second
ANEW_LOOKS = 20  # after which all is read anew: an organisation may have been suspended, a credential changed
SEND_SECONDS = 60.0  # a caller that does not read for so long has left
SLOW_TICKS = 20  # ticks between two rounds of what need not be quick
LAST_SECONDS = 2.0  # for the last report of one that ends
MAX_TERMS = 10_000  # remembered: some 3 MB

log = structlog.get_logger("gongqi.serving.plane")


class Plane:
    """`start` within the event loop that serves; `close` before that loop ends."""

    def __init__(
        self, name: str, control: Control, words: Words, root: Path, *, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self.name = name
        self.snapshot = EMPTY
        self.now = time.monotonic
        self.calls: set[Call] = set()
        self.bodies = Bodies(self.now)
        self.limits = Limits(control, self.now)
        self.health = Health()
        self.climbs = Climbs(name)
        self.shadows = Shadows(self)
        self.meters = Meters()
        self.retries = Retries(control, self.now)
        self.cache = Cache(self.now)
        self.control = control
        self._root = root
        self._limit_bytes = limit_bytes
        self._words = words
        self._heads: dict[tuple[str, bytes, str], bytes] = {}
        self._terms: dict[tuple[str, str, str], Terms] = {}
        self._leaving: asyncio.Future[None] | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = Pool(self.loop, self.now)
        self.spool = Spool(self._root, self.name, limit_bytes=self._limit_bytes)
        self.purses = Purses(self.name, self.control, self.spool, self.now)
        await self._look()
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._watch_version())]

    def _forget(self, segment: int) -> None:
        """Delete what is settled, but for what the calls under way began in: there they are looked for after a death."""
        self.spool.forget(min([segment, *(call.segment for call in self.calls)]))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._leaving is not None:
            await self._leaving
        await self.shadows.close()
        if self._reporting is not None:
            await asyncio.gather(self._reporting, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._report(), LAST_SECONDS)
        self.limits.close()
        self.purses.close()
        self.pool.close()
        self.spool.close()

    # ---- for calls

    def terms(self, key: Key, path: str, dialect: Dialect, model: str) -> Terms:
        """Raises Refused: serving.route-unknown, serving.kind-differs, serving.api-unspoken, serving.crossing-denied."""
        place = (key.id, path, model)
        terms = self._terms.get(place)
        if terms is None or terms.key is not key:  # the key may be of an earlier snapshot, when its body came slowly
            duties = self.snapshot.duties.get(key.place)
            route = within_law(within_reach(dialect, offered(self.snapshot, key, model)), duties)
            meter = self.meters.of(route.name, dialect.kind)
            if len(self._terms) >= MAX_TERMS:
                self._terms.clear()
            climb = self.climbs.of(route.rollout)
            mirror = None if is_bound(duties, route.shadow) else self.shadows.of(route.shadow, key)
            terms = self._terms[place] = Terms(
                key, path, dialect, route, meter, self.snapshot.version, climb, mirror, duties
            )
        return terms

    def head_of(self, server: Server, path: bytes, method: str = "POST") -> bytes:
        """The head of a request to this server, up to the number that is the length of its body."""
        head = self._heads.get((server.id, path, method))
        if head is None:
            host = f"[{server.host}]" if ":" in server.host else server.host
            lines = [
                f"{method} {server.path}{path.decode().removeprefix('/v1')} HTTP/1.1", f"host: {host}:{server.port}",
                "content-type: application/json", "accept-encoding: identity", "user-agent: gongqi",
            ]  # fmt: skip
            is_anthropic = server.speaks == anthropic.SPEAKER
            if is_anthropic:
                lines.append(f"anthropic-version: {anthropic.VERSION}")
            if server.credential:
                lines.append(f"{'x-api-key:' if is_anthropic else 'authorization: Bearer'} {server.credential}")
            head = self._heads[(server.id, path, method)] = ("\r\n".join(lines) + "\r\ncontent-length: ").encode()
        return head

    def problem(self, error: GongqiError, language: str, id: str) -> Problem:
        """What a caller is told, in the words of the catalogue."""
        return problem_of(self._words, error, language, id)

    def broken_off(self, manners: Manners, route: Route, ending: str, id: str) -> bytes:
        """The last event of an answer that did not come to its end."""
        error = Unavailable("serving.broken-off", model=route.name, ending=ending)
        return manners.broken_off(self.problem(error, "en", id))

    # ---- its clocks

    async def _tick(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            count += 1
            try:
                self._turn(count, self.now())
            except Exception as error:  # a clock that stops would stop every time-out
                log.error("the plane's clock missed a turn", exc_info=error)

    def _turn(self, count: int, now: float) -> None:
        for call in self.calls:
            if call.watcher is None and now - call.began > TICK_SECONDS:
                call.outlast()
        self.spool.write()
        self.bodies.tick(now)
        if count % 5 == 0:
            self.pool.tick(now)
            self._end_stuck(now)
        if count % SLOW_TICKS == 0:
            self.purses.return_idle(now)
            self.limits.return_idle(now)
            self.retries.forget_old(now)
            self.cache.forget_old(now)
            self._tell(now)
            if self._reporting is None or self._reporting.done():
                self._reporting = self.loop.create_task(self._report())

    async def _report(self) -> None:
        """How roll-outs and shadows fare here, to where all processes' sums meet. What cannot be told now is told later."""
        news = self.climbs.unreported() | self.shadows.unreported()
        if not news:
            return
        try:
            await asyncio.to_thread(self.control.report, self.name, news)
        except Exception as error:  # the database is away
            log.warning("roll-outs cannot be reported", error=repr(error))
        else:
            self.climbs.reported(news)
            self.shadows.reported(news)

    def _tell(self, now: float) -> None:
        if self._leaving is not None and not self._leaving.done():
            return  # the disk is slow, and waited for elsewhere
        told = self.meters.told(
            under_way=len(self.calls), spool_bytes=self.spool.size, resting=self.health.resting(now),
            cache_bytes=self.cache.size,
        )  # fmt: skip
        self._leaving = self.loop.run_in_executor(None, meters.leave, self.spool.folder, told)

    def _end_stuck(self, now: float) -> None:
        moment = time.time()
        for call in list(self.calls):
            if call.key.expires_at <= moment:
                call.stop(metering.KEY_REVOKED)
            stuck = call.sending_since and now - call.sending_since > SEND_SECONDS
            if (stuck or now - call.began > TOTAL_SECONDS + SEND_SECONDS) and call.task is not None:
                call.stop(metering.CLIENT_GONE)
                call.task.cancel()

    async def _watch_version(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            count += 1
            try:
                await self._look(anew=count % ANEW_LOOKS == 0)
            except Exception as error:  # the database is away: go by what is known
                log.warning("the control plane cannot be asked", error=repr(error))

    async def _look(self, *, anew: bool = False) -> None:
        if anew or await asyncio.to_thread(self.control.version) != self.snapshot.version:
            self.swap(await asyncio.to_thread(self.control.snapshot))
        if self.spool.has_older:
            self._forget(await asyncio.to_thread(self.control.settled, self.name))

    def swap(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._heads.clear()
        self._terms.clear()
        self.cache.go_by({key.org: key.cache_since for key in snapshot.keys.values() if key.cache_seconds})
        routes = snapshot.routes.values()
        self.climbs.go_by([route.rollout for route in routes if route.rollout is not None])
        self.shadows.go_by([route.shadow for route in routes if route.shadow is not None])
        for call in list(self.calls):
            if call.key.id not in snapshot.key_ids:
                call.stop(metering.KEY_REVOKED)
