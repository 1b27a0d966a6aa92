"""One declaration, four doors: what exists in one exists in all, under the derived name, with the same rights."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import click
import httpx
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from gongqi.doors.cli import verbs
from gongqi.doors.fields import fields_of
from gongqi.doors.mcp.server import tool_name
from gongqi.doors.web.api import path_of


def test_every_declaration_is_a_route(operator, house) -> None:
    for name in house.verbs:
        answer = operator.post(f"/api/v1/{path_of(name)}", json={"no such field": 1})
        assert (answer.status_code, answer.json()["code"]) == (422, "kernel.input-invalid"), name
    for name in house.reads:
        answer = operator.get(f"/api/v1/{path_of(name).format(key='none')}")
        assert answer.json().get("code") != "web.route-unknown", name


def test_every_declaration_is_a_command(house) -> None:
    application = SimpleNamespace(house=lambda: house)
    for name, each in (house.verbs | house.reads).items():
        room, noun, word = name.split(":")
        nouns = verbs.room(room, application).commands[noun]
        assert isinstance(nouns, click.Group)
        command = nouns.commands[word]
        assert {field.name for field in fields_of(each.input)} <= {param.name for param in command.params}, name


def test_every_verb_is_a_form_and_every_form_a_verb(signed_in, house) -> None:
    for name in house.verbs:
        assert signed_in.get(f"/do/{name.replace(':', '/')}").status_code == 200, name
    for name in house.reads:
        assert signed_in.get(f"/do/{name.replace(':', '/')}").status_code == 404, name


def test_every_verb_that_is_not_public_is_a_tool(town, house) -> None:
    named = {name for name, verb in (house.verbs | house.reads).items() if not getattr(verb, "public", False)}
    assert set(town.door.by_tool) == {tool_name(name) for name in named}
    assert len(town.door.by_tool) == len(named), "no two names make one tool"


def by_http(served, town, note: str, headers: dict[str, str]) -> str:
    url = f"{served.url}/api/v1/guild/note/edit"
    answer = httpx.post(url, json={"note": note, "text": "mine"}, headers=headers).json()
    return answer.get("code", "done")


def by_tool(served, town, note: str, headers: dict[str, str]) -> str:
    async def talk() -> dict:
        async with httpx.AsyncClient(headers=headers) as http, Client(
            streamable_http_client(served.url + "/mcp", http_client=http)
        ) as speaker:
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
