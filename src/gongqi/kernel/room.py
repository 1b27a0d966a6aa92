"""Rooms, the house they make, and the kernel that runs it.

Each room's `room.py` holds one literal `Room(...)`; `rooms.py` lists them in order; `House` joins them and refuses, at
start-up and by name, whatever does not fit: a verb without words, a gate nobody declared, a policy given twice. No
scanning, no import side effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from gongqi.kernel.access import SYSTEM, Actor, Policy, Vocabulary
from gongqi.kernel.blobs import Blobs
from gongqi.kernel.clock import Clock, SystemClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.errors import Broken
from gongqi.kernel.events import EventRow, Handler
from gongqi.kernel.flows import DELIVERY, Flow, Run, Schedule
from gongqi.kernel.gates import Answerer, Gate
from gongqi.kernel.verbs import Caller, Entry, Read, ReadVerb, Verb, Write
from gongqi.kernel.words import Words

Shape = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # of a problem document


@dataclass(frozen=True, slots=True)
class View:
    """A console page: `load(ctx, **path parameters)` gives the template its values. It translates, it decides nothing.

    `path` as in Starlette (`/hub/asset/{key}`); `params` names the query parameters that `load` also takes. A page with a
    form of its own, which brings files, says by `take(kernel, caller, sent, **path parameters)` what becomes of them, and
    gets the address to go on to; a refusal is shown on the page, with what was typed.
    """

    path: str
    template: str
    load: Callable[..., Mapping[str, Any]]
    params: tuple[str, ...] = ()
    id_prefix: str = ""  # ids `ast_…` lead to this page
    take: Callable[..., str] | None = None


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file of a form: the name that the sender's machine has for it, and its content."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """What a page's own form brought: its fields, and its files in their order."""

    fields: Mapping[str, str]
    files: tuple[SentFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """A section that a room adds to the page of a room below, which asks for it as it would ask a gate.

    `page` is that view's template; `load` takes the view's arguments and gives the values, or None for nothing to show.
    `place` names a part of that page which the panel stands in for, where it has something to show.
    """

    page: str
    template: str
    load: Callable[..., Mapping[str, Any] | None]
    place: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A live number of the home page. `key` is also its text key; `measure` runs as the public."""

    key: str
    href: str
    measure: Callable[[Read], int | str]


@dataclass(frozen=True, slots=True)
class Chore:
    """What every server process does for itself every so often, such as bringing home what it has counted in memory.

    Work that concerns all processes together is a flow. `run(kernel)` is also called when the process stops in peace.
    """

    name: str
    every_seconds: float
    run: Callable[[Kernel], None]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A raw HTTP route for a protocol that is not ours to shape (uploads, Open Inference Protocol, tiles).

    `handle` is an ASGI endpoint `async (request) -> response`; the kernel and the caller are on `request.state`.
    `problem` adds to our problem document what the protocol's own clients know an error by. `actor` says who calls,
    `(request, kernel) -> actor`, where the protocol has tokens of its own. `together`, for GET where the answer is a short
    question or two, is `(request, ctx) -> response`, asked first, on a thread and in a snapshot that it shares with other
    requests of the moment; when it gives None, `handle` is asked.
    """

    method: str
    path: str
    handle: Callable[..., Any]
    problem: Shape | None = None
    actor: Callable[..., Actor] | None = None
    together: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """Everything a room brings. `folder` holds its `words.toml` and `templates/`."""

    name: str
    folder: Path
    verbs: tuple[Verb, ...] = ()
    reads: tuple[ReadVerb, ...] = ()
    policies: tuple[Policy, ...] = ()
    gates: tuple[Gate, ...] = ()
    answerers: tuple[Answerer, ...] = ()
    handlers: tuple[Handler, ...] = ()
    flows: tuple[Flow, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    chores: tuple[Chore, ...] = ()
    views: tuple[View, ...] = ()
    panels: tuple[Panel, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(slots=True)
class House:
    """All rooms joined. Raises ValueError at the first thing that does not fit."""

    rooms: tuple[Room, ...]
    vocabulary: Vocabulary
    words: Words
    verbs: dict[str, Verb] = field(default_factory=dict)
    reads: dict[str, ReadVerb] = field(default_factory=dict)
    policies: dict[type[Base], Policy] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    answerers: dict[str, list[Answerer]] = field(default_factory=dict)
    handlers: dict[str, list[Handler]] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    chores: tuple[Chore, ...] = ()
    _called: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def build(cls, rooms: Iterable[Room], vocabulary: Vocabulary, *word_files: Path) -> House:
        house = cls(tuple(rooms), vocabulary, Words())
        for path in (Path(__file__).with_name("words.toml"), *word_files):
            house.words.load(path)
        house._put(house.flows, DELIVERY, Flow(DELIVERY, deliver))
        for room in house.rooms:
            house._join(room)
        house._check()
        return house

    def _join(self, room: Room) -> None:
        if (words := room.folder / "words.toml").exists():
            self.words.load(words)
        for verb in room.verbs:
            self._put(self.verbs, verb.name, verb)
        for read in room.reads:
            self._put(self.reads, read.name, read)
        for policy in room.policies:
            self._put(self.policies, policy.model, policy)
        for gate in room.gates:
            self._put(self.gates, gate.name, gate)
        for answerer in room.answerers:
            self._append(self.answerers, answerer.gate.name, answerer, called=answerer.source)
        for handler in room.handlers:
            self._append(self.handlers, handler.event.kind, handler, called=handler.name)
        for flow in room.flows:
            self._put(self.flows, flow.kind, flow)
        self.schedules += room.schedules
        self.chores += room.chores

    @staticmethod
    def _put(table: dict[Any, Any], key: Any, value: Any) -> None:
        if key in table:
            raise ValueError(f"house: {key} is given twice")
        table[key] = value

    def _append(self, table: dict[str, list[Any]], key: str, value: Any, *, called: str) -> None:
        """Two of one name would hide each other: an answer, perhaps a deny, or a delivery would be lost."""
        if (key, called) in self._called:
            raise ValueError(f"house: {called} is given twice for {key}")
        self._called.add((key, called))
        table.setdefault(key, []).append(value)

    def _check(self) -> None:
        for name in (*self.verbs, *self.reads):
            if name.count(":") != 2:
                raise ValueError(f"house: {name} is not room:noun:verb")
            if name not in self.words.verbs:
                raise ValueError(f"house: {name} has no words")
        if both := set(self.verbs) & set(self.reads):
            raise ValueError(f"house: {sorted(both)} are verbs and reads at once")
        for name in self.answerers:
            if name not in self.gates:
                raise ValueError(f"house: gate {name} is answered but not declared")
        for schedule in self.schedules:
            if schedule.kind not in self.flows:
                raise ValueError(f"house: flow {schedule.kind} is scheduled but not defined")


class Kernel:
    """A house standing on a database, a blob store and a clock. `record` is the evidence book's way in."""

    def __init__(
        self,
        settings: Settings,
        house: House,
        db: Database,
        blobs: Blobs,
        *,
        record: Callable[[Write, Entry], None],
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.house = house
        self.db = db
        self.blobs = blobs
        self.record = record
        self.clock: Clock = clock or SystemClock()
        self.nudge: Callable[[set[str]], None] = lambda _kinds: None  # the server's worker puts its own here
        self.parts: dict[type, Any] = {}  # long-lived objects of rooms, by type, made in app.py
        self.is_stopping = False  # said by the server that takes no more requests: whoever streams ends

    def part(self, kind: type) -> Any:
        """The long-lived object of this type that the composition root provided (signing keys, model sessions)."""
        if kind not in self.parts:
            raise Broken("kernel.part-missing", part=kind.__name__)
        return self.parts[kind]

    def transact(self, work: Callable[[Write], Any], *, reason: str) -> Any:
        """Run `work` as the system in one write transaction: for flow steps and event handlers."""
        nudges: set[str] = set()

        def transaction(session: Session) -> Any:
            ctx = Write(self, session, Caller(SYSTEM, request_id=reason))
            output = work(ctx)
            nudges.update(ctx.after_commit)  # a hint to look: one of a run that did not commit does no harm
            return output

        output = self.db.write(transaction)
        if nudges:
            self.nudge(nudges)
        return output

    def look(self, work: Callable[[Read], Any], caller: Caller | None = None) -> Any:
        """Run `work` on a read context (as the system unless a caller is given)."""
        with self.db.reading() as session:
            return work(Read(self, session, caller or Caller(SYSTEM)))


def deliver(run: Run, event: str, handler: str) -> None:
    """Deliver one event to one handler; the handler's rows commit with the mark that it ran."""

    def handle(ctx: Write) -> None:
        row = ctx.session.get(EventRow, event)
        if row is None:
            raise Broken("kernel.event-lost", event=event)
        for candidate in run.kernel.house.handlers.get(row.kind, ()):
            if candidate.name == handler:
                candidate.handle(ctx, candidate.event(**row.payload))

    run.write("handle", handle, last=True)
