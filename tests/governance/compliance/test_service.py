"""What compliance answers before a publication: licences, card, openness; bad input gets a reason one can act on."""

from __future__ import annotations

from typing import Any

import pytest

from gongqi.doors.cli.laboratory import MODEL_PARTS, Part
from gongqi.governance.compliance import service as compliance
from gongqi.kernel.errors import Refused
from gongqi.resources.hub import service as hub


def answers(foundation: Any, release: str, source: str) -> list[Any]:
    return [each for each in foundation.ask(hub.check, "operator", release=release).answers if each.source == source]


def denials(foundation: Any, release: str, source: str) -> dict[str, str]:
    """Reason → English words, of what stands in the way."""
    return {each.reason: each.en for each in answers(foundation, release, source) if each.decision == "deny"}


def with_licence(path: str, licence: str) -> tuple[Part, ...]:
    return tuple(Part(p.path, p.component, licence if p.path == path else p.license) for p in MODEL_PARTS)


@pytest.fixture
def model(foundation: Any) -> str:
    return foundation.submit(foundation.model())


def test_the_worked_example_passes_on_every_point(foundation, model):
    for source in (compliance.LICENCE, compliance.CARD, compliance.OPENNESS):
        found = answers(foundation, model, source)
        assert found and {each.decision for each in found} == {"allow"}


def test_a_model_of_nine_components_is_class_three_and_its_missing_parts_are_named(foundation, model):
    (answer,) = answers(foundation, model, compliance.OPENNESS)
    assert (answer.reason, answer.params["class"]) == ("compliance.openness-iii", "III")
    verdict = foundation.ask(compliance.show_verdict, None, release=model)
    assert verdict.openness.mof_class == "III"
    assert verdict.openness.missing["II"] == ["evaluation-data"]
    assert "arXiv:2403.13784" in verdict.openness.cite


def test_every_answer_cites_a_rule_with_its_authority_and_date(foundation, model):
    for source in (compliance.LICENCE, compliance.CARD, compliance.OPENNESS):
        for answer in answers(foundation, model, source):
            (cite,) = answer.cites
            assert cite["source"] and cite["article"] and cite["date"]
            assert cite["authority"] in {"standard", "policy", "interpretation"}


def test_an_unknown_licence_is_denied_with_what_may_have_been_meant(foundation):
    parts = with_licence("train.py", "Apache 2")
    release = foundation.submit(foundation.model(parts=parts))
    found = denials(foundation, release, compliance.LICENCE)
    (words,) = found.values()
    assert found.keys() <= {"compliance.license-unknown", "compliance.license-syntax"}
    assert words.startswith("train.py: ") and "Apache-2.0" in words
    verdict = foundation.ask(compliance.show_verdict, None, release=release)
    assert not verdict.allowed
    (row,) = [each for each in verdict.components if not each.allowed]
    assert (row.path, row.expression, row.from_card) == ("train.py", None, False)


def test_a_licence_that_forbids_commerce_is_denied_by_the_rule_of_its_keeper(foundation):
    release = foundation.submit(foundation.model(parts=with_licence("model.onnx", "CC-BY-NC-4.0")))
    assert "compliance.license-noncommercial" in denials(foundation, release, compliance.LICENCE)
    found = {each.reason: each for each in answers(foundation, release, compliance.LICENCE)}
    assert "Creative Commons" in found["compliance.license-noncommercial"].cites[0]["source"]


def test_a_licence_that_contradicts_the_card_is_denied_and_both_are_named(foundation):
    release = foundation.submit(foundation.model(parts=with_licence("train.py", "GPL-3.0-only")))
    words = denials(foundation, release, compliance.LICENCE)["compliance.license-contradiction"]
    assert "GPL-3.0-only" in words and "Apache-2.0 AND CC-BY-4.0" in words


def test_without_any_licence_nothing_is_let_through(foundation):
    parts = (Part("README.md", "data-card", ""), Part("data.csv", "datasets", ""))
    asset = foundation.asset("hospital", "dataset", "bare")
    files = {"README.md": "---\ntitle: {zh: 无, en: Bare}\n---\n".encode(), "data.csv": b"a,b\n1,2\n"}
    release = foundation.submit(foundation.commit("hospital", asset, files, parts), org="hospital")
    assert "compliance.license-missing" in denials(foundation, release, compliance.LICENCE)
    assert denials(foundation, release, compliance.OPENNESS).keys() == {"compliance.openness-nothing"}
    words = denials(foundation, release, compliance.CARD)["compliance.card-incomplete"]
    assert "license" in words and "limitations" in words


