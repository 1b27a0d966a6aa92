"""The whole house under attack, over HTTP: what a stranger, another tenant and a hostile donor try."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

CARD = b"""---
license: CC-BY-4.0
---
# <script>alert(1)</script>

[here](javascript:alert(1)) <img src=x onerror=alert(1)> ![there](https://elsewhere.example/pixel)
"""
TITLE = '"><script>alert(2)</script>'
DIGITS = "9" * 5000  # more than Python turns into a number


@dataclass
class Scene:
    """A clinic with a private asset, and a rival. `pages` is the clinic owner's browser."""

    house: Any
    clinic: str
    owner: Any
    rival: Any
    rival_org: str
    asset: str
    revision: str
    digest: str

    @contextlib.contextmanager
    def pages(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.house.url, cookies={"gongqi_session": self.owner.secret}) as client:
            yield client


@pytest.fixture(scope="module")
def scene(found: Callable[..., Any], new_database: Callable[..., Any], tmp_path_factory: Any) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("attacked")
    with new_database(folder) as url:
        house = found(folder / "home", url)
        clinic, rival_org = house.organisation("clinic"), house.organisation("rival")
        owner, rival = house.person("olive", clinic, "owner"), house.person("ruth", rival_org, "owner")
        asset = house.asset(owner, clinic, "records", title_en=TITLE, title_zh=TITLE)
        card = house.bring(owner, clinic, "README.md", CARD, component="data-card")
        revision = owner.verb("hub:revision:commit", asset=asset, message=TITLE, files=[card], lineage=[])["id"]
        house.operator.verb("ledger:credit:grant", owner=clinic, unit="credit", amount=10)
        yield Scene(house, clinic, owner, rival, rival_org, asset, revision, card["sha256"])
        house.stop()


HOSTILE = (
    "/do/hub/revision/commit?files.rows=" + DIGITS,
    "/do/hub/revision/commit?files.rows=%C2%B2&lineage.999.revision=x",
    "/ledger/account/{clinic}:credit:available?cursor=" + "9" * 28 + ".0",
    "/api/v1/ledger/account/statement?account={clinic}:credit:available&cursor=1." + "9" * 24,
    "/api/v1/hub/asset?limit=" + DIGITS,
    "/api/v1/hub/asset?cursor=4pyT",
    "/api/v1/hub/revision/{revision}/file/..%2f..%2foperator.token",
    "/api/v1/hub/revision/{revision}/file/%ff%fe",
    "/log/tile/..%2f..%2foperator.token",
    "/static/..%2f..%2foperator.token",
    "/go/ast_%2F%2Felsewhere.example",
    "/sign-in/%00",
    "/?lang=zh%0d%0aset-cookie:a=b",
    "/v2/models/%ff/versions/" + "9" * 300,
)


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path[:50])
def test_a_hostile_address_is_a_refusal_and_never_our_fault(scene, path):
    where = path.format(clinic=scene.clinic, revision=scene.revision)
    with scene.pages() as pages:
        for headers in ({}, {"authorization": f"Bearer {scene.owner.secret}"}):
            answer = pages.get(where, headers=headers)
            assert answer.status_code < 500, answer.text[:500]
            location = answer.headers.get("location", "/")
            assert location.startswith("/") and not location.startswith("//")
            assert "a=b" not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize("ranges", ["bytes=" + ",".join(["0-"] * 3000), "bytes=0-" + DIGITS, "bytes=--1", "bytes=9-1"])
def test_a_hostile_range_costs_no_more_than_the_file(scene, ranges):
    with scene.pages() as pages:
        answer = pages.get(f"/api/v1/hub/revision/{scene.revision}/file/README.md", headers={"range": ranges})
    assert answer.status_code < 500 and len(answer.content) <= len(CARD)


def test_a_donors_words_are_text_and_never_markup(scene):
    with scene.pages() as pages:
        for path in (f"/hub/asset/{scene.asset}", f"/hub/revision/{scene.revision}", "/hub"):
            shown = pages.get(path)
            assert shown.status_code == 200 and "alert(2)" in shown.text
            assert "<script>alert" not in shown.text and "<img src=x" not in shown.text
            assert 'href="javascript:' not in shown.text and 'src="https://elsewhere' not in shown.text
            assert "'unsafe" not in shown.headers["content-security-policy"]
        file = pages.get(f"/api/v1/hub/revision/{scene.revision}/file/README.md")
    assert file.headers["content-security-policy"].startswith("sandbox")
    assert file.headers["content-disposition"].startswith("attachment")


