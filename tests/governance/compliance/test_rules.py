"""Licence verdicts, agreement of claims, and openness classes, each reason by a case of its own."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.governance.compliance import rules, tables
from gongqi.kernel.errors import Refused
from gongqi.kernel.words import Words

TABLES = tables.load_tables()
TEN = ["MIT", "0BSD", "Zlib", "X11", "NCSA", "NTP", "ICU", "W3C", "AAL", "Fair"]
CLASS_III = ["architecture", "parameters", "evaluation-results", "model-card", "data-card", "technical-report"]
CLASS_II = [*CLASS_III, "training-code", "inference-code", "evaluation-code", "evaluation-data"]
CLASS_I = [*CLASS_II, "datasets", "preprocessing-code", "intermediate-parameters", "research-paper"]


@pytest.fixture(scope="module")
def words() -> Words:
    found = Words()
    found.load(Path(rules.__file__).with_name("words.toml"))
    return found


def verdict(claimed: str | None, kind: str = "training-code") -> rules.LicenseVerdict:
    return rules.license_verdict(claimed, component_kind=kind, tables=TABLES)


@pytest.mark.parametrize(
    ("claimed", "expression"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("  apache-2.0 ", "Apache-2.0"),
        ("GPL-3.0", "GPL-3.0-only"),
        ("GPL-3.0+", "GPL-3.0-or-later"),
        ("OpenMDW-1.0", "OpenMDW-1.0"),
        ("LicenseRef-scancode-openmdw-1.0", "OpenMDW-1.0"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("MIT OR Apache-2.0 AND ISC", "MIT OR (Apache-2.0 AND ISC)"),
        ("MIT OR CC-BY-NC-4.0", "MIT OR CC-BY-NC-4.0"),
    ],
)
def test_an_open_licence_is_normalised_and_allowed(claimed, expression):
    found = verdict(claimed)
    assert (found.expression, found.known, found.open, found.allowed, found.fits) == (
        expression,
        True,
        True,
        True,
        True,
    )
    assert found.reason == "compliance.license-allowed"
    assert found.spdx_list_version and found.cite


@pytest.mark.parametrize(
    ("claimed", "kind", "reason"),
    [
        (None, "datasets", "license-missing"),
        ("  ", "datasets", "license-missing"),
        ("MIT License", "datasets", "license-syntax"),
        ("MIT/Apache-2.0", "datasets", "license-syntax"),
        ("MIT AND", "datasets", "license-syntax"),
        ("(MIT", "datasets", "license-syntax"),
        ("Apache-2.0 WITH MIT", "datasets", "license-syntax"),
        ("Classpath-exception-2.0", "datasets", "license-syntax"),
        ("Apache 2.0", "datasets", "license-unknown"),
        ("NONE", "datasets", "license-unknown"),
        ("NOASSERTION", "datasets", "license-unknown"),
        ("LicenseRef-ours", "datasets", "license-unknown"),
        ("MIT AND Nonsense-1.0", "datasets", "license-unknown"),
        ("(" * 30 + "MIT" + ")" * 30, "datasets", "license-too-complex"),
        (" AND ".join(["MIT"] * 51), "datasets", "license-too-complex"),
        (" AND ".join(f"({a} OR ISC)" for a in TEN),
         "datasets", "license-too-complex"),
        ("M" * 1001, "datasets", "license-too-complex"),
        ("BUSL-1.1", "training-code", "license-not-listed"),
        ("CC-BY-4.0", "training-code", "license-wrong-type"),
        ("MIT AND CC-BY-4.0", "training-code", "license-wrong-type"),
        ("CC-BY-NC-4.0", "datasets", "license-noncommercial"),
        ("CC-BY-ND-4.0", "model-card", "license-noderivatives"),
        ("LicenseRef-scancode-llama-3.1-license-2024", "parameters", "license-restricted"),
        ("MIT AND LicenseRef-scancode-gemma-tou-2024-04-01", "parameters", "license-restricted"),
    ],
)  # fmt: skip
def test_each_claim_that_is_not_allowed_says_why(claimed, kind, reason, words):
    found = verdict(claimed, kind)
    assert (found.allowed, found.reason) == (False, f"compliance.{reason}")
    for language in ("zh", "en"):
        status, message, remedy = words.error(Refused(found.reason, **found.params), language)
        assert status == 422
        assert "{" not in message + remedy
    assert found.cite


@pytest.mark.parametrize(
    ("claimed", "suggestion"),
    [
        ("Apache 2.0", "Apache-2.0"),
        ("apache   LICENSE 2.0", "Apache-2.0"),
        ("MIT License", "MIT"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("BSD-3", "BSD-3-Clause"),
        ("llama3.1", "LicenseRef-scancode-llama-3.1-license-2024"),
        ("木兰宽松许可证", "MulanPSL-2.0"),
        ("Apche-2.0", "Apache-2.0"),
        ("MIT AND Apche-2.0", "Apache-2.0"),
    ],
)
def test_a_misspelt_licence_is_answered_with_a_suggestion_and_not_corrected(claimed, suggestion):
    found = verdict(claimed)
    assert found.suggestions[0] == suggestion
    assert not found.known and found.expression is None


def test_every_suggestion_is_a_licence_that_can_be_read():
    for name, offered in TABLES.suggestions.items():
        assert name == name.casefold()
        assert all(verdict(text).known for text in offered), name


def test_a_software_licence_on_data_is_allowed_and_said_to_be_unusual(words):
    found = verdict("MIT", "datasets")
    assert (found.allowed, found.fits, found.reason) == (True, False, "compliance.license-allowed-unusual")
    assert words.text(found.reason, "en", **found.params).startswith("MIT is an accepted open licence")


def test_a_closed_licence_joined_by_and_closes_and_joined_by_or_does_not():
    assert not verdict("MIT AND CC-BY-NC-4.0").open
    assert verdict("MIT OR CC-BY-NC-4.0").open


# --- tables --------------------------------------------------------------------------------------------------------


def test_every_rule_row_names_its_source_authority_and_date():
    folder = Path(tables.__file__).with_name("data")
    text = "".join(path.read_text("utf-8") for path in folder.glob("*.yaml"))
    counts = {
        len(re.findall(rf"^[ -]*{key}: \S", text, re.MULTILINE)) for key in ("source", "cite", "authority", "date")
    }
    assert counts == {15}


ROW = {"family": "software", "source": "x", "cite": "x", "authority": "policy", "date": "2026-01-01", "ids": ["MIT"]}


@pytest.mark.parametrize(
    "row",
    [
        {key: value for key, value in ROW.items() if key != "source"},
        {**ROW, "date": ""},
        {**ROW, "authority": "rumour"},
        {**ROW, "family": "odd"},
        {**ROW, "ids": ["MIT", "MIT"]},
        {**ROW, "ids": ["Nope-1.0"]},
    ],
)
def test_a_table_with_a_bad_row_does_not_load(row, tmp_path, monkeypatch):
    shipped = Path(tables.__file__).with_name("data")
    for path in shipped.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    (tmp_path / "licenses.yaml").write_text(yaml.safe_dump([row]), "utf-8")
    monkeypatch.setattr(tables, "_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"rule row|family|licence"):
        tables.load_tables.__wrapped__()


# --- agreement -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "component", "agrees"),
    [
        ("Apache-2.0", "Apache-2.0", True),
        ("Apache-2.0", "MIT", False),
        ("Apache-2.0", "CC-BY-NC-4.0", False),
        ("Apache-2.0 AND CC-BY-4.0", "CC-BY-4.0", True),
        ("Apache-2.0 AND CC-BY-4.0", "Apache-2.0 AND CC-BY-4.0", True),
        ("MIT OR Apache-2.0", "MIT", False),
        ("MIT", "MIT OR Apache-2.0", True),
        ("MIT OR Apache-2.0", "Apache-2.0 OR MIT", True),
        ("GPL-3.0", "GPL-3.0-only", True),
        ("GPL-2.0-only", "GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("MIT", None, True),
        ("MIT", "not a licence", True),
        ("not a licence", "MIT", True),
    ],
)
def test_a_card_may_not_promise_more_than_a_component_grants(card, component, agrees):
    found = rules.contradictions(card, {"parameters": component}, tables=TABLES)
    assert (not found) == agrees
    assert [item.component for item in found] == ([] if agrees else ["parameters"])


def test_a_contradiction_names_both_sides_in_both_languages(words):
    (found,) = rules.contradictions("mit", {"datasets": "cc-by-nc-4.0"}, tables=TABLES)
    error = Refused(
        found.reason,
        component=found.component,
        card_license=found.card_license,
        component_license=found.component_license,
    )
    for language in ("zh", "en"):
        _, message, _ = words.error(error, language)
        assert "MIT" in message and "CC-BY-NC-4.0" in message and "datasets" in message


ATOM = st.sampled_from(["MIT", "Apache-2.0", "CC-BY-4.0", "ISC"])
EXPRESSION = st.recursive(
    ATOM, lambda e: st.builds("({}) {} ({})".format, e, st.sampled_from(["AND", "OR"]), e), max_leaves=5
)


@settings(max_examples=150, deadline=None)
@given(EXPRESSION, EXPRESSION)
def test_every_expression_agrees_with_itself_and_with_a_card_that_adds_to_it(one, other):
    assert not rules.contradictions(one, {"x": one}, tables=TABLES)
    assert not rules.contradictions(f"({one}) AND ({other})", {"x": one, "y": other}, tables=TABLES)
    assert not rules.contradictions(one, {"x": f"({one}) OR ({other})"}, tables=TABLES)


@pytest.mark.heavy
@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="MITANDORWH()+-. /0", max_size=60))
def test_any_text_claimed_as_a_licence_gets_a_verdict(text):
    found = verdict(text)
    assert found.known == (found.expression is not None)
    assert not found.allowed or found.open


# --- openness ------------------------------------------------------------------------------------------------------


def openness(components: list[str], **licenses: str | None) -> rules.OpennessVerdict:
    claims = dict.fromkeys(components, "OpenMDW-1.0") | {k.replace("_", "-"): v for k, v in licenses.items()}
    return rules.openness(claims, tables=TABLES)


@pytest.mark.parametrize(
    ("components", "mof_class", "percent"),
    [
        ([], None, {"III": 0, "II": 0, "I": 0}),
        (CLASS_III[:3], None, {"III": 50, "II": 0, "I": 0}),
        (CLASS_III, "III", {"III": 100, "II": 60, "I": 0}),
        (CLASS_II, "II", {"III": 100, "II": 100, "I": 71}),
        (CLASS_I, "I", {"III": 100, "II": 100, "I": 100}),
        ([c for c in CLASS_I if c != "architecture"], None, {"III": 83, "II": 0, "I": 0}),
    ],
)
def test_classes_are_reached_in_order(components, mof_class, percent, words):
    found = openness(components)
    assert (found.mof_class, dict(found.percent)) == (mof_class, percent)
    assert words.has(found.reason)
    assert "2403.13784" in found.cite


def test_a_paper_stands_in_for_the_report():
    without = [c for c in CLASS_I if c != "technical-report"]
    assert openness(without).mof_class == "I"
    assert openness(without).paper_for_report
    assert openness([*CLASS_III[:-1], "research-paper"]).mof_class == "III"
    assert not openness(CLASS_I).paper_for_report


def test_a_paper_under_a_closed_licence_leaves_the_class_unreached_and_the_report_unasked():
    found = openness(CLASS_III[:-1], research_paper="CC-BY-NC-4.0")
    assert found.mof_class is None
    assert found.missing["III"] == ()
    assert found.invalid == ("research-paper",)


def test_components_without_an_open_licence_do_not_count_and_say_why():
    found = openness(CLASS_III, parameters=None, model_card="", architecture="CC-BY-NC-4.0", data_card="Apache 2.0")
    assert found.unlicensed == ("model-card", "parameters")
    assert found.invalid == ("architecture", "data-card")
    assert found.mof_class is None


def test_an_open_licence_made_for_something_else_counts_and_is_noted():
    found = openness(CLASS_III, architecture="CC-BY-4.0", parameters="Apache-2.0")
    assert found.mof_class == "III"
    assert found.unfit == ("architecture", "parameters")


def test_what_is_missing_is_listed_for_each_class():
    found = openness(CLASS_III)
    assert found.missing["III"] == ()
    assert found.missing["II"] == ("evaluation-code", "evaluation-data", "inference-code", "training-code")
    assert set(found.missing["I"]) == set(CLASS_I) - set(CLASS_III)


RANK = {None: 0, "III": 1, "II": 2, "I": 3}


@settings(max_examples=150, deadline=None)
@given(st.sets(st.sampled_from(sorted(TABLES.components))), st.sampled_from(sorted(TABLES.components)))
def test_adding_an_open_component_never_lowers_the_class(components, another):
    before, after = openness(sorted(components)), openness(sorted(components | {another}))
    assert RANK[after.mof_class] >= RANK[before.mof_class]


@pytest.mark.parametrize(("claimed", "has_card"), list(product(["CC-BY-4.0", "CC-BY-NC-4.0", None], [True, False])))
def test_a_dataset_is_open_by_licence_and_card_together(claimed, has_card, words, made_codes):
    found = rules.dataset_openness(claimed, has_data_card=has_card, tables=TABLES)
    assert found.open == (claimed == "CC-BY-4.0" and has_card)
    assert ("compliance.data-card-missing" in found.reasons) == (not has_card)
    assert all(reason in words.errors or words.has(reason) for reason in found.reasons)
    made_codes.update(found.reasons)
