"""One call: reserved, forwarded, ended, and its end written before the last of it is delivered.

Every record is the record that holds if the process dies now: `s` when a call has outlasted a tick of the clock, `p`
when content has been delivered, `e` at the end, all of one form. Who pays is decided by `metering.charge` and nowhere else.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog

from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.resources.serving import metering
from gongqi.resources.serving.metering import Tokens
from gongqi.resources.serving.plane import affinity, stream
from gongqi.resources.serving.plane.climb import Trial
from gongqi.resources.serving.plane.dialect import OUTPUT_BOUND, Answered, Asked, Events, Way
from gongqi.resources.serving.plane.guard import Guard, guarded
from gongqi.resources.serving.plane.health import MAX_REST_SECONDS, by_chance
from gongqi.resources.serving.plane.pool import Answer, Connection, Failed
from gongqi.resources.serving.plane.purse import Slice
from gongqi.resources.serving.plane.shadow import Echo
from gongqi.resources.serving.plane.snapshot import Target
from gongqi.resources.serving.plane.terms import Terms

if TYPE_CHECKING:
    from gongqi.resources.serving.plane.process import Plane

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

MAX_ATTEMPTS = 3  # servers tried for one call; not counted: one that it may not be said to, a connection found closed
PROGRESS_SECONDS = 1.0  # how much of a stream a death may forget, in the caller's favour
PASSED_ON = frozenset((400, 413, 415, 422))  # the request's own faults, which its sender must read
ENDINGS = {  # what a failure in the middle of an answer makes of the call
    "timed-out": metering.TIMED_OUT,
}

_WHOLE = re.compile(rb"\d{1,18}")

log = structlog.get_logger("gongqi.serving.call")


class Call:
    """One call on its way. `stop` ends it from outside: the caller left, its key was revoked."""

    __slots__ = (
        "_answered", "_asked", "_at_us", "_attempts", "_body", "_bound", "_connection", "_delivered", "_ended",
        "_first_byte", "_guard", "_held", "_opening", "_prompt", "_receive", "_reserved", "_stopped", "_target", "_terms",
        "_trial", "_way",
        "began", "charge", "ending", "has_begun_answer", "id", "key", "plane", "segment", "sending_since",
        "task", "watcher",
    )  # fmt: skip

    def __init__(
        self, plane: Plane, terms: Terms, *, id: str, asked: Asked, body: bytes, bound: Tokens, prompt: int,
        reserved: int, held: Slice | None, receive: Receive,
    ) -> None:  # fmt: skip
        key = terms.key
        self.plane = plane
        self.id = id
        self.key = key
        self.began = plane.now()
        self.segment = plane.spool.number
        self.sending_since = 0.0
        self.has_begun_answer = False
        self.ending: str | None = None
        self.charge = metering.FREE
        self.task = asyncio.current_task()
        self.watcher: asyncio.Task[None] | None = None
        self._receive = receive
        self._terms = terms
        self._asked = asked
        self._way: Way | None = None
        self._guard: Guard | None = None
        self._body = body
        self._bound = bound
        self._prompt = prompt  # tokens, by estimate
        self._reserved = reserved
        self._held = held
        self._at_us = time.time_ns() // 1000
        self._attempts = 0
        self._target: Target | None = None
        self._trial: Trial | None = None  # where its model is being rolled out
        self._first_byte: float | None = None
        self._connection: Connection | None = None
        self._stopped = None if key.id in plane.snapshot.key_ids else metering.KEY_REVOKED  # while it waited
        self._answered: Answered | None = None
        self._opening: tuple[Events, bytes] | None = None  # of a stream, and the first that it says
        self._delivered = 0
        self._ended = False

    @property
    def was_first_choice(self) -> bool:
        """Whether a server of the lowest rank answered: what a stand-in says is not what was asked for, nor is what one says
        that is on trial."""
        targets = self._terms.route.targets
        best = min(target.rank for target in targets)
        return self._target is not None and self._target.rank == best and self._target in targets

    def stop(self, ending: str) -> None:
        if self._stopped is None and not self._ended:
            self._stopped = ending
            if self._connection is not None:
                self._connection.fail(Failed("stopped"))

    async def run(self, send: Send) -> None:
        """Answer, and end. Raises what the caller is to be told when no answer has begun."""
        try:
            answer = await self._attempt_all()
            if answer.body is None:
                await self._deliver_stream(send)
            else:
                await self._deliver(send, answer)
        finally:
            if not self._ended:  # refused, or the server is ending
                ending = metering.KILLED if self._delivered else metering.REFUSED
                self._end(self._stopped or ending, None, self._delivered)
            if self._connection is not None:
                self._connection.release()

    def echo(self) -> Echo:
        """The call as its shadow goes by it."""
        duration_us, output = round((self.plane.now() - self.began) * 1e6), self.charge.tokens.output
        return Echo(
            self._terms.dialect, self.key.org, self.id, self._asked, self._body, self._bound, duration_us, output
        )  # fmt: skip

    def outlast(self) -> None:
        """What only a call needs that is not over at once: a record that it was begun, an ear for its caller to leave."""
        if not self._ended and not self._delivered:
            self._note("s", metering.KILLED, None, 0)
        self.watcher = self.plane.loop.create_task(self._listen())

    async def _listen(self) -> None:
        """The whole request has been received, so nothing else can come."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.stop(metering.CLIENT_GONE)

    # ---- attempts

    async def _attempt_all(self) -> Answer:
        """The first answer of the servers in their order. Raises Unavailable when there is none."""
        failure: GongqiError | None = None
        health, now, route = self.plane.health, self.plane.now, self._terms.route
        draws = route.has_affinity and len(route.targets) > 1
        draw = affinity.draw(self.key.org, self._body) if draws else by_chance
        if (climb := self._terms.climb) is None:
            order = health.order(route, now(), draw)
        else:
            self._trial, order = climb.order(health, route, now(), draw)
        for target in order:
            if self._attempts >= MAX_ATTEMPTS:
                break
            if not health.tries(target, now()):
                continue  # another call does meanwhile
            try:
                answer = await self._attempt(target)
            except Refused as refused:  # it cannot be said to this server; to the next it may, and tells of neither
                failure, self._trial = failure or refused, None
            except Failed as failed:
                failure = self._failed(target, failed)
            else:
                is_answer = answer.status == 200 or answer.status in PASSED_ON
                if is_answer and (self._trial is None or self._trial.settles_for(target, answer.status)):
                    health.worked(target)
                    return answer
                failure = self._turned_away(target, answer)
            self._drop_connection()
            if self._stopped is not None:
                break
        assert failure is not None, "the first may be tried"
        raise failure

    async def _attempt(self, target: Target) -> Answer:
        streams = bool(self._asked.stream)
        server = target.server
        way = self._way = self._terms.dialect.ways[server.speaks](self._asked, self._body, self.id, self._bound)
        body = way.forwarded(target.model)
        if self._terms.duties is not None:
            duty = self._terms.duties.get(target.region)
            self._guard = None
            if duty is not None:
                guard = self._guard = await guarded(duty, self._terms.dialect, self._terms.route.name, self.id, body)
                body = guard.body
        if server.salts:
            body = affinity.salted(body, self.key.org)
        self._attempts += 1
        self._target = target
        fields = way.fields
        if server.socket is not None:  # an engine of this home: it writes no more than was set aside
            fields = b"%s%s: %d\r\n" % (fields, OUTPUT_BOUND, self._bound.output)
        data = b"%s%d\r\n%s\r\n%s" % (self.plane.head_of(server, way.path), len(body), fields, body)
        pool = self.plane.pool
        connection = self._connection = pool.kept(server) or await pool.fresh(server)
        while True:
            if self._stopped is not None:
                raise Failed("stopped")
            try:
                answer = await connection.exchange(data, streams=streams)
                break
            except Failed as failed:
                if failed.kind in ("stopped", "timed-out") or not connection.is_stale:  # a fresh one never is
                    raise
            connection.release()
            connection = self._connection = await pool.fresh(server)
        self._first_byte = self.plane.now()
        if answer.status == 200:
            try:
                if answer.body is None:
                    self._opening = await self._opened(way.events(), connection)
                else:
                    answered = way.answered(answer.body)
                    self._answered = answered if self._guard is None else self._guard.answered(answered)
            except stream.Unusable as unusable:
                raise Failed("broken", str(unusable)) from None
        return answer

    async def _opened(self, events: Events, connection: Connection) -> tuple[Events, bytes]:
        """A stream is an answer when it has said something: until then another server can answer instead. Raises Failed,
        stream.Unusable."""
        events = events if self._guard is None else self._guard.events(events)
        while data := await connection.read():
            if ready := events.feed(data):
                return events, ready
        raise stream.Unusable("nothing was said")

    def _failed(self, target: Target, failed: Failed) -> GongqiError:
        if failed.kind == "stopped":
            return self._why_stopped()
        self.plane.health.failed(target, self.plane.now())
        if self._trial is not None:
            self._trial.failed()
        log.warning("model server failed", server=target.server.name, call=self.id, why=str(failed))
        code = {"timed-out": "serving.upstream-too-slow", "unreachable": "serving.upstream-unreachable"}
        return Unavailable(code.get(failed.kind, "serving.upstream-broken"), model=self._terms.route.name)

    def _why_stopped(self) -> GongqiError:
        if self._stopped == metering.KEY_REVOKED:
            return Refused("serving.key-invalid")
        return Unavailable("serving.caller-left")

    def _turned_away(self, target: Target, answer: Answer) -> GongqiError:
        """An answer that is none. What it says may speak of the operator's own affairs, so it is not passed on."""
        log.warning("model server refused", server=target.server.name, call=self.id, status=answer.status)
        if answer.status in PASSED_ON:  # by one that is being tried: whether the request is at fault the next will say
            return Unavailable("serving.upstream-broken", model=self._terms.route.name)
        if self._trial is not None:
            self._trial.failed()
        wait = answer.headers.get(b"retry-after", b"")
        rest = float(min(int(wait), MAX_REST_SECONDS)) if _WHOLE.fullmatch(wait) else None
        now = self.plane.now()
        if answer.status == 429:
            self.plane.health.failed(target, now, rest if rest is not None else 1.0)
            return Unavailable(
                "serving.upstream-busy", retry_after_seconds=int(rest or 1), model=self._terms.route.name
            )
        self.plane.health.failed(target, now, rest)
        return Unavailable("serving.upstream-broken", retry_after_seconds=int(rest or 1), model=self._terms.route.name)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None

    # ---- delivery

    async def _deliver(self, send: Send, answer: Answer) -> None:
        if self._stopped is not None:
            raise self._why_stopped()
        if answer.status == 200:
            assert self._answered is not None, "it was read when it came"
            body, reported = self._answered
            self._end(metering.COMPLETE, reported, metering.estimated_tokens(len(answer.body or b"")))
            if self._terms.dialect.kept is not None:
                body = await self._kept(body)
            if self._guard is not None:
                body = self._guard.marked(body)
        else:
            assert self._way is not None, "it was turned down on its way"
            body = self._way.turned_down(answer.status, answer.body or b"")
            if self._guard is not None:
                body = self._guard.reveal(body)
            self._end(metering.REFUSED, None, 0)
        self.plane.spool.write()
        self.has_begun_answer = True
        kind = b"application/json"
        if body is answer.body:
            kind = answer.headers.get(b"content-type", kind)
        headers = self._terms.dialect.manners.headers(self.id, kind, len(body))
        if self._guard is not None:
            headers += self._guard.lines(is_answer=answer.status == 200)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _deliver_stream(self, send: Send) -> None:
        connection = self._connection
        target = self._target
        assert connection is not None and target is not None and self._opening is not None, "an answer has begun"
        events, ready = self._opening
        ending = metering.COMPLETE
        noted = 0.0
        self.has_begun_answer = True
        kind = b"text/event-stream; charset=utf-8"
        headers = self._terms.dialect.manners.headers(self.id, kind, None)
        if self._guard is not None:
            headers += self._guard.lines(is_answer=True)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while True:
                if ready:
                    now = self.plane.now()
                    if events.done:
                        break
                    if events.events and now - noted >= PROGRESS_SECONDS:
                        noted = now
                        self._note("p", metering.KILLED, events.reported, events.events)
                        self.plane.spool.write()
                    self._delivered = events.events
                    self.sending_since = now
                    await send({"type": "http.response.body", "body": ready, "more_body": True})
                    self.sending_since = 0.0
                if self._stopped is not None:
                    raise Failed("stopped")
                if not (data := await connection.read()):
                    ready = b""
                    break
                ready = events.feed(data)
            if not events.done:
                ending = metering.CUT
        except Failed as failed:
            ready = b""
            ending = self._stopped or ENDINGS.get(failed.kind, metering.CUT)
            if failed.kind != "stopped":
                self.plane.health.failed(target, self.plane.now())
        except stream.Unusable as unusable:
            ready, ending = b"", metering.CUT
            self.plane.health.failed(target, self.plane.now())
            log.warning("model server broke off", server=target.server.name, call=self.id, why=str(unusable))
        delivered = max(1, events.events - events.closing) if ending == metering.COMPLETE else self._delivered
        self._end(ending, events.reported, delivered)
        self.plane.spool.write()
        if ending == metering.COMPLETE:
            self._connection = None
            connection.release_after_end()
            ready = await self._kept(ready)
        elif ending != metering.CLIENT_GONE:
            ready = self.plane.broken_off(self._terms.dialect.manners, self._terms.route, ending, self.id)
        await send({"type": "http.response.body", "body": ready})

    async def _kept(self, said: bytes) -> bytes:
        kept = self._terms.dialect.kept
        if kept is None:
            return said
        way = self._way if self._guard is None else self._guard.way(self._way)
        return await kept(self.plane.control, self.key, self._asked, self._body, way, said)

    # ---- the record

    def _end(self, ending: str, reported: Tokens | None, delivered: int) -> None:
        self._ended = True
        self.ending = ending
        self._note("e", ending, reported, delivered)
        if self._trial is not None:
            self._trial.ended(ending, self._first_byte)
        if self._held is not None:
            self.plane.purses.give(self._held, self._reserved, self.charge.nanos)

    def _note(self, mark: str, ending: str, reported: Tokens | None, delivered: int) -> None:
        terms, began = self._terms, self.began
        charge = self.charge = metering.charge(
            ending,
            tariff=terms.route.tariff,
            bound=self._bound,
            reported=reported,
            prompt=self._prompt,
            delivered=delivered,
        )
        duration = round((self.plane.now() - began) * 1e6)
        first = None if self._first_byte is None else round((self._first_byte - began) * 1e6)
        if self._ended:
            terms.meter.ended(ending, duration, first, charge.tokens)
        self.plane.spool.add(
            [
                mark, self.id, *terms.whose, None if self._target is None else self._target.server.id, ending, self._at_us,
                duration, first, self._attempts, *charge.tokens, charge.estimated, charge.capped, *terms.price,
                charge.nanos, None if self._held is None else self._held.id, terms.version, terms.route.tariff.tier, None,
                0 if self._guard is None else self._guard.masked,
            ]
        )  # fmt: skip
