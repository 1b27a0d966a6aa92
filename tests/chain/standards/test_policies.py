"""The foundation's own policies: whatever cites an article cites one that is there, in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

import gongqi
from gongqi.chain.standards import service
from gongqi.chain.standards.policies import policies
from gongqi.doors.web.server import build as build_app
from gongqi.governance.ethics import gate
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.gates import POLICY_DATE, POLICY_PATH, by_policy
from gongqi.kernel.room import House
from gongqi.kernel.verbs import Caller, query
from gongqi.members import VOCABULARY
from gongqi.rooms import ROOMS

SOURCE = Path(gongqi.__file__).parent
HAN = re.compile("[\u4e00-\u9fff]")


def cited() -> Iterator[tuple[str, int]]:
    """(policy, article) of every citation in the source, and of the rows that the ethics gate reads."""
    for path in SOURCE.rglob("*.py"):
        for name, article in re.findall(r'by_policy\("([a-z-]+)", (\d+)\)', path.read_text("utf-8")):
            yield name, int(article)
    rows = yaml.safe_load((SOURCE / "governance/ethics/data/thresholds.yaml").read_text("utf-8"))
    for row in (*rows["thresholds"], rows["board"]):
        yield "ethics", row["article"]


def test_every_article_cited_is_there_in_both_languages() -> None:
    found = set(cited())
    assert {name for name, _ in found} == set(policies())
    for name, number in found:
        (article,) = [each for each in policies()[name].articles if each.number == number]
        assert HAN.search(article.zh) and not HAN.search(article.en) and len(article.en) > 20


def test_articles_are_numbered_from_one_without_a_gap() -> None:
    for policy in policies().values():
        assert [each.number for each in policy.articles] == list(range(1, len(policy.articles) + 1))
        assert policy.zh and policy.en and policy.date == POLICY_DATE


@pytest.fixture
def house(build):
    web = Path(build_app.__code__.co_filename).parent
    words = [web.parent / "words.toml", web / "words.toml", web / "fields.toml"]
    return build(House.build(ROOMS, VOCABULARY, *words))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_list_of_rules_leads_to_each_article_it_cites(house, language: str) -> None:
    browser = TestClient(build_app(house))
    listed = query(house, service.list_rules, Caller(ANONYMOUS), service.ListRules()).items
    ours = [rule for rule in listed if rule.url.startswith(POLICY_PATH)]
    assert {rule.source.partition(".")[0] for rule in ours} == {"upstream", "hub", "compliance", "ethics"}
    listing = browser.get("/standards", params={"lang": language}).text
    for rule in ours:
        path, _, anchor = rule.url.partition("#")
        page = browser.get(path, params={"lang": language})
        assert page.status_code == 200 and f'id="{anchor}"' in page.text and f'href="{rule.url}"' in listing
    assert all(rule.url for rule in listed if rule.authority == "policy")


def test_a_policy_that_is_not_there_is_said(house) -> None:
    assert TestClient(build_app(house)).get(f"{POLICY_PATH}none").status_code == 404


def test_the_gate_says_by_which_article_it_asks() -> None:
    assert by_policy("ethics", 1) == gate.EVALUATED
    assert (gate.OWN_YARDSTICK.article, gate.OWN_YARDSTICK.url) == ("10", "/standards/policy/ethics#article-10")
