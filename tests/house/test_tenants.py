"""Two tenants and every way into the house: nobody sees or does what is not theirs.

The table says for every verb, read, page and endpoint what five people get when they reach for what is the north's: a
stranger, the owner of the south (another tenant, who may do everything at home), a plain member of the north, the
north's owner, and the operator. A route that is missing from it fails the test, and so does a row without a route.

Everything private of the north has the word `CANARY` in its names, titles, texts, paths and contents, and its ids and
digests are written down. The word must never come out to the stranger or the south, by any door. Ids and digests come
out in two places only, which are public by design: the evidence (a log that hides entries proves nothing) and, as bare
ids, the lineage of what is public.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from mcp.client.client import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from starlette.routing import Mount, Route

from gongqi.doors.fields import fields_of, key_field
from gongqi.doors.mcp.server import tool_name
from gongqi.doors.web.api import path_of
from tests.house.tenants_doors import ENDPOINTS, PAGES, STREAMS
from tests.house.tenants_table import READS, VERBS, Given
from tests.house.world import CANARY, OUTSIDERS, PEOPLE, World

pytestmark = [pytest.mark.long, pytest.mark.postgres]

MOST_PAGES = 40  # some pages of the south's own come last and may be left out


def routes_of(foundation: Any) -> set[str]:
    """Every route of the assembled application: `METHOD path`, or for what is derived from it the verb's name."""
    house = foundation.kernel.house
    found = {*house.verbs, *house.reads, "GET /api/v1/openapi.json"}
    for route in foundation.routes:
        if isinstance(route, Route):
            found |= {f"{method} {route.path}" for method in (route.methods or {"GET", "POST", "DELETE"}) - {"HEAD"}}
        elif isinstance(route, Mount) and route.path == "/static":
            found.add("GET /static/{path}")
        else:
            assert isinstance(route, Mount) and route.path == "/api/v1", route
    return found


@dataclass
class Answer:
    route: str
    person: str
    status: int
    text: str
    sent: str
    items: int | None = None

    @property
    def shown(self) -> str:
        return str(self.status) if self.items is None else f"{self.status}/{self.items}"


def ask(w: World, route: str, person: str, given: Mapping[str, Any], *, browser: bool = False) -> Answer:
    """One request, as `person`."""
    sent = json.dumps(given, default=str)
    if route in VERBS:
        answer = w.http(person).post("/api/v1/" + path_of(route), json=given)
    elif route in READS:
        path, query = "/api/v1/" + path_of(route), dict(given)
        if "{key}" in path:
            path = path.replace("{key}", query.pop(key_field(w.foundation.kernel.house.reads[route].input)))
        answer = w.http(person).get(path, params=query)
    else:
        method, path = route.split(" ")
        values = {
            name: value for name, value in given.items() if name not in ("query", "json", "content", "data", "headers")
        }
        path = re.sub(r"{(\w+)(:\w+)?}", lambda match: quote(values[match[1]], safe="/"), path)
        more = {name: given[name] for name in ("json", "content", "data", "headers") if name in given}
        client = w.browser(person) if browser else w.http(person)
        answer = client.request(method, path, params=given.get("query"), follow_redirects=False, **more)
    listed = answer.json().get("items") if route in READS and answer.status_code == 200 else None
    return Answer(route, person, answer.status_code, answer.text, sent, len(listed) if listed is not None else None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, found: Any, new_database: Any, wait: Any) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tenants")
    with new_database(folder) as url:
        foundation = found(folder / "home", url)
        yield World(foundation, folder, wait)
        foundation.stop()


def everything(w: World) -> Iterator[tuple[str, str, Given, bool]]:
    """(route, what each gets, input, whether a browser asks), what changes things last."""
    for table, browser in ((READS, False), (ENDPOINTS, False), (PAGES, True), (VERBS, False)):
        for route, (wanted, given) in table.items():
            yield route, wanted, given, browser


def leaks(w: World, answer: Answer) -> list[str]:
    """What of the north's private things is in an outsider's answer."""
    found = [CANARY] if CANARY in answer.text.lower() and CANARY not in answer.sent else []
    if not is_public_book(answer.route):
        found += [key for key in w.private if key in answer.text and key not in answer.sent]
    return found


def is_public_book(route: str) -> bool:
    """The evidence, by whichever door; the home page shows its latest entries."""
    return route.startswith(("evidence:", "GET /evidence", "GET /log/")) or route == "GET /"


def test_the_table_names_every_route_and_no_other(world: World) -> None:
    named = {*VERBS, *READS, *ENDPOINTS, *PAGES, *STREAMS}
    assert routes_of(world.foundation) - named == set(), "routes that the table does not name"
    assert named - routes_of(world.foundation) == set(), "rows of no route"


def test_everyone_gets_what_the_table_says_and_nothing_private_comes_out(world: World) -> None:
    wrong: list[str] = []
    for route, wanted, given, browser in everything(world):
        answers = [ask(world, route, person, given(world, person), browser=browser) for person in PEOPLE]
        got = " ".join(answer.shown for answer in answers)
        if got != wanted:
            wrong.append(f"{route}: {got} instead of {wanted}")
        for answer in answers:
            if answer.person in OUTSIDERS and (found := leaks(world, answer)):
                wrong.append(f"{route}: {answer.person} is told {found}: {answer.text[:300]}")
    assert not wrong, "\n".join(wrong)


