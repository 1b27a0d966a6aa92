"""A small house behind all its doors: the members, and a guild with one of everything that a door must bear."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import httpx
import pytest
import uvicorn
from pydantic import AwareDatetime, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

import gongqi.doors
from gongqi import app
from gongqi.doors.mcp.server import McpDoor
from gongqi.doors.web.server import Server, build
from gongqi.kernel.access import Policy, any_of, where, within
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.room import Endpoint, Figure, House, Kernel, Room, View
from gongqi.kernel.verbs import Entry, Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import VOCABULARY, service
from gongqi.members.room import ROOM as MEMBERS

DOORS = Path(gongqi.doors.__file__).parent
WORDS = (DOORS / "words.toml", DOORS / "web" / "words.toml", DOORS / "web" / "fields.toml")
START_SECONDS = 10.0


class GuildNote(Base):
    __tablename__ = "guild_note"

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    text: Mapped[str]
    public: Mapped[bool] = mapped_column(default=False)
    at: Mapped[datetime | None]
    number: Mapped[int] = mapped_column(default=0)
    more: Mapped[dict[str, Any]] = mapped_column(default=dict)
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class StageInput(Input):
    audience: Literal["members", "public"]
    opens_at: AwareDatetime | None = None


class WeightInput(Input):
    name: str = Field(max_length=40)
    shares: list[float] = Field(default_factory=list, max_length=5)


class TermsInput(Input):
    """What is within the group has a list of its own, which is as deep as a form is drawn."""

    days: int = Field(gt=0)
    binding: bool = False
    weights: list[WeightInput] = Field(default_factory=list, max_length=2)


class Create(Input):
    """One field of each kind."""

    org: str = Field(max_length=64)
    text: str = Field(min_length=1, max_length=100)
    number: int = 0
    public: bool = True
    tags: list[str] = Field(default_factory=list, max_length=5)
    at: AwareDatetime | None = None
    schedule: list[StageInput] = Field(default_factory=list, max_length=3)
    terms: TermsInput | None = None
    extra: dict[str, Any] | None = None


class Edit(Input):
    note: str = Field(max_length=64)
    text: str = Field(min_length=1, max_length=100)


class Key(Input):
    note: str = Field(max_length=64)


class Nothing(Input):
    pass


class List(Paged):
    tag: list[str] = Field(default_factory=list)


class NoteOut(Output):
    id: str
    org: str
    text: str
    public: bool
    number: int
    at: datetime | None
    more: dict[str, Any]
    version: int


class SecretOut(Output):
    token: str


@verb("guild:note:create", evidence="guild.note-created")
def create(ctx: Write, input: Create) -> NoteOut:
    """Write a note."""
    ctx.require("guild:note:create", input.org)
    more = {
        "tags": input.tags,
        "schedule": [each.model_dump(mode="json") for each in input.schedule],
        "terms": input.terms.model_dump(mode="json") if input.terms else None,
        "extra": input.extra,
    }
    note = GuildNote(
        id=ctx.new_id("gnote"), org=input.org, text=input.text, public=input.public, number=input.number, at=input.at,
        more=more,
    )  # fmt: skip
    ctx.add(note)
    ctx.session.flush()
    ctx.record(note.id)
    return NoteOut.model_validate(note)


@verb("guild:note:edit", evidence="guild.note-edited")
def edit(ctx: Write, input: Edit) -> NoteOut:
    note = ctx.find(GuildNote, input.note, to="guild:note:edit")
    note.text = input.text
    ctx.session.flush()
    ctx.record(note.id)
    return NoteOut.model_validate(note)


@verb("guild:note:reveal", evidence=None, secret=True)
def reveal(ctx: Write, input: Key) -> SecretOut:
    return SecretOut(token=ctx.new_id(ctx.find(GuildNote, input.note, to="guild:note:reveal").id))


@verb("guild:note:break", evidence=None)
def break_(ctx: Write, input: Key) -> NoteOut:
    raise RuntimeError("a secret of the inside")


@verb("guild:note:wait", evidence=None)
def wait(ctx: Write, input: Key) -> NoteOut:
    ctx.find(GuildNote, input.note, to="guild:note:wait")
    raise Unavailable("kernel.busy", retry_after_seconds=7)


@read("guild:note:list")
def list_notes(ctx: Read, input: List) -> Page[NoteOut]:
    query = ctx.visible(GuildNote, to="guild:note:read")
    if input.tag:
        query = query.where(GuildNote.text.in_(input.tag))
    return ctx.page(query, GuildNote.id, input, to=NoteOut)


@read("guild:note:get")
def get_note(ctx: Read, input: Key) -> NoteOut:
    return NoteOut.model_validate(ctx.find(GuildNote, input.note, to="guild:note:read"))


@read("guild:note:first")
def first_note(ctx: Read, input: Nothing) -> Page[NoteOut]:
    return ctx.page(ctx.visible(GuildNote, to="guild:note:read"), GuildNote.id, Paged(limit=1), to=NoteOut)


ACTS = ("edit", "reveal", "break", "wait")
VERBS = (create, edit, reveal, break_, wait)
READS = (list_notes, get_note, first_note)
POLICIES = (
    Policy(
        GuildNote,
        read="guild:note:read",
        rules={
            "guild:note:read": any_of(where(GuildNote.public), within(GuildNote.org)),
            **{f"guild:note:{act}": within(GuildNote.org) for act in ACTS},
        },
    ),
)
PAGE = """{% extends "base.html" %}{% block title %}G{% endblock %}{% block main %}
{% for note in notes %}<p>{{ note.text }}{% if can("guild:note:edit", note) %} editable{% endif %}</p>{% endfor %}
{% endblock %}"""


def load_notes(ctx: Read, tag: str = "") -> dict[str, Any]:
    return {"notes": list(ctx.session.scalars(ctx.visible(GuildNote, to="guild:note:read")))}


def load_note(ctx: Read, key: str) -> dict[str, Any]:
    return {"notes": [ctx.find(GuildNote, key, to="guild:note:read")]}


async def take(request: Request) -> Response:
    """Says who came and how the bytes came, without keeping them."""
    pieces, most, size = 0, 0, 0
    async for chunk in request.stream():
        pieces, most, size = pieces + bool(chunk), max(most, len(chunk)), size + len(chunk)
    return Response(f"{request.state.caller.actor.name} {pieces} {most} {size}", media_type="text/plain")


async def give(request: Request) -> Response:
    return Response(f"{request.state.caller.actor.name} {request.path_params['key']}", media_type="text/plain")


def count_notes(ctx: Read) -> int:
    return ctx.session.scalar(select(func.count()).select_from(GuildNote)) or 0


def words_of_guild() -> str:
    names = [each.name for each in (*VERBS, *READS)]
    rows = [f'[verb."{n}"]\nzh = "办{n}"\nen = "do {n}"\nhelp_zh = "助"\nhelp_en = "help"\n' for n in names]
    fields = ("note", "text", "public", "tags", "extra", "terms", "binding", "weights", "shares")
    texts = [f'"field.{name}" = {{ zh = "项{name}", en = "the {name}" }}\n' for name in fields]
    return "\n".join(rows) + '\n[text]\n"guild.notes" = { zh = "笔记", en = "Notes" }\n' + "".join(texts)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("guild")
    (folder / "words.toml").write_text(words_of_guild(), "utf-8")
    (folder / "templates").mkdir()
    (folder / "templates" / "guild_notes.html").write_text(PAGE, "utf-8")
    guild = Room(
        "guild", folder, verbs=VERBS, reads=READS, policies=POLICIES,
        views=(
            View("/guild", "guild_notes.html", load_notes, params=("tag",)),
            View("/guild/note/{key}", "guild_notes.html", load_note, id_prefix="gnote"),
        ),
        endpoints=(Endpoint("PUT", "/guild/raw/{key}", take), Endpoint("GET", "/guild/raw/{key}", give)),
        figures=(Figure("guild.notes", "/guild", count_notes),),
    )  # fmt: skip
    return House.build((MEMBERS, guild), VOCABULARY, *WORDS)


@pytest.fixture
def evidence() -> list[Entry]:
    return []


@pytest.fixture
def kernel(build: Callable[..., Kernel], house: House, evidence: list[Entry]) -> Kernel:
    return build(house, record=lambda _ctx, entry: evidence.append(entry))


@dataclass
class Town:
    """A foundation, its operator's token and one-time link, and a guild within it."""

    kernel: Kernel
    start: service.Bootstrap
    app: Any
    door: McpDoor

    @property
    def org(self) -> str:
        return self.start.organisation

    @property
    def auth(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.start.token}"}

    def client(self, token: str | None = None, **headers: str) -> TestClient:
        if token:
            headers["authorization"] = f"Bearer {token}"
        return TestClient(
            self.app, base_url="http://127.0.0.1:8420", headers=headers, raise_server_exceptions=False,
            follow_redirects=False,
        )  # fmt: skip

    def note(self, client: Any, text: str = "first", **values: Any) -> dict[str, Any]:
        answer = client.post("/api/v1/guild/note/create", json={"org": self.org, "text": text, **values})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def town(kernel: Kernel) -> Town:
    door = McpDoor(kernel)
    return Town(kernel, service.bootstrap_operator(kernel), build_app(kernel, door), door)


