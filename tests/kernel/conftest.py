"""A village of one room: notes that organisations write, and a witness book in place of the evidence log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.access import Actor, Policy, Vocabulary, any_of, where, within
from gongqi.kernel.db import Base
from gongqi.kernel.events import Event
from gongqi.kernel.flows import Flow
from gongqi.kernel.room import House, Room
from gongqi.kernel.verbs import Entry, Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.kernel.worker import Worker


class Note(Base):
    __tablename__ = "village_note"

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    text: Mapped[str]
    count: Mapped[int] = mapped_column(default=0)
    public: Mapped[bool] = mapped_column(default=False)
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class Witness(Base):
    __tablename__ = "village_witness"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    actor: Mapped[str]
    facts: Mapped[dict[str, Any]]


class Bare(Base):
    """A table without versions and with a policy that knows only reading."""

    __tablename__ = "village_bare"

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]


@dataclass(frozen=True, slots=True)
class NoteEdited(Event):
    kind: ClassVar[str] = "village.note-edited.v1"
    note: str
    text: str

    @property
    def subject(self) -> str:
        return self.note


class Create(Input):
    org: str
    text: str = ""
    labels: tuple[str, ...] = ()


class Edit(Input):
    note: str
    text: str


class Key(Input):
    note: str


class List(Paged):
    org: str | None = None
    text: str | None = None


class Misspelt(Paged):
    """A list by a column that there is not."""

    organisation: str | None = None


class NoteOut(Output):
    id: str
    text: str
    count: int
    version: int


class SecretOut(Output):
    token: str


def witness(ctx: Write, entry: Entry) -> None:
    facts = dict(entry.facts)
    ctx.add(Witness(id=entry.id, kind=entry.kind, subject=entry.subject, actor=entry.actor, facts=facts))


@verb("village:note:create", evidence="village.note-created")
def create(ctx: Write, input: Create) -> NoteOut:
    ctx.require("village:note:create", input.org)
    note = ctx.add(Note(id=ctx.new_id("note"), org=input.org, text=input.text))
    ctx.session.flush()
    ctx.record(note.id, text=note.text)
    return NoteOut.model_validate(note)


@verb("village:note:edit", evidence="village.note-edited")
def edit(ctx: Write, input: Edit) -> NoteOut:
    note = ctx.find(Note, input.note, to="village:note:edit")
    note.text = input.text
    ctx.session.flush()
    ctx.record(note.id, text=note.text)
    ctx.emit(NoteEdited(note=note.id, text=note.text))
    return NoteOut.model_validate(note)


@verb("village:note:count", evidence="village.note-counted")
def count(ctx: Write, input: Key) -> NoteOut:
    note = ctx.find(Note, input.note, to="village:note:count")
    note.count += 1
    ctx.session.flush()
    ctx.record(note.id, count=note.count)
    return NoteOut.model_validate(note)


@verb("village:note:silent", evidence="village.note-silenced")
def silent(ctx: Write, input: Edit) -> NoteOut:
    note = ctx.find(Note, input.note, to="village:note:silent")
    note.text = input.text
    return NoteOut.model_validate(note)


@verb("village:note:careless", evidence="village.note-changed")
def careless(ctx: Write, input: Edit) -> NoteOut:
    note = ctx.find(Note, input.note, to="village:note:read")
    note.text = input.text
    ctx.record(note.id, text=note.text)
    return NoteOut.model_validate(note)


@verb("village:note:reveal", evidence=None, secret=True)
def reveal(ctx: Write, input: Key) -> SecretOut:
    ctx.find(Note, input.note, to="village:note:reveal")
    return SecretOut(token=ctx.new_id("secret"))


@verb("village:bare:touch", evidence="village.bare-touched")
def touch(ctx: Write, input: Key) -> SecretOut:
    bare = ctx.find(Bare, input.note, to="village:bare:touch")
    ctx.record(bare.id)
    return SecretOut(token=bare.id)


@verb("village:door:knock", evidence="village.door-knocked", public=True)
def knock(ctx: Write, input: Create) -> SecretOut:
    return SecretOut(token=ctx.record("door", text=input.text))


@read("village:note:list")
def list_notes(ctx: Read, input: List) -> Page[NoteOut]:
    return ctx.listed(Note, NoteOut, input, to="village:note:read")


@read("village:note:get")
def get_note(ctx: Read, input: Key) -> NoteOut:
    return NoteOut.model_validate(ctx.find(Note, input.note, to="village:note:read"))


VERBS = (create, edit, count, silent, careless, reveal, touch, knock)
READS = (list_notes, get_note)
POLICIES = (
    Policy(
        Note,
        read="village:note:read",
        rules={
            "village:note:read": any_of(where(Note.public.is_(True)), within(Note.org)),
            **{f"village:note:{act}": within(Note.org) for act in ("edit", "count", "silent", "careless", "reveal")},
        },
    ),
    Policy(
        Bare,
        read="village:bare:read",
        rules={"village:bare:read": within(Bare.org), "village:bare:touch": within(Bare.org)},
    ),
)


def person(name: str, *orgs: str, scopes: set[str] | None = None) -> Actor:
    """A member who may do everything in the village within `orgs`."""
    grants = {org: frozenset({"village:*"}) for org in orgs}
    narrowed = None if scopes is None else frozenset(scopes)
    return Actor(f"person_{name}", "person", name, grants=grants, orgs=frozenset(orgs), scopes=narrowed)


@pytest.fixture
def village(tmp_path: Path) -> SimpleNamespace:
    """The village's nouns and verbs, and `house(**more)`, which builds it with more rooms' parts."""
    folder = tmp_path / "village"
    folder.mkdir()
    words = [
        f'[verb."{each.name}"]\nzh = "词"\nen = "word"\nhelp_zh = "助"\nhelp_en = "help"\n' for each in (*VERBS, *READS)
    ]
    (folder / "words.toml").write_text("\n".join(words), "utf-8")

    def house(**more: Any) -> House:
        room = Room("village", folder, verbs=VERBS, reads=READS, policies=POLICIES, **more)
        return House.build([room], Vocabulary({}))

    return SimpleNamespace(
        Note=Note, Witness=Witness, Bare=Bare, NoteEdited=NoteEdited, Create=Create, Edit=Edit, Key=Key, List=List,
        Misspelt=Misspelt, NoteOut=NoteOut,
        create=create, edit=edit, count=count, silent=silent, careless=careless, reveal=reveal, touch=touch,
        knock=knock, list_notes=list_notes, get_note=get_note, house=house, witness=witness, person=person,
        folder=folder,
    )  # fmt: skip


@pytest.fixture
def kernel(build, village, clock):
    """The village on a fresh database, with a clock that moves only when told."""
    return build(village.house(), record=village.witness, clock=clock)


@pytest.fixture
def raise_house(build, village, clock):
    """`raise_house(flow, handlers=..., schedules=...)`: a kernel with the flow `f`, and a worker without threads."""

    def make(flow=None, **more):
        parts = {"flows": (Flow("f", flow),) if flow else ()} | more
        kernel = build(village.house(**parts), record=village.witness, clock=clock)
        return kernel, Worker(kernel, threads=0)

    return make