def test_no_link_leads_an_outsider_to_anything_private(world: World) -> None:
    """Every page that can be reached from the home page by links is read, and says nothing of the north's."""
    for person in OUTSIDERS:
        client, seen, ahead = world.browser(person), set(), ["/"]
        while ahead and len(seen) < MOST_PAGES:
            path = ahead.pop(0)
            seen.add(path)
            answer = client.get(path, follow_redirects=True)
            assert answer.status_code < 500, path
            assert CANARY not in answer.text.lower(), (person, path)
            links = re.findall(r'href="(/[^"#]*)"', answer.text)
            ahead += [link for each in links if (link := unescape(each)) not in {*seen, *ahead} and "lang=" not in link]
        assert {"/hub", "/evidence", "/members"} < seen


def test_lineage_tells_an_outsider_that_a_source_is_there_and_nothing_else_of_it(world: World) -> None:
    for person in OUTSIDERS:
        graph = world.http(person).get("/api/v1/hub/release/lineage", params={"release": world.derived}).json()
        hidden = next(node for node in graph["nodes"] if node["revision"] == world.revision)
        assert hidden["hidden"] and not any(value for key, value in hidden.items() if key not in ("revision", "hidden"))
        for path in (f"/hub/release/{world.derived}", f"/hub/revision/{world.derived_revision}"):
            assert CANARY not in world.browser(person).get(path).text.lower()


def test_forms_refuse_the_other_tenant_as_the_api_does(world: World) -> None:
    browser, wrong = world.browser("south"), []
    for name, (wanted, given) in VERBS.items():
        want = int(wanted.split()[1])
        if want in (200, 410):  # open to all, or what is the south's own
            continue
        typed = typed_as(world.foundation.kernel.house.verbs[name].input, given(world, "south"))
        action = f"/do/{name.replace(':', '/')}"
        answer = browser.post(action, data=typed | {"csrf": world.csrf("south")})
        if answer.status_code != want or (
            CANARY in answer.text.lower().replace(str(typed).lower(), "") and CANARY not in str(typed)
        ):
            wrong.append(f"{name}: {answer.status_code} instead of {want}")
        shown = browser.get(action, params=typed)
        if shown.status_code >= 500 or (CANARY in shown.text.lower() and CANARY not in str(typed)):
            wrong.append(f"{name}: the form itself, {shown.status_code}")
    assert not wrong, "\n".join(wrong)


def typed_as(model: Any, given: Mapping[str, Any]) -> dict[str, str]:
    """An input as its form sends it: rows as `name.0.part`, other structures as JSON."""
    typed: dict[str, str] = {}
    for each in fields_of(model):
        value = given.get(each.name)
        if each.kind == "rows":
            for number, row in enumerate(value or []):
                parts = {part: value for part, value in row.items() if value is not None}
                typed |= {f"{each.name}.{number}.{part}": written(value) for part, value in parts.items()}
        elif value is not None:
            typed[each.name] = written(value)
    return typed


def written(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def test_tools_refuse_the_outsiders_as_the_api_does(world: World) -> None:
    async def walk(person: str) -> list[str]:
        wrong = []
        token = {} if person == "stranger" else {"authorization": f"Bearer {world.people[person].secret}"}
        async with httpx.AsyncClient(headers=token, timeout=30, trust_env=False) as http:
            transport = streamable_http_client(world.foundation.url + "/mcp", http_client=http)  # type: ignore[arg-type]
            async with McpClient(transport) as tools:
                for name, (wanted, given) in {**READS, **VERBS}.items():
                    want = wanted.split()[PEOPLE.index(person)]
                    if name == "members:signin:redeem" or (name in VERBS and want == "200"):
                        continue  # no tool; what would act once more
                    sent = given(world, person)
                    answer = await tools.call_tool(tool_name(name), sent)
                    told = Answer(name, person, 0, json.dumps(answer.structured_content), json.dumps(sent))
                    status = (answer.structured_content or {}).get("status", 200) if answer.is_error else 200
                    if str(status) != want.partition("/")[0] or leaks(world, told):
                        wrong.append(f"{person} {name}: {status} instead of {want}, {leaks(world, told)}")
        return wrong

    wrong = [each for person in OUTSIDERS for each in asyncio.run(walk(person))]
    assert not wrong, "\n".join(wrong)


def test_the_live_numbers_are_those_of_the_public(world: World) -> None:
    def first(person: str) -> str:
        with world.browser(person).stream("GET", "/live") as stream:
            return next(line for line in stream.iter_lines() if line.startswith("data:"))

    told = {person: json.loads(first(person)[5:]) for person in ("stranger", "south", "operator")}
    assert told["stranger"] == told["south"] == told["operator"]
    assert CANARY not in json.dumps(told)


def test_bytes_of_another_tenant_are_not_had_by_naming_their_digest(world: World) -> None:
    south, file = world.people["south"], world.files[1]
    asset = world.foundation.asset(south, world.south, "borrowed")
    answer = south.http.post("/api/v1/hub/revision/commit", json={"asset": asset, "message": "mine", "files": [file]})
    assert (answer.status_code, answer.json()["code"]) == (422, "hub.blob-unknown")