def build_app(kernel: Kernel, door: McpDoor) -> Any:
    web = build(kernel, door.routes)

    async def both(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await web(scope, receive, send)
            return
        await receive()
        async with door.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return both


@pytest.fixture
def whole(settings: Settings) -> Iterator[Town]:
    """The whole foundation as `gongqi serve` assembles it, but for the server and the flow worker."""
    kernel = app.assemble(settings, migrate=True)
    door = McpDoor(kernel)
    yield Town(kernel, service.bootstrap_operator(kernel), build_app(kernel, door), door)
    kernel.db.close()


@pytest.fixture
def operator(town: Town) -> TestClient:
    return town.client(town.start.token)


@pytest.fixture
def stranger(town: Town) -> TestClient:
    return town.client()


@pytest.fixture
def served(town: Town) -> Iterator[SimpleNamespace]:
    """The same application behind a real server: `url`, and `stop()` which says how many seconds it took."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(town.app, lifespan="on", log_config=None, timeout_graceful_shutdown=5)
    server = Server(config, town.kernel)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.005)

    def stop() -> float:
        started = time.monotonic()
        server.should_exit = True
        thread.join(START_SECONDS)
        assert not thread.is_alive()
        return time.monotonic() - started

    yield SimpleNamespace(url=f"http://127.0.0.1:{listener.getsockname()[1]}", stop=stop, server=server)
    with contextlib.suppress(AssertionError):
        stop()


class Forms(HTMLParser):
    """The forms of a page: where each leads, and what it would send if nobody typed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[SimpleNamespace] = []
        self._text: str | None = None
        self._choice: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        if tag == "form":
            self.forms.append(SimpleNamespace(action=named.get("action", ""), fields={}, inputs=[]))
        name = named.get("name", "")
        if not self.forms or not name or tag not in ("input", "select", "textarea", "button"):
            if tag == "option" and self._choice and "selected" in named:
                self.forms[-1].fields[self._choice] = named.get("value", "")
            return
        form = self.forms[-1]
        form.inputs.append(named | {"tag": tag})
        if tag == "textarea":
            self._text, form.fields[name] = name, ""
        elif tag == "select":
            self._choice, form.fields[name] = name, ""
        elif tag == "input" and (named.get("type") != "checkbox" or "checked" in named):
            form.fields[name] = named.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._text:
            self.forms[-1].fields[self._text] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._text = None
        if tag == "select":
            self._choice = None


class Browser:
    """What a browser does without scripts: it keeps cookies, fills forms and follows where they lead."""

    def __init__(self, client: Any) -> None:
        self.client = client
        client.headers.update({"accept": "text/html,*/*;q=0.8"})

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def form(self, path: str, action: str | None = None) -> SimpleNamespace:
        page = self.get(path)
        forms = Forms(page.text).forms
        return next(form for form in forms if form.action == (action or path).partition("?")[0])

    def send(self, form: SimpleNamespace, headers: dict[str, str] | None = None, **typed: Any) -> httpx.Response:
        fields = {**form.fields, **typed}
        data = {name: value for name, value in fields.items() if value is not None}
        return self.client.post(form.action, data=data, headers={"sec-fetch-site": "same-origin"} | (headers or {}))

    def sign_in(self, link: str) -> httpx.Response:
        path = re.sub(r"^https?://[^/]+", "", link)
        return self.send(self.form(path))


@pytest.fixture
def browser(town: Town) -> Browser:
    """Nobody yet."""
    return Browser(town.client())


@pytest.fixture
def signed_in(browser: Browser, town: Town) -> Browser:
    answer = browser.sign_in(town.start.link)
    assert answer.status_code == 303, answer.text
    return browser


@pytest.fixture
def new_browser_of() -> Callable[[Town], Browser]:
    return lambda town: Browser(town.client())


@pytest.fixture
def new_browser(town: Town) -> Callable[[], Browser]:
    return lambda: Browser(town.client())
