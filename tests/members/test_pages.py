"""The pages of identity, through the console, in both languages."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import pytest

import gongqi.doors
from gongqi.doors.web.callers import SESSION_COOKIE
from gongqi.doors.web.server import build as build_web
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.room import House
from gongqi.members import VOCABULARY
from gongqi.members.room import ROOM

DOORS = Path(gongqi.doors.__file__).parent


@pytest.fixture
def get(foundation):
    foundation.kernel.house = House.build((ROOM,), VOCABULARY, DOORS / "words.toml", DOORS / "web" / "words.toml")
    app = build_web(foundation.kernel)

    async def fetch(path: str, session: str | None, language: str) -> httpx.Response:
        cookies = {SESSION_COOKIE: session} if session else {}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", cookies=cookies) as client:
            return await client.get(path, headers={"accept-language": language})

    def get(path: str, session: str | None = None, language: str = "en", status: int = 200) -> str:
        response = anyio.run(fetch, path, session, language)
        assert response.status_code == status, response.text
        return response.text

    return get


@pytest.fixture
def hospital(foundation):
    """(organisation, agent, session secret of its owner)"""
    org = foundation.organisation("hospital")
    owner = foundation.person("owner-one", org, "owner")
    agent = foundation.do(owner, "members:agent:create", org=org, handle="triage", name="Triage <b>")
    foundation.do(owner, "members:token:issue", party=agent.id, label="agent", scopes=["serving:model:infer"])
    foundation.do(owner, "members:token:issue", label="own script")
    link = foundation.do(foundation.operator, "members:signin:link", party=owner.id).link
    secret = foundation.do(ANONYMOUS, "members:signin:redeem", secret=link.rsplit("/", 1)[1]).secret
    return org, agent.id, secret


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_speaks_both_languages_wholly(get, hospital, foundation, language):
    org, agent, secret = hospital
    owner = foundation.by_session(secret).id
    paths = (
        "/members",
        "/members?kind=agent",
        f"/members/organisation/{org}",
        f"/members/agent/{agent}",
        f"/members/person/{owner}",
        "/me",
    )
    for path in paths:
        page = get(path, secret, language)
        assert "members." not in page, path  # a key that nobody wrote shows as itself
        assert ("成员" in page) == (language == "zh")


def test_the_directory_shows_a_stranger_no_people(get, hospital):
    page = get("/members")
    assert "Hospital" in page and "Invite person" not in page
    assert "Triage &lt;b&gt;" in get("/members?kind=agent") and "owner-one" not in get("/members?kind=person")


def test_an_owner_finds_what_they_may_do(get, hospital):
    org, agent, secret = hospital
    directory = get("/members", secret)
    assert "Invite person" in directory and "Create organisation" not in directory
    page = get(f"/members/organisation/{org}", secret)
    assert f"/do/members/person/create?org={org}" in page and "End membership" in page and "Suspend" not in page
    assert "Revoke token" in get(f"/members/agent/{agent}", secret)
    assert "agent" in get(f"/members/agent/{agent}") and "Revoke token" not in get(f"/members/agent/{agent}")


def test_ones_own_page_lists_sessions_and_tokens_and_needs_a_sign_in(get, hospital):
    page = get("/me", hospital[2])
    assert "own script" in page and "This one" in page and "Firefox, Linux" in page and "Set password" in page
    assert "gqs_" not in page
    get("/me", status=401)