def test_what_is_private_answers_another_tenant_as_if_it_were_not_there(scene):
    for there, nowhere in (
        (f"hub/asset/{scene.asset}", "hub/asset/ast_nowhere"),
        (f"hub/revision/{scene.revision}", "hub/revision/rev_nowhere"),
        (f"hub/revision/{scene.revision}/file/README.md", "hub/revision/rev_nowhere/file/README.md"),
        (f"members/party/{scene.owner.party}", "members/party/per_nowhere"),
    ):
        answers = [scene.rival.http.get(f"/api/v1/{path}") for path in (there, nowhere)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["code"] == answers[1].json()["code"]


def test_a_digest_is_a_name_and_not_a_right(scene):
    """Who knows the digest of another's bytes can neither claim nor commit them."""
    answer = scene.house.put(scene.rival, scene.rival_org, "README.md", b"guess", scene.digest)
    assert answer.json()["code"] == "kernel.digest-mismatch"
    mine = scene.house.asset(scene.rival, scene.rival_org, "mine")
    files = [{"path": "README.md", "sha256": scene.digest}]
    given = {"asset": mine, "message": "m", "files": files, "lineage": []}
    answer = scene.rival.http.post("/api/v1/hub/revision/commit", json=given)
    assert answer.json()["code"] == "hub.blob-unknown"


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("hub/asset/create", {"org": "*", "slug": "s", "kind": "dataset", "title_zh": "s", "title_en": "s"}),
        ("hub/asset/create", {"org": "{clinic}", "slug": "s", "kind": "dataset", "title_zh": "s", "title_en": "s"}),
        ("members/membership/grant", {"party": "{rival}", "org": "*", "role": "operator"}),
        ("members/membership/grant", {"party": "{rival}", "org": "{clinic}", "role": "member"}),
        ("members/agent/create", {"org": "{clinic}", "handle": "spy", "name": "Spy"}),
        ("members/person/create", {"handle": "nobody-of", "name": "Nobody"}),
        ("ledger/credit/grant", {"owner": "{rival_org}", "unit": "credit", "amount": 1}),
        ("credits/policy/publish", {"service": 10000, "model": 0, "datasets": 0, "compute": 0, "foundation": 0}),
        ("serving/budget/set", {"deployment": "dep_x", "org": "{clinic}", "limit_amount": 1}),
        ("scenarios/agreement/sign", {"deployment": "dep_x", "org": "{clinic}"}),
        ("upstream/donation/offer", {
            "org": "{clinic}", "slug": "s", "kind": "dataset", "title_zh": "s", "title_en": "s", "license": "MIT",
            "provenance": "p",
        }),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_owner_who_may_do_everything_at_home_may_do_it_nowhere_else(scene, path, given):
    known = {"clinic": scene.clinic, "rival_org": scene.rival_org, "rival": scene.rival.party}
    filled = {name: value.format(**known) if isinstance(value, str) else value for name, value in given.items()}
    answer = scene.rival.http.post(f"/api/v1/{path}", json=filled)
    assert (answer.status_code, answer.json()["code"]) == (403, "access.forbidden")


def test_a_form_of_another_site_does_nothing(scene):
    with scene.pages() as pages:
        form = {"org": scene.clinic, "slug": "forged", "kind": "dataset", "title_zh": "x", "title_en": "x"}
        assert pages.post("/do/hub/asset/create", data=form).status_code == 403
        headers = {"sec-fetch-site": "cross-site"}
        assert pages.post("/do/hub/asset/create", data=form, headers=headers).status_code == 403
        answer = pages.post("/api/v1/hub/asset/create", json=form)  # the cookie is no token
        assert (answer.status_code, answer.json()["code"]) == (401, "access.sign-in-needed")
    slugs = [each["slug"] for each in scene.owner.read("hub:asset:list")["items"]]
    assert "forged" not in slugs


def test_the_same_key_does_not_pass_another_password_for_the_first(scene):
    """The digest of a request leaves secrets out, so a key must not stand for a request with one."""
    house = scene.house
    person = house.person("pat", scene.clinic, "member")
    for password in ("correct horse battery staple", "seventeen purple giraffes"):
        answer = person.http.post(
            "/api/v1/members/password/set", json={"password": password}, headers={"idempotency-key": "one"}
        )
        assert answer.status_code == 200
    with httpx.Client(base_url=house.url, follow_redirects=False) as browser:
        page = browser.get("/sign-in").text
        csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
        typed = {"csrf": csrf, "handle": "pat", "password": "seventeen purple giraffes", "back": "//elsewhere.example"}
        answer = browser.post("/sign-in", data=typed)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_token_revoked_or_a_membership_ended_counts_with_the_next_request(scene):
    house = scene.house
    agent = scene.owner.verb("members:agent:create", org=scene.clinic, handle="clinic-agent", name="Agent")
    issued = scene.owner.verb("members:token:issue", party=agent["id"], label="test", days=1)
    client = house.client(issued["secret"])
    assert client.read("members:me:show")["id"] == agent["id"]
    refused = client.http.post("/api/v1/members/token/issue", json={"label": "heir"})
    assert refused.json()["code"] == "access.forbidden"  # an agent makes no tokens
    scene.owner.verb("members:token:revoke", token=issued["id"])
    assert client.http.get("/api/v1/members/me/show").json()["code"] == "members.token-invalid"
