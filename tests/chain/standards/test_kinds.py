"""Each kind of asset goes the whole way: created, given a card of its own, through the gates, released; and what it was made
from is drawn with words of its own."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from gongqi.doors.web.server import build as build_app
from gongqi.governance.ethics.room import ROOM as ETHICS
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import Refused
from gongqi.resources.hub.rules import KNOWN_FIELDS, REQUIRED_FIELDS, completeness, parse_card

FIELDS = {
    "title": "{zh: 样例, en: Sample}", "summary": "{zh: 简述, en: In short}", "license": "Apache-2.0",
    "provenance": "written by hand", "intended_use": "research", "limitations": "few trials",
    "contact": "https://example.org", "languages": "[zh, en]", "tasks": "[text-generation]",
}  # fmt: skip
KINDS: dict[str, tuple[str, bytes, str, dict[str, str]]] = {  # what such an asset holds, and what its card may say
    "dataset": ("data.csv", b"id,a\n1,2\n", "datasets", {"size_categories": "n<1K", "citation": "Hospital A, 2020"}),
    "code": ("train.py", b"print(1)\n", "training-code", {"programming_languages": "[Python]"}),
    "agent": ("agent.json", b'{"steps": []}\n', "inference-code", {"tools": "[search]", "protocols": "[MCP, A2A]"}),
    "tool": ("tool.py", b"def run(): ...\n", "inference-code", {"inputs": "{zh: 文字, en: text}", "protocols": "MCP"}),
    "model": ("infer.py", b"print(2)\n", "inference-code", {"library_name": "onnx", "base_model": "lab/base"}),
}
RELATIONS = {
    "trained-on": ("训练于", "trained on"), "fine-tuned-from": ("微调自", "fine-tuned from"),
    "distilled-from": ("蒸馏自", "distilled from"), "evaluated-on": ("评测于", "evaluated on"),
    "merged-from": ("合并自", "merged from"),
}  # fmt: skip


def card(*, without: str = "", **more: str) -> bytes:
    fields = {name: value for name, value in (FIELDS | more).items() if name != without}
    return ("---\n" + "".join(f"{name}: {value}\n" for name, value in fields.items()) + "---\n# Sample\n").encode()


@pytest.fixture
def open_gates() -> set[str]:
    """All but the board's, which has its own tests."""
    return {ETHICS.name}


def put(market: Any, asset: str, kind: str, text: bytes, lineage: Any = ()) -> str:
    path, content, component, _ = KINDS[kind]
    files = [
        market.bring("laboratory", "README.md", text, "data-card" if kind == "dataset" else "model-card"),
        market.bring("laboratory", path, content, component),
    ]
    given = {"asset": asset, "message": "as it is", "files": files}
    sources = [{"revision": revision, "relation": relation} for revision, relation in lineage]
    return market.do(market.owner("laboratory"), "hub:revision:commit", lineage=sources, **given).id


def answers(market: Any, release: str, source: str) -> list[tuple[str, str]]:
    found = market.ask(market.operator, "hub:release:check", release=release)
    return [(each.decision, each.reason) for each in found.answers if each.source == source]


def submit(market: Any, asset: str, revision: str, name: str) -> str:
    owner = market.owner("laboratory")
    release = market.do(owner, "hub:release:draft", asset=asset, revision=revision, name=name).id
    market.do(owner, "hub:release:submit", release=release)
    return release


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_is_created_carded_let_through_the_gates_and_released(market, kind: str) -> None:
    known, base = KINDS[kind][3], market.asset("laboratory", "base", "code")
    lineage = [(put(market, base, "code", card()), "derived-from")] if kind == "model" else []
    asset = market.asset("laboratory", f"a-{kind}", kind)
    refused = submit(market, asset, put(market, asset, kind, card(without="provenance", **known), lineage), "0.1.0")
    assert answers(market, refused, "compliance.card") == [("deny", "compliance.card-incomplete")]
    revision = put(market, asset, kind, card(**known), lineage)
    said = market.ask(ANONYMOUS, "hub:revision:get", revision=revision).card
    assert said["other"].keys() == known.keys()
    release = submit(market, asset, revision, "1.0.0")
    assert answers(market, release, "compliance.card") == [("allow", "compliance.card-complete")]
    market.do(market.operator, "hub:release:publish", release=release)
    assert market.ask(ANONYMOUS, "hub:release:get", release=release).state == "published"


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_card_of_each_kind_says_what_it_lacks_and_refuses_what_it_cannot_read(market, kind: str) -> None:
    whole = parse_card(card(**KINDS[kind][3]), kind)
    assert completeness(whole, kind).missing == ()
    for field in REQUIRED_FIELDS[kind]:
        assert completeness(parse_card(card(without=field), kind), kind).missing == (field,)
    asset = market.asset("laboratory", f"b-{kind}", kind)
    for field, form in KNOWN_FIELDS[kind].items():
        wrong = "[[1]]" if form == "words" else "[1]"
        with pytest.raises(Refused) as caught:
            put(market, asset, kind, card(**{field: wrong}))
        assert (caught.value.code, caught.value.params["field"]) == ("hub.card-field", field)
        elsewhere = next(other for other in KINDS if field not in KNOWN_FIELDS[other])
        assert parse_card(card(**{field: wrong}), elsewhere).other[field], "what is not read there is kept as it is"


def test_every_relation_is_accepted_and_drawn_with_its_own_words(market) -> None:
    base = put(market, market.asset("laboratory", "base", "code"), "code", card())
    data = put(market, market.asset("laboratory", "data", "dataset"), "dataset", card())
    model = market.asset("laboratory", "derived", "model")
    lineage = [(data if relation.endswith("-on") else base, relation) for relation in RELATIONS]
    revision = put(market, model, "model", card(), lineage)
    told = market.ask(ANONYMOUS, "hub:revision:get", revision=revision).lineage
    assert {(each.revision, each.relation) for each in told} == set(lineage)
    for number, language in enumerate(("zh", "en")):
        client = TestClient(build_app(market.kernel, ()), headers={"accept-language": language})
        for page in (client.get(f"/hub/revision/{revision}").text, client.get(f"/hub/revision/{data}").text):
            picture = "".join(page.partition("<figure")[1:])
            shown = [words[number] for relation, words in RELATIONS.items() if page.count(words[number])]
            assert "<svg" in picture
            expected = (
                RELATIONS
                if f"/hub/revision/{base}" in page
                else {r: w for r, w in RELATIONS.items() if r.endswith("-on")}
            )
            assert shown == [words[number] for words in expected.values()]
