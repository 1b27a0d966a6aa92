"""One declaration, four doors: what exists in one exists in all, under the derived name, with the same rights."""

from __future__ import annotations

import asyncio
import html
import re

import click
import httpx
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from gongqi import app
from gongqi.doors.cli import main, verbs
from gongqi.doors.fields import fields_of
from gongqi.doors.mcp.server import tool_name
from gongqi.doors.web.api import path_of


def test_every_declaration_is_a_route(whole) -> None:
    operator, house = whole.client(whole.start.token), whole.kernel.house
    for name in house.verbs:
        answer = operator.post(f"/api/v1/{path_of(name)}", json={"no such field": 1})
        assert (answer.status_code, answer.json()["code"]) == (422, "kernel.input-invalid"), name
    for name in house.reads:
        answer = operator.get(f"/api/v1/{path_of(name).format(key='none')}")
        assert answer.json().get("code") != "web.route-unknown", name


def test_every_declaration_is_a_command() -> None:
    house = app.house()
    groups = {name: verbs.room(name, app) for name in main.ROOMS}
    for name, each in (house.verbs | house.reads).items():
        room, noun, word = name.split(":")
        nouns = groups[room].commands[noun]
        assert isinstance(nouns, click.Group)
        command = nouns.commands[word]
        assert {field.name for field in fields_of(each.input)} <= {param.name for param in command.params}, name


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_every_verb_is_a_form_worded_in_both_languages_and_no_read_is(whole, new_browser_of, lang: str) -> None:
    browser, house = new_browser_of(whole), whole.kernel.house
    assert browser.sign_in(whole.start.link).status_code == 303
    for name, verb in house.verbs.items():
        page = browser.get(f"/do/{name.replace(':', '/')}?lang={lang}")
        assert page.status_code == 200, name
        assert html.escape(house.words.verbs[name].label[lang], quote=False) in page.text
        assert not re.search(r"\bfield\.[a-z_]+", page.text), name
        for field in fields_of(verb.input):
            assert f'name="{field.name}' in page.text, (name, field)
    for name in house.reads:
        assert browser.get(f"/do/{name.replace(':', '/')}").status_code == 404, name


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_every_page_without_a_key_opens_for_everybody_in_both_languages(whole, new_browser_of, lang: str) -> None:
    views = [view for room in whole.kernel.house.rooms for view in room.views]
    stranger, operator = new_browser_of(whole), new_browser_of(whole)
    assert operator.sign_in(whole.start.link).status_code == 303
    for browser in (stranger, operator):
        for path in ["/", "/sign-in", *(view.path for view in views if "{" not in view.path)]:
            page = browser.get(f"{path}?lang={lang}")
            assert page.status_code in ((200,) if browser is operator else (200, 401)), (path, page.text)


def test_every_page_of_an_unknown_key_is_not_found(whole, new_browser_of) -> None:
    browser = new_browser_of(whole)
    browser.sign_in(whole.start.link)
    for view in (view for room in whole.kernel.house.rooms for view in room.views if "{" in view.path):
        page = browser.get(re.sub(r"\{[^}]+\}", "none", view.path))
        assert 400 <= page.status_code < 500, (view.path, page.status_code)


def test_every_verb_that_is_not_public_is_a_tool(whole) -> None:
    every = whole.kernel.house.verbs | whole.kernel.house.reads
    named = {name for name, verb in every.items() if not getattr(verb, "public", False)}
    assert set(whole.door.by_tool) == {tool_name(name) for name in named}
    assert len(whole.door.by_tool) == len(named), "no two names make one tool"


def by_http(served, town, note: str, headers: dict[str, str]) -> str:
    url = f"{served.url}/api/v1/guild/note/edit"
    answer = httpx.post(url, json={"note": note, "text": "mine"}, headers=headers).json()
    return answer.get("code", "done")


def by_tool(served, town, note: str, headers: dict[str, str]) -> str:
    async def talk() -> dict:
        async with (
            httpx.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(served.url + "/mcp", http_client=http)) as speaker,
        ):
            return (await speaker.call_tool("guild_note_edit", {"note": note, "text": "mine"})).structured_content

    return asyncio.run(talk()).get("code", "done")


@pytest.mark.parametrize("door", [by_http, by_tool])
def test_the_rights_are_the_same_at_every_door(served, town, door) -> None:
    """Operator, narrowed token, stranger: done, forbidden, sign in first."""
    with httpx.Client(base_url=served.url, headers=town.auth) as http:
        note = town.note(http)["id"]
        agent = http.post("/api/v1/members/agent/create", json={"handle": "narrow", "name": "N", "org": town.org})
        issue = {"label": "n", "party": agent.json()["id"], "scopes": ["guild:note:create"]}
        narrow = http.post("/api/v1/members/token/issue", json=issue).json()["secret"]
    assert door(served, town, note, town.auth) == "done"
    assert door(served, town, note, {"authorization": f"Bearer {narrow}"}) == "access.forbidden"
    assert door(served, town, note, {}) == "access.sign-in-needed"
