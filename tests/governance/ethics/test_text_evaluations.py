"""Models of texts on their way through the review: evaluated as what they are, or not passed, or let pass by a name."""

from __future__ import annotations

import struct
from importlib.util import find_spec
from typing import Any

import pytest

from gongqi.doors.cli.laboratory import Part
from gongqi.governance.ethics import planning, sandbox
from gongqi.governance.ethics import service as ethics
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.hub import service as hub
from gongqi.resources.serving.engines.parts import DESCRIBED
from tests.governance.ethics.test_pages import Reader
from tests.sim import tiny_models, yardsticks

pytestmark = pytest.mark.heavy

GATE = "ethics.evaluation"
CARD = b"""---
license: Apache-2.0
title: {zh: "\xe5\xb0\x8f\xe6\xa8\xa1\xe5\x9e\x8b", en: A small model}
summary: {zh: "\xe6\x9d\x83\xe9\x87\x8d\xe5\x8f\x96\xe8\x87\xaa\xe4\xb8\x80\xe4\xb8\xaa\xe7\xa7\x8d\xe5\xad\x90", en: Its weights are drawn from a seed}
provenance: made by the tests
contact: nobody@example.org
tasks: [sentence-similarity]
intended_use: tests
limitations: it understands nothing
---
# A model
"""  # noqa: E501
NO_MODEL = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)  # a sound file that holds nothing


@pytest.fixture(scope="module")
def embedder() -> dict[str, bytes]:
    return tiny_models.embedder()


class Texts:
    """What the laboratory and the keeper of the records do with texts."""

    def __init__(self, foundation: Any, embedder: dict[str, bytes]) -> None:
        self.foundation, self.embedder = foundation, embedder
        self.made = 0

    def yardstick(
        self, rows: list[Any] | None = None, *, org: str = "keeper", visibility: str = "public", task: str = "retrieval",
        path: str = "records.jsonl", content: bytes | None = None, **declared: Any,
    ) -> str:  # fmt: skip
        self.made += 1
        asset = self.foundation.asset(org, "dataset", f"yardstick-{self.made}", visibility)
        files = {
            "README.md": yardsticks.card(task, **declared),
            path: content or yardsticks.lines(yardsticks.pairs() if rows is None else rows),
        }
        parts = [Part("README.md", "data-card", "CC-BY-4.0"), Part(path, "evaluation-data", "CC-BY-4.0")]
        return self.foundation.commit(org, asset, files, parts)

    def submitted(self, yardstick: str, files: dict[str, bytes] | None = None, **more: Any) -> str:
        self.made += 1
        brought = {**(self.embedder if files is None else files), "README.md": CARD}
        ends = (".onnx", ".gguf")
        kinds = {path: "parameters" if path.endswith(ends) else "model-metadata" for path in brought}
        parts = [Part(path, kind, "Apache-2.0") for path, kind in (kinds | {"README.md": "model-card"}).items()]
        asset = self.foundation.asset("laboratory", "model", f"texts-{self.made}")
        lineage = [(yardstick, "evaluated-on"), *more.pop("lineage", [])]
        return self.foundation.submit(self.foundation.commit("laboratory", asset, brought, parts, lineage=lineage))

    def evaluated(self, yardstick: str, files: dict[str, bytes] | None = None) -> tuple[str, Any]:
        release = self.submitted(yardstick, files)
        self.foundation.work()
        return release, self.evaluation(release)

    def evaluation(self, release: str) -> Any:
        return self.foundation.ask(ethics.get_evaluation, "operator", release=release)

    def answers(self, release: str) -> list[tuple[str, str]]:
        return self.foundation.answers(release, GATE)


@pytest.fixture
def texts(foundation: Any, embedder: dict[str, bytes]) -> Texts:
    return Texts(foundation, embedder)