def test_a_file_takes_the_cards_licence_when_it_has_none_of_its_own(foundation):
    parts = (Part("README.md", "", ""), Part("data.csv", "", ""))
    asset = foundation.asset("hospital", "dataset", "plain")
    release = foundation.submit(
        foundation.commit("hospital", asset, foundation.read("data-1"), parts), org="hospital"
    )  # fmt: skip
    verdict = foundation.ask(compliance.show_verdict, None, release=release)
    assert verdict.allowed and verdict.openness is None
    rows = {each.path: (each.component, each.claimed, each.from_card) for each in verdict.components}
    assert rows == {"README.md": ("data-card", "CC-BY-4.0", True), "data.csv": ("datasets", "CC-BY-4.0", True)}
    assert [each.reason for each in answers(foundation, release, compliance.OPENNESS)] == ["compliance.dataset-open"]


def test_code_has_no_class_but_is_open_or_not(foundation):
    readme = foundation.read("data-1")["README.md"].replace(b"license: CC-BY-4.0", b"license: Apache-2.0")
    asset = foundation.asset("laboratory", "code", "tool")
    parts = (Part("README.md", "", ""), Part("tool.py", "training-code", "Apache-2.0"))
    revision = foundation.commit("laboratory", asset, {"README.md": readme, "tool.py": b"print(1)\n"}, parts)
    release = foundation.submit(revision)
    assert [each.reason for each in answers(foundation, release, compliance.OPENNESS)] == ["compliance.openness-open"]


def test_the_verdict_on_a_private_release_is_seen_by_who_sees_the_release(foundation):
    release = foundation.submit(foundation.model(visibility="private"))
    assert foundation.ask(compliance.show_verdict, "reviewer-1", release=release).kind == "model"
    for who in (None, "hospital-owner"):
        with pytest.raises(Refused, match=r"access\.not-found"):
            foundation.ask(compliance.show_verdict, who, release=release)


@pytest.mark.heavy
def test_a_release_with_an_unknown_licence_is_not_published_and_nothing_changes(foundation):
    release = foundation.submit(foundation.model(parts=with_licence("train.py", "Open-ish")))
    foundation.work()
    for reviewer in ("reviewer-1", "reviewer-2", "reviewer-3", "reviewer-4"):
        foundation.vote(release, reviewer)
    with pytest.raises(Refused, match=r"hub\.gates-denied") as caught:
        foundation.do(hub.publish, "operator", release=release)
    assert "compliance.license-unknown" in str(caught.value)
    assert foundation.ask(hub.get_release, "operator", release=release).state == "submitted"


@pytest.mark.heavy
def test_an_asset_is_found_by_the_openness_of_its_release_until_that_is_withdrawn(foundation):
    held_out = foundation.dataset("keeper", "held-out", "held-out", "evaluation-data")
    data = foundation.dataset("hospital", "data-1", "open-data")
    releases = {
        "class-iii": foundation.submit(foundation.model(held_out=held_out)),
        "open": foundation.submit(data, org="hospital"),
    }
    foundation.work()
    for label, release in releases.items():
        for reviewer in ("reviewer-1", "reviewer-2", "reviewer-3", "reviewer-4"):
            foundation.vote(release, reviewer)
        foundation.do(hub.publish, "operator", release=release)
        foundation.work()
        [asset] = foundation.ask(hub.search_assets, None, openness=label).items
        assert asset.id == foundation.ask(hub.get_release, "operator", release=release).asset
        foundation.do(hub.withdraw, "operator", release=release, reason="a mistake")
        foundation.work()
        assert foundation.ask(hub.search_assets, None, openness=label).items == []


@pytest.mark.heavy
def test_every_reason_has_words_in_both_languages_with_every_blank_filled(foundation):
    for number, licence in enumerate(("Open-ish", "MIT AND", "CC-BY-ND-4.0", "CC-BY-4.0", "LicenseRef-x", "")):
        parts = with_licence("train.py", licence)
        asset = foundation.asset("laboratory", "model", f"m-{number}")
        revision = foundation.commit("laboratory", asset, foundation.read("model-1"), parts)
        release = foundation.submit(revision)
        for source in (compliance.LICENCE, compliance.CARD, compliance.OPENNESS):
            for answer in answers(foundation, release, source):
                assert answer.zh != answer.reason != answer.en
                assert "{" not in answer.zh + answer.en, answer
