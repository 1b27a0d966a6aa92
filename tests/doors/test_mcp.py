"""The MCP door, spoken to by the protocol's own client in both eras."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

import httpx
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from gongqi.doors.mcp.server import IDEMPOTENCY, tool_name


def spoken(url: str, headers: dict[str, str], work: Any, mode: str = "auto") -> Any:
    async def talk() -> Any:
        async with httpx.AsyncClient(headers=headers, timeout=10) as http:
            transport = streamable_http_client(url + "/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                return await work(client)

    return asyncio.run(talk())


async def names(client: Any) -> set[str]:
    return {tool.name for tool in (await client.list_tools()).tools}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_both_eras_list_call_and_are_refused_alike(served, town, mode: str) -> None:
    async def work(client: Any) -> Any:
        offered = await names(client)
        made = await client.call_tool("guild_note_create", {"org": town.org, "text": "by an agent"})
        read = await client.call_tool("guild_note_get", {"note": made.structured_content["id"]})
        refused = await client.call_tool("guild_note_get", {"note": "none"})
        return offered, made, read, refused

    offered, made, read, refused = spoken(served.url, town.auth, work, mode)
    assert {"guild_note_create", "guild_note_get", "guild_note_list", "members_token_issue"} <= offered
    assert "members_signin_redeem" not in offered
    assert not made.is_error and read.structured_content == made.structured_content
    assert refused.is_error
    assert refused.structured_content["code"] == "access.not-found"
    assert refused.structured_content["localized"]["zh"]["detail"]


def test_the_list_is_what_the_token_may_do(served, town, house) -> None:
    everything = spoken(served.url, town.auth, names)
    assert everything == {tool_name(v.name) for v in house.verbs.values() if not v.public} | set(
        map(tool_name, house.reads)
    )
    nobody = spoken(served.url, {}, names)
    assert nobody == set(map(tool_name, house.reads))


def test_a_stranger_who_calls_a_verb_is_refused(served, town) -> None:
    async def work(client: Any) -> Any:
        return await client.call_tool("guild_note_create", {"org": town.org, "text": "mine"})

    refused = spoken(served.url, {}, work)
    assert refused.is_error and refused.structured_content["code"] == "access.sign-in-needed"


def test_a_repeat_with_its_key_acts_once(served, town, evidence) -> None:
    async def work(client: Any) -> Any:
        arguments = {"org": town.org, "text": "once", IDEMPOTENCY: "agent-1"}
        return [(await client.call_tool("guild_note_create", dict(arguments))).structured_content for _ in range(2)]

    before = len(evidence)
    first, again = spoken(served.url, town.auth, work)
    assert first == again
    assert len(evidence) == before + 1


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("no_such_tool", {}, "mcp.tool-unknown"),
        ("guild_note_create", {}, "kernel.input-invalid"),
        ("guild_note_create", {"org": "o", "text": "a\0b"}, "kernel.input-invalid"),
        ("guild_note_create", {"org": "o", "text": "t", "number": 2**70}, "kernel.input-invalid"),
        ("guild_note_create", {"org": "o", "text": "t", IDEMPOTENCY: 7}, "kernel.input-invalid"),
        ("guild_note_create", {"org": "o", "text": "t", IDEMPOTENCY: ""}, "kernel.idempotency-key-invalid"),
        ("members_signin_redeem", {"secret": "x"}, "mcp.tool-unknown"),
    ],
)
def test_bad_calls_are_refused_with_a_code(served, town, tool: str, arguments: dict[str, Any], code: str) -> None:
    async def work(client: Any) -> Any:
        return await client.call_tool(tool, arguments)

    refused = spoken(served.url, town.auth, work)
    assert refused.is_error
    assert refused.structured_content["code"] == code


def test_tools_are_described_in_the_callers_language(served, town, house) -> None:
    async def work(client: Any) -> Any:
        return {tool.name: tool for tool in (await client.list_tools()).tools}

    tools = spoken(served.url, town.auth | {"accept-language": "zh"}, work)
    assert tools["guild_note_create"].title == house.words.verbs["guild:note:create"].label["zh"]
    assert tools["guild_note_get"].annotations.read_only_hint is True
    assert tools["guild_note_create"].annotations.read_only_hint is False
    assert IDEMPOTENCY in tools["guild_note_create"].input_schema["properties"]


HELLO = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"accept": "application/json, text/event-stream"}


def test_a_false_token_is_refused_before_the_protocol_begins(served) -> None:
    answer = httpx.post(served.url + "/mcp", json=HELLO, headers=ACCEPT | {"authorization": "Bearer gq_false"})
    assert (answer.status_code, answer.json()["code"]) == (401, "members.token-invalid")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
def test_a_page_of_another_site_cannot_speak_to_it(served, town, headers: dict[str, str]) -> None:
    answer = httpx.post(served.url + "/mcp", json=HELLO, headers=ACCEPT | town.auth | headers)
    assert 400 <= answer.status_code < 500
    assert "guild_note" not in answer.text


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_there_is_no_standing_stream_to_keep_the_server_up(served, method: str) -> None:
    answer = httpx.request(method, served.url + "/mcp", headers=ACCEPT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_body_too_large_is_refused(served, town) -> None:
    answer = httpx.post(served.url + "/mcp", content=b" " * 5_000_000, headers=ACCEPT | town.auth)
    assert answer.status_code == 413


def test_white_space_around_a_header_is_no_part_of_it(served, town) -> None:
    """RFC 9110 section 5.5. Clients of the protocol send such headers, and its conformance suite does."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/mcp")
    for name, value in (
        ("content-type", "application/json"), ("accept", "application/json, text/event-stream"),
        ("content-length", str(len(body))), ("mcp-protocol-version", " 2025-11-25 \t"),
    ):  # fmt: skip
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    assert answer.status == 200 and json.loads(answer.read())["result"]["tools"]
    connection.close()