def refused(code: str, act: Any, *arguments: Any, **given: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        act(*arguments, **given)
    assert caught.value.code == code
    return caught.value


def test_a_model_that_embeds_is_evaluated_by_what_it_finds_and_passes(texts: Texts) -> None:
    yardstick = texts.yardstick(yardsticks.pairs(120, wrong=2))
    release, found = texts.evaluated(yardstick)
    assert (found.state, found.dataset_revision, found.result["task"]) == ("done", yardstick, "retrieval")
    assert found.result["metrics"]["accuracy"] == pytest.approx(118 / 120, abs=1e-6)
    assert found.job["files"].keys() == {"model"} | {part for part, path in DESCRIBED.items() if path in texts.embedder}
    assert texts.answers(release) == [
        ("allow", "ethics.gate.records.met"),
        ("allow", "ethics.gate.subgroup-gap.met"),
        ("allow", "ethics.gate.subgroup-gap-stated.met"),
        ("allow", "ethics.gate.above-chance.met"),
    ]
    (entry,) = [each for each in texts.foundation.entries if each.kind == "ethics.evaluation-done"]
    assert entry.facts["result_digest"] == found.result_digest and entry.facts["data_sha256"] == found.job["data"]


def test_figures_that_are_missed_deny_as_those_of_tables_do(texts: Texts) -> None:
    release, found = texts.evaluated(texts.yardstick(yardsticks.pairs(40, wrong=20)))
    assert found.state == "done"
    answers = {reason: decision for decision, reason in texts.answers(release)}
    assert answers["ethics.gate.records.missed"] == "deny" and answers["ethics.gate.subgroup-gap.missed"] == "deny"


def test_without_groups_the_gap_is_unknown_and_unknown_is_missed(texts: Texts) -> None:
    release, _ = texts.evaluated(texts.yardstick(subgroup=None))
    assert ("deny", "ethics.gate.unknown") in texts.answers(release)


def test_what_an_unsound_model_does_to_its_engine_is_said_in_words(texts: Texts) -> None:
    files = {path: content for path, content in texts.embedder.items() if path != "1_Pooling/config.json"}
    release, found = texts.evaluated(texts.yardstick(), files)
    assert (found.state, found.code) == ("failed", "serving.engine-unloadable")
    assert "1_Pooling/config.json" in found.failure["zh"] and "1_Pooling/config.json" in found.failure["en"]
    assert texts.answers(release) == [("deny", "ethics.gate.evaluation-failed")]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"task": "multiple-choice"}, "ethics.evaluation-task-unfit"),
        ({"task": "chat"}, "ethics.evaluation-undeclared"),
        ({"path": "records.txt"}, "ethics.evaluation-data-not-found"),
        ({"rows": [{"prompt": "a", "language": "en"}] * 40}, "ethics.data-column-missing"),
    ],
    ids=str,
)
def test_records_that_do_not_fit_the_model_fail_the_evaluation(texts: Texts, given: dict[str, Any], code: str) -> None:
    _, found = texts.evaluated(texts.yardstick(**given))
    assert (found.state, found.code) == ("failed", code)


def test_records_that_it_has_learned_from_measure_nothing(texts: Texts) -> None:
    yardstick = texts.yardstick()
    learned = texts.yardstick(content=yardsticks.lines(yardsticks.pairs()))
    release = texts.submitted(yardstick, lineage=[(learned, "trained-on")])
    texts.foundation.work()
    assert texts.evaluation(release).code == "ethics.evaluation-data-trained-on"


def test_a_file_of_records_that_is_too_large_is_not_begun_with(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "TEXT_BYTES", 100)
    _, found = texts.evaluated(texts.yardstick())
    assert found.code == "ethics.data-file-too-large" and "larger than 100 bytes" in found.failure["en"]


# ---- what cannot be run here


def without_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "find_spec", lambda name: None if name == "llama_cpp" else find_spec(name))


