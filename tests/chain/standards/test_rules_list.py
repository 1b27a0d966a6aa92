"""The list of rules is what the gates apply: every answerer is in it, every rule cites, in both languages."""

from __future__ import annotations

import pytest

from gongqi.chain.standards import service
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


def test_the_list_can_be_narrowed_to_one_answerer(rules):
    kernel, _ = rules
    one = query(kernel, service.list_rules, Caller(ANONYMOUS), service.ListRules(source="hub.lineage")).items
    assert [rule.source for rule in one] == ["hub.lineage"] * 2
