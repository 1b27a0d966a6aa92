"""The list of rules is what the gates apply: every answerer is in it, every rule cites, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from markupsafe import escape
from starlette.testclient import TestClient

from gongqi.chain.standards import service
from gongqi.doors.web.server import build as build_app
from gongqi.governance.ethics import service as ethics
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.room import House
from gongqi.kernel.verbs import Caller, query
from gongqi.members import VOCABULARY
from gongqi.resources.hub.gates import RELEASE_PUBLISH
from gongqi.rooms import ROOMS


@pytest.fixture
def rules(build):
    kernel = build(House.build(ROOMS, VOCABULARY))
    listed = query(kernel, service.list_rules, Caller(ANONYMOUS), service.ListRules()).items
    return kernel, listed


def test_every_answerer_of_the_gate_has_its_rules_in_the_list(rules):
    kernel, listed = rules
    answerers = {each.source for each in kernel.house.answerers[RELEASE_PUBLISH.name]}
    assert {rule.source for rule in listed} == answerers


def test_every_rule_speaks_both_languages_and_says_where_it_comes_from(rules):
    _, listed = rules
    for rule in listed:
        assert rule.zh and rule.en and rule.zh != rule.en
        assert "{" not in rule.zh + rule.en and "standards." not in rule.zh + rule.en and "ethics." not in rule.en
        assert rule.cited and rule.date and rule.authority and rule.otherwise in ("deny", "require")
    assert len({rule.id for rule in listed}) == len(listed)


def test_every_threshold_is_listed_with_its_own_bound_and_consequence(rules):
    _, listed = rules
    by_id = {rule.id: rule for rule in listed}
    for row in ethics.policy().thresholds:
        rule = by_id[f"ethics.evaluation/{row.id}"]
        assert f"{row.bound:g}" in rule.en and rule.otherwise == row.otherwise and rule.article == row.cite.article


def test_a_threshold_of_some_evaluations_says_of_which(rules):
    _, listed = rules
    by_id = {rule.id.removeprefix("ethics.evaluation/"): rule for rule in listed}
    assert "Of: multiple choice, exact match, retrieval." in by_id["above-chance"].en
    assert "检索" in by_id["above-chance"].zh and "Of:" not in by_id["subgroup-gap"].en


def test_the_list_can_be_narrowed_to_one_answerer(rules):
    kernel, _ = rules
    one = query(kernel, service.list_rules, Caller(ANONYMOUS), service.ListRules(source="hub.lineage")).items
    assert [rule.source for rule in one] == ["hub.lineage"] * 2


@pytest.mark.parametrize(("language", "word"), [("zh", "审查委员会"), ("en", "Review board")])
def test_the_page_lists_every_rule_to_everyone(build, language, word):
    web = Path(build_app.__code__.co_filename).parent
    words = [path for path in (web.parent / "words.toml", web / "words.toml", web / "fields.toml") if path.exists()]
    kernel = build(House.build(ROOMS, VOCABULARY, *words))
    page = TestClient(build_app(kernel)).get("/standards", params={"lang": language})
    assert page.status_code == 200 and word in page.text
    for rule in query(kernel, service.list_rules, Caller(ANONYMOUS), service.ListRules()).items:
        assert str(escape(rule.zh if language == "zh" else rule.en)) in page.text
    assert "standards.rule." not in page.text and "standards.authority." not in page.text