def test_what_this_foundation_cannot_run_is_unavailable_and_never_passed(
    texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_llama(monkeypatch)
    yardstick = texts.yardstick(yardsticks.questions(), task="multiple-choice")
    release, found = texts.evaluated(yardstick, {"writer.gguf": NO_MODEL})
    assert (found.state, found.code) == ("unavailable", "ethics.engine-missing")
    assert texts.answers(release) == [("deny", "ethics.gate.evaluation-unavailable")]
    assert "ethics.evaluation-unavailable" in texts.foundation.kinds()
    zh, en = Reader(texts.foundation).both(f"/ethics/evaluation/{release}")
    assert "lacks llama_cpp" in en and "llama_cpp" in zh and "unavailable" in en
    # That an engine is missing says nothing about whether an evaluation fits.
    refused("ethics.evaluation-stands", waive, texts, release)


def test_it_is_evaluated_again_when_what_was_missing_is_there(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        return None

    monkeypatch.setattr(planning, "find_spec", none)
    release, found = texts.evaluated(texts.yardstick())
    assert found.state == "unavailable"
    monkeypatch.setattr(planning, "find_spec", find_spec)
    again = texts.foundation.do(ethics.repeat_evaluation, "laboratory-owner", release=release)
    assert (again.state, again.code) == ("queued", None)
    assert texts.answers(release) == [("deny", "ethics.gate.evaluation-queued")]
    refused("ethics.evaluation-stands", texts.foundation.do, ethics.repeat_evaluation, "operator", release=release)
    texts.foundation.work()
    assert texts.evaluation(release).state == "done"
    assert {decision for decision, _ in texts.answers(release)} == {"allow"}
    # A result is not asked for again until it pleases.
    refused("ethics.evaluation-stands", texts.foundation.do, ethics.repeat_evaluation, "operator", release=release)


def test_of_texts_one_is_evaluated_at_a_time_and_the_next_waits(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    release = texts.submitted(texts.yardstick())
    assert sandbox._turn.acquire(blocking=False)
    try:
        texts.foundation.work()
        assert texts.evaluation(release).state == "queued"
    finally:
        sandbox._turn.release()
    texts.foundation.clock.advance(minutes=1)
    texts.foundation.work()
    assert texts.evaluation(release).state == "done"
    assert sandbox._turn.acquire(blocking=False), "it gave its turn back"
    sandbox._turn.release()


def test_one_that_takes_too_long_gives_its_turn_back(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(job: Any) -> None:
        raise Unavailable("ethics.evaluation-timeout", seconds=1800)

    monkeypatch.setattr(sandbox, "run_evaluation", late)
    release = texts.submitted(texts.yardstick())
    for _ in range(3):
        texts.foundation.work()
        texts.foundation.clock.advance(minutes=1)
    assert (texts.evaluation(release).state, texts.evaluation(release).code) == ("failed", "ethics.evaluation-timeout")
    assert not sandbox._turn.locked()


# ---- what no evaluation fits


def waive(texts: Texts, release: str, who: str = "reviewer-1", reason: str = "It makes pictures.") -> Any:
    return texts.foundation.do(ethics.waive_evaluation, who, release=release, reason=reason)


@pytest.fixture
def pictures(texts: Texts) -> str:
    """A model for which there is no evaluation: its records are no table and no texts."""
    release, found = texts.evaluated(texts.yardstick(task="pictures"))
    assert (found.state, found.code) == ("failed", "ethics.evaluation-undeclared")
    return release


def test_a_reviewer_lets_a_model_pass_that_no_evaluation_fits_by_name_and_with_the_reason(
    texts: Texts, pictures: str
) -> None:
    waived = waive(texts, pictures)
    assert (waived.waived_by, waived.waiver) == (texts.foundation.people["reviewer-1"].id, "It makes pictures.")
    assert texts.answers(pictures) == [("require", "ethics.gate.evaluation-waived")]
    (entry,) = [each for each in texts.foundation.entries if each.kind == "ethics.evaluation-waived"]
    assert entry.facts["code"] == "ethics.evaluation-undeclared" and "pictures" not in str(entry.facts)
    zh, en = Reader(texts.foundation).both(f"/ethics/evaluation/{pictures}")
    for html in (zh, en):
        assert "It makes pictures." in html and "reviewer-1" in html
    (shown,) = [
        each for each in texts.foundation.ask(hub.check, "operator", release=pictures).answers if each.source == GATE
    ]
    assert "reviewer-1" in shown.en and "It makes pictures." in shown.zh


def test_nobody_else_does_not_the_operator_and_not_one_of_the_parties(texts: Texts, pictures: str) -> None:
    refused("ethics.not-a-reviewer", waive, texts, pictures, "operator")
    refused("access.forbidden", waive, texts, pictures, "laboratory-owner")
    texts.foundation.join("reviewer-2", "laboratory")
    refused("ethics.conflict-of-interest", waive, texts, pictures, "reviewer-2")
    assert texts.answers(pictures) == [("deny", "ethics.gate.evaluation-failed")]


def test_what_was_measured_is_not_waived(texts: Texts) -> None:
    release, _ = texts.evaluated(texts.yardstick(yardsticks.pairs(40, wrong=20)))
    assert refused("ethics.evaluation-stands", waive, texts, release).params == {"state": "done"}


def test_a_figure_that_comes_after_all_counts_for_more_than_a_waiver(texts: Texts, pictures: str) -> None:
    waive(texts, pictures)
    again = texts.foundation.do(ethics.repeat_evaluation, "reviewer-1", release=pictures)
    assert (again.waived_by, again.waiver, again.waived_at) == (None, None, None)
    texts.foundation.work()
    assert texts.answers(pictures) == [("deny", "ethics.gate.evaluation-failed")]


def test_a_page_offers_to_each_what_they_may_do(texts: Texts, pictures: str) -> None:
    reader, path = Reader(texts.foundation), f"/ethics/evaluation/{pictures}"
    offered = {who: reader.page(path, who) for who in ("reviewer-1", "laboratory-owner", "operator", None)}
    assert "/do/ethics/evaluation/waive?release=" in offered["reviewer-1"]
    assert "/do/ethics/evaluation/repeat?release=" in offered["laboratory-owner"]
    assert "/do/ethics/evaluation/waive" not in offered["laboratory-owner"] + offered["operator"]
    assert "/do/ethics/evaluation" not in offered[None]


# ---- pages


@pytest.mark.parametrize("visibility", ["public", "private"])
def test_the_pages_name_the_records_and_their_revision_to_who_may_see_them(texts: Texts, visibility: str) -> None:
    yardstick = texts.yardstick(visibility=visibility, org="laboratory")
    release, _ = texts.evaluated(yardstick)
    reader = Reader(texts.foundation)
    case = texts.foundation.case(release).id
    paths = {
        f"/ethics/evaluation/{release}": None,
        f"/hub/release/{release}": None,
        f"/ethics/case/{case}": "reviewer-1",
    }
    for path, who in paths.items():
        zh, en = reader.both(path, who)
        is_named = visibility == "public" or who is not None
        assert (f'href="/hub/revision/{yardstick}"' in en) == is_named, path
        assert "recall@1" in zh and "recall@1" in en
        if is_named:
            assert "yardstick-1 · revision 1" in en and "yardstick-1 · 版本 1" in zh
        else:
            assert "a dataset that is not public" in en and "未公开的数据集" in zh


def test_groups_are_drawn_by_their_names_and_those_of_few_are_listed(texts: Texts) -> None:
    rows = yardsticks.pairs(120, wrong=2)
    rows[119]["language"] = "<b>de</b>"
    release, _ = texts.evaluated(texts.yardstick(rows))
    zh, en = Reader(texts.foundation).both(f"/ethics/evaluation/{release}")
    assert "&lt;b&gt;de&lt;/b&gt;" in en and "<b>de</b>" not in en
    assert en.count('<figure class="picture">') == 1, "of the groups; nobody says how sure it is"
    assert "fewer than ten records" in en and "不足十条" in zh and "onnxruntime" in en and "tokenizers" in en
