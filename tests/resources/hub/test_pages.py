"""The hub's and upstream's pages, as a stranger reads them, in both languages."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.room import ROOM as EVIDENCE
from gongqi.chain.upstream import service as upstream
from gongqi.chain.upstream.room import ROOM as UPSTREAM
from gongqi.doors.web.server import build as build_app
from gongqi.kernel.access import FOUNDATION, Actor
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, execute
from gongqi.kernel.worker import Worker
from gongqi.members import VOCABULARY
from gongqi.members.room import ROOM as MEMBERS
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.cards import render_card
from gongqi.resources.hub.room import ROOM as HUB

WEB = Path(build_app.__code__.co_filename).parent
OPERATOR = Actor("per_operator", "person", "operator", {FOUNDATION: frozenset({"*"})})
CARD = b"""---
license: CC-BY-4.0
---
# A card

| a | b |
|---|---|
| 1 | <script>alert(1)</script> |

[bad](javascript:alert(1)) ![spy](https://spy.example/x.png)
"""


@pytest.fixture
def kernel(build: Callable[..., Kernel]) -> Kernel:
    words = (WEB.parent / "words.toml", WEB / "words.toml", WEB / "fields.toml")
    made = build(House.build((EVIDENCE, MEMBERS, HUB, UPSTREAM), VOCABULARY, *words), record=evidence.append)
    made.parts[SigningKeys] = SigningKeys.generate()
    made.transact(evidence.ensure, reason="start")
    return made


def do(kernel: Kernel, verb: Any, **given: Any) -> Any:
    return execute(kernel, verb, Caller(OPERATOR), verb.input.model_validate(given))


def donated(kernel: Kernel, slug: str, kind: str, lineage: list[dict[str, str]]) -> tuple[Any, Any]:
    """(donation, published release), through the verbs."""
    pledge = {"patent_scope": "donated-work", "patent_text": "We will not assert <b>any</b> claim."}
    given = {"org": "org_hospital", "slug": slug, "kind": kind, "title_zh": "样例数据", "title_en": "Sample & data"}
    given |= {"license": "CC-BY-4.0", "provenance": "measured in 1993"}
    donation = do(kernel, upstream.offer, **given, **pledge)
    do(kernel, upstream.accept, donation=donation.id)
    Worker(kernel).run_until_idle()
    digest = sha256(CARD).hexdigest()
    kernel.blobs.put(CARD)
    seen = hub.inspect_blob(kernel.blobs, digest, "README.md")
    kernel.transact(lambda ctx: hub.receive_blob(ctx, org="org_hospital", sha256=digest, inspected=seen), reason="test")
    files = [{"path": "README.md", "sha256": digest, "component": "data-card"}]
    revision = do(kernel, hub.commit, asset=donation.asset, message="m", files=files, lineage=lineage)
    release = do(kernel, hub.draft, asset=donation.asset, revision=revision.id, name="1.0.0")
    do(kernel, hub.submit, release=release.id)
    return donation, do(kernel, hub.publish, release=release.id)


def words_of(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", html)


@pytest.mark.heavy
@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_reads_whole_in_each_language(kernel, language):
    _, data = donated(kernel, "wdbc", "dataset", [])
    donation, model = donated(kernel, "net", "model", [{"revision": data.revision, "relation": "trained-on"}])
    Worker(kernel).run_until_idle()
    client = TestClient(build_app(kernel), headers={"accept-language": language})
    for address in (
        "/hub", "/hub?kind=model", "/hub?q=样例&license=CC-BY-4.0", f"/hub/asset/{model.asset}",
        f"/hub/revision/{model.revision}", f"/hub/release/{model.id}", "/upstream", f"/upstream/donation/{donation.id}",
        *(f"/hub/asset/{model.asset}/{page}" for page in ("files", "releases", "revisions", "lineage", "access")),
        f"/hub/asset/{model.asset}/file?path=README.md",
    ):  # fmt: skip
        answer = client.get(address)
        assert answer.status_code == 200, (address, words_of(answer.text)[-600:])
        assert not re.search(r"\b(hub|upstream|gate)\.[a-z]+[.-][a-z.-]+", words_of(answer.text)), address
        assert "{" not in words_of(answer.text), address
        assert " style=" not in answer.text and "<script>" not in answer.text, address
    page = client.get(f"/hub/release/{model.id}").text
    assert ("训练于" if language == "zh" else "trained on") in page
    assert f"/evidence/entry/{model.evidence}" in page and f"/api/v1/hub/release/{model.id}/bundle" in page


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_search_box_finds_keeps_what_was_asked_and_says_when_nothing_fits(kernel, language):
    given = {"org": "org_hospital", "kind": "code", "visibility": "public", "title_en": "Gateway"}
    for number in range(31):
        asset = do(kernel, hub.create, slug=f"gateway-{number}", title_zh="<联邦>网关", **given)
    client = TestClient(build_app(kernel), headers={"accept-language": language})
    page = client.get("/hub", params={"q": "网关", "kind": "code", "org": "org_hospital"}).text
    assert f"/hub/asset/{asset.id}" in page and 'value="网关"' in page and "/hub?kind=code" in page
    [following] = re.findall(r'href="(/hub\?[^"]*cursor=[^"]*)"', page)
    assert "gateway-0" not in page and client.get(unescape(following)).text.count("/hub/asset/") == 1
    nothing = client.get("/hub", params={"q": '"><script>', "tag": "x", "cursor": ""})
    assert nothing.status_code == 200 and "<script>" not in nothing.text
    assert ("没有可见的资产符合" if language == "zh" else "No asset that you may see fits") in nothing.text


def test_a_page_of_something_one_may_not_see_is_not_found(kernel):
    given = {"org": "org_hospital", "slug": "x", "kind": "code", "title_zh": "密", "title_en": "Secret title"}
    asset = do(kernel, hub.create, **given)
    client = TestClient(build_app(kernel))
    answer = client.get(f"/hub/asset/{asset.id}")
    assert answer.status_code == 404 and "Secret title" not in answer.text
    assert "Secret title" not in client.get("/hub").text


def test_a_pledge_for_an_asset_not_yet_open_is_shown_without_its_title(kernel):
    given = {"org": "org_hospital", "slug": "x", "kind": "code", "title_zh": "密", "title_en": "Secret title"}
    given |= {"license": "MIT", "provenance": "p", "patent_scope": "donated-work", "patent_text": "We promise."}
    schedule = [{"audience": "public", "opens_at": "2030-01-01T00:00:00Z"}]
    donation = do(kernel, upstream.offer, **given, schedule=schedule)
    do(kernel, upstream.accept, donation=donation.id)
    page = TestClient(build_app(kernel)).get("/upstream").text
    assert "We promise." in page and "Secret title" not in page


def test_a_card_is_rendered_without_html_scripts_or_pictures():
    html = render_card(CARD.decode().partition("---\n# ")[2])
    assert "<script" not in html and "<img" not in html and 'href="javascript' not in html
    assert "&lt;script&gt;" in html and "<table>" in html


def test_the_headings_of_a_card_stand_below_those_of_the_page():
    assert render_card("# one\n\n##### five\n") == "<h3>one</h3>\n<h6>five</h6>\n"
