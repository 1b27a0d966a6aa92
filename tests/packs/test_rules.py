"""What rules say of facts: three values, no guess, and conditions that are refused."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.packs import rules
from gongqi.packs.rules import Rule, Source
from gongqi.packs.shelf import shelf

CN = frozenset({"CN"})
TODAY = date(2026, 11, 30)
SOURCE = Source("s", {"zh": "法", "en": "Law"}, "1", "statute", date(2020, 1, 1), "https://example.org")

CONDITIONS = st.recursive(
    st.one_of(
        st.sampled_from(rules.PLACES).map(lambda place: {"inside": place}),
        st.sampled_from(("public", "internal")).map(lambda who: {"is": {"audience": who}}),
        st.just({"always": True}),
    ),
    lambda each: st.one_of(
        st.lists(each, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(each, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        each.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)
REGIONS = st.sampled_from(("CN", "HK", "US"))
KNOWN = st.fixed_dictionaries(
    {"caller": REGIONS, "server": REGIONS, "audience": st.sampled_from(("public", "internal"))}
)


@given(CONDITIONS, KNOWN, st.sets(st.sampled_from(rules.FACTS)))
def test_a_fact_that_is_missing_never_turns_what_holds_into_what_does_not(
    condition: dict[str, Any], facts: dict[str, str], missing: set[str]
) -> None:
    try:
        rules.check(condition)
    except ValueError:
        return  # deeper than conditions are
    whole, asked = rules.holds(condition, facts, CN)
    assert whole is not None and asked == frozenset()
    part, asked = rules.holds(condition, {name: value for name, value in facts.items() if name not in missing}, CN)
    assert part in (whole, None)
    assert (part is None) == bool(asked) and asked <= missing


@given(KNOWN, st.sets(st.sampled_from(rules.FACTS)), st.dates(date(2020, 1, 1), date(2030, 1, 1)))
def test_whoever_says_less_of_himself_is_not_let_off_a_duty_that_holds_until_it_is_said(
    facts: dict[str, str], missing: set[str], as_of: date
) -> None:
    less = {name: value for name, value in facts.items() if name not in missing}
    for pack in shelf().values():
        held = {each.rule.id for each in rules.find(pack.rules, facts, as_of, pack.regions) if each.does}
        then = {each.rule.id for each in rules.find(pack.rules, less, as_of, pack.regions) if each.does}
        lenient = {rule.id for rule in pack.rules if rule.unknown == "tell"}
        assert held - lenient <= then


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"all": []},
        {"inside": "audience"},
        {"is": {"caller": "CN", "server": "CN"}},
        {"or": []},
        "CN",
        {"always": False},
    ],
)
def test_what_is_no_condition_is_refused(condition: Any) -> None:
    with pytest.raises(ValueError, match="no condition"):
        rules.check(condition)


def test_a_rule_holds_from_its_first_day_until_the_day_of_its_end() -> None:
    rule = Rule("r", "note", {"always": True}, "tell", "statute", date(2025, 9, 1), date(2026, 9, 1), (SOURCE,), {})
    held = [
        day
        for day in (date(2025, 8, 31), date(2025, 9, 1), date(2026, 8, 31), date(2026, 9, 1))
        if rule.is_in_force(day)
    ]
    assert held == [date(2025, 9, 1), date(2026, 8, 31)]


def test_no_interpretation_of_a_pack_is_told_as_statute_and_every_rule_rests_on_an_article() -> None:
    for pack in shelf().values():
        for rule in pack.rules:
            assert rule.rests_on and all(source.article and source.url.startswith("http") for source in rule.rests_on)
            if rule.does in ("mask", "label", "show"):
                assert rule.authority == "interpretation", "no article asks this of a gateway in so many words"


def test_what_ministries_have_issued_is_not_told_as_statute() -> None:
    sources = {source.id: source.authority for source in shelf()["cn"].sources}
    told = {name: authority for name, authority in sources.items() if authority == "statute"}
    assert told and all(name.startswith("cn.pipl.") for name in told), "the one law of the legislature among them"
