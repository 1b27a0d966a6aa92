"""The evaluation of models of texts, on models whose every answer is known: figures can be worked out on paper."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from gongqi.governance.ethics import prompts, rules, tasks, texts
from gongqi.governance.ethics.evaluate import Unfit
from gongqi.governance.ethics.prompts import Records, read_records
from gongqi.governance.ethics.sandbox import run_evaluation
from gongqi.governance.ethics.tasks import TextJob, text_job
from gongqi.kernel.errors import Refused
from gongqi.resources.serving.engines.encoder import Encoder
from gongqi.resources.serving.engines.parts import DESCRIBED, MODEL
from tests.sim import tiny_models, yardsticks
from tests.sim.yardsticks import ScriptedWriter

pytestmark = pytest.mark.heavy

BY_LANGUAGE = {"column": "language", "kind": "values"}


@pytest.fixture(scope="module")
def embedder() -> dict[str, bytes]:
    """By its parts."""
    files = tiny_models.embedder()
    return {MODEL: files["onnx/model.onnx"]} | {part: files[path] for part, path in DESCRIBED.items() if path in files}


def job_on(folder: Path, rows: Sequence[Any], task: str, form: str = "jsonl", **declared: Any) -> TextJob:
    data = folder / f"data.{form}"
    data.write_bytes(written(rows, form))
    given = {"task": task, "subgroup": BY_LANGUAGE} | declared
    return text_job(given, files={MODEL: str(folder / "model")}, data=str(data), form=form)


def written(rows: Sequence[Any], form: str) -> bytes:
    if form == "jsonl":
        return yardsticks.lines(rows)
    if form == "parquet":
        file = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist(list(rows)), file)
        return file.getvalue()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({name: json.dumps(each) if isinstance(each, list) else each for name, each in row.items()})
    return text.getvalue().encode()


def unfit(code: str, act: Any, *arguments: Any, **given: Any) -> dict[str, Any]:
    with pytest.raises(Unfit) as caught:
        act(*arguments, **given)
    assert caught.value.code == code
    return caught.value.params


# ---- what a card declares


def test_columns_are_called_as_the_task_calls_them_unless_the_card_says_otherwise() -> None:
    made = text_job(
        {"task": "exact-match", "answer": "solution"}, files={}, data="d", form="csv"
    )  # fmt: skip
    assert made.columns == {"prompt": "prompt", "answer": "solution"}
    assert (made.subgroup, made.delimiter, made.seed) == (None, " ", 0)
    assert TextJob.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    "declared",
    [
        {"task": "classification"},
        {"task": ["retrieval"]},
        {"task": "retrieval", "label": "gold"},
        {"task": "retrieval", "answer": ""},
        {"task": "retrieval", "answer": 3},
        {"task": "retrieval", "answer": "a" * 201},
        {"task": "retrieval", "subgroup": "language"},
        {"task": "retrieval", "subgroup": {"column": "language"}},
        {"task": "retrieval", "subgroup": {"column": 1, "kind": "values"}},
        {"task": "multiple-choice", "delimiter": " " * 9},
        {"task": "multiple-choice", "delimiter": None},
        {"task": "multiple-choice", "seed": True},
    ],
    ids=str,
)
def test_what_is_declared_in_another_way_is_not_guessed(declared: dict[str, Any]) -> None:
    unfit("ethics.evaluation-undeclared", text_job, declared, files={}, data="d", form="csv")


def test_texts_are_not_divided_into_thirds() -> None:
    declared = {"task": "retrieval", "subgroup": {"column": "length", "kind": "terciles"}}
    assert unfit("ethics.subgroup-kind-unknown", text_job, declared, files={}, data="d", form="csv") == {
        "kind": "terciles"
    }


# ---- the records


@pytest.mark.parametrize("rows", [yardsticks.pairs(40), yardsticks.questions(40)], ids=["pairs", "questions"])
def test_the_three_forms_hold_the_same_records(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    task = "multiple-choice" if "choices" in rows[0] else "retrieval"
    read = [read_records(job_on(tmp_path, rows, task, form)) for form in ("jsonl", "csv", "parquet")]
    assert read[0] == read[1] == read[2]
    assert read[0].prompts == tuple(row["prompt"] for row in rows)
    assert read[0].groups == tuple(row["language"] for row in rows)
    if task == "multiple-choice":
        assert read[0].choices[1] == tuple(rows[1]["choices"]) and read[0].labels == tuple(row["label"] for row in rows)


def test_whole_numbers_are_texts_too(tmp_path: Path) -> None:
    rows = [{"prompt": f"{number} + 1 =", "answer": number + 1, "language": "en"} for number in range(30)]
    assert read_records(job_on(tmp_path, rows, "exact-match")).answers[4] == "5"


ASK = {"prompt": "p", "choices": ["a", "b"], "label": 0, "language": "en"}


@pytest.mark.parametrize(
    ("change", "code", "params"),
    [
        ({"prompt": " "}, "ethics.data-text-missing", {"column": "prompt", "row": 8}),
        ({"prompt": None}, "ethics.data-text-missing", {"column": "prompt", "row": 8}),
        ({"prompt": 1.5}, "ethics.data-text-missing", {"column": "prompt", "row": 8}),
        ({"prompt": "p" * 32_001}, "ethics.data-text-too-long", {"column": "prompt", "row": 8, "maximum": 32_000}),
        ({"language": "e" * 65}, "ethics.data-text-too-long", {"column": "language", "row": 8, "maximum": 64}),
        ({"choices": ["a"]}, "ethics.data-choices-unfit", {"column": "choices", "row": 8, "maximum": 26}),
        ({"choices": ["a", "a"]}, "ethics.data-choices-unfit", {"column": "choices", "row": 8, "maximum": 26}),
        ({"choices": "a or b"}, "ethics.data-choices-unfit", {"column": "choices", "row": 8, "maximum": 26}),
        ({"choices": [*map(str, range(27))]}, "ethics.data-choices-unfit", {"column": "choices", "row": 8, "maximum": 26}),
        ({"choices": ["a", ""]}, "ethics.data-text-missing", {"column": "choices", "row": 8}),
        ({"label": 2}, "ethics.data-label-unfit", {"column": "label", "row": 8}),
        ({"label": -1}, "ethics.data-label-unfit", {"column": "label", "row": 8}),
        ({"label": True}, "ethics.data-label-unfit", {"column": "label", "row": 8}),
        ({"label": "A"}, "ethics.data-label-unfit", {"column": "label", "row": 8}),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_record_that_does_not_fit_is_named_not_left_out(
    tmp_path: Path, change: dict[str, Any], code: str, params: dict[str, Any]
) -> None:
    rows = [ASK] * 7 + [ASK | change] + [ASK] * 30
    assert unfit(code, read_records, job_on(tmp_path, rows, "multiple-choice")) == params


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_what_is_not_of_its_form_is_refused_and_so_is_a_column_that_is_not_there(tmp_path: Path, form: str) -> None:
    job = job_on(tmp_path, [ASK] * 30, "multiple-choice", form, label="gold")
    assert unfit("ethics.data-column-missing", read_records, job) == {"column": "gold"}
    for content in (b"\xff\xfe\x00", b'"a\nb"c\n' * 40, b"[1]\n" * 40):
        Path(job.data).write_bytes(content)
        with pytest.raises(Unfit) as caught:
            read_records(job)
        assert caught.value.code in ("ethics.data-unreadable", "ethics.data-column-missing")
    Path(job.data).write_bytes(b"\xff\xfe\x00" * 40)
    assert unfit("ethics.data-unreadable", read_records, job) == {"form": form}


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_records_are_neither_too_few_nor_too_many(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_on(tmp_path, [ASK] * 29, "multiple-choice", form)
    assert unfit("ethics.data-too-small", read_records, job) == {"records": 29, "minimum": 30}
    monkeypatch.setattr(prompts, "MAXIMUM_RECORDS", 30)
    assert len(read_records(job_on(tmp_path, [ASK] * 30, "multiple-choice", form)).prompts) == 30
    job = job_on(tmp_path, [ASK] * 31, "multiple-choice", form)
    assert unfit("ethics.data-too-large", read_records, job) == {"maximum": 30}


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path) -> None:
    job = job_on(tmp_path, [ASK] * 30, "multiple-choice")
    Path(job.data).write_bytes(b'{"prompt": "' + b"p" * (2 << 20))
    unfit("ethics.data-unreadable", read_records, job)


# ---- models that write


def asked(*choices: Sequence[str], label: int = 0, prompt: str = "Q:") -> Records:
    return Records((prompt,) * len(choices), tuple(map(tuple, choices)), (label,) * len(choices), (), None)


def test_the_likeliest_choice_is_taken_and_the_likeliest_a_character_beside_it() -> None:
    writer = ScriptedWriter({"a": -1.0, "b": -0.6})
    found = texts.choose(writer, asked(["a", "bb"], ["bb", "a"], ["b", "a", "aa", "abb"]), " ")
    assert found.hits.tolist() == [True, False, True]
    assert found.figures["accuracy_norm"] == pytest.approx(2 / 3)  # bb is -0.6 a character, a is -1
    assert found.chance == pytest.approx((1 / 2 + 1 / 2 + 1 / 4) / 3)
    assert found.confidence is not None
    assert found.confidence[0] == pytest.approx(math.exp(-1.0) / (math.exp(-1.0) + math.exp(-1.2)))


def test_a_model_to_which_all_choices_are_alike_is_not_right_by_their_order() -> None:
    found = texts.choose(ScriptedWriter(), asked(["a", "b"], ["b", "a"]), " ")
    assert not found.hits.any() and found.figures["accuracy_norm"] == 0.0
    assert found.confidence is not None and found.confidence.tolist() == [0.5, 0.5]


def test_white_space_at_the_end_of_a_prompt_belongs_to_the_choice() -> None:
    """As lm-evaluation-harness has it: tokenizers join it to the word that follows."""
    seen: list[tuple[int, list[int]]] = []

    class Watched(ScriptedWriter):
        def likelihoods(self, start: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
            seen.append((len(start), [len(each) for each in endings]))
            return super().likelihoods(start, endings)

    texts.choose(Watched(), asked(["a", "bb"], prompt="Q:  "), "")
    assert seen == [(3, [3, 4])]


def test_where_a_choice_merges_into_the_prompt_all_are_judged_from_before_it() -> None:
    class Merging(ScriptedWriter):
        """`:a` is one token, as `: a` might be to a tokenizer."""

        def tokens(self, text: str) -> list[int]:
            return super().tokens(text.replace(":a", "\uffff"))

    found = texts.choose(Merging({"\uffff": -0.5, ":": -3.0, "b": -0.1}), asked(["a", "b"]), "")
    assert found.hits.tolist() == [True], ":a is likelier than : and b together"


@given(
    st.lists(st.integers(0, 2), max_size=6), st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=2)
)
def test_all_choices_go_on_from_one_beginning_and_none_is_empty(begun: list[int], wholes: list[list[int]]) -> None:
    size = texts._shared(begun, wholes)
    assert 0 <= size <= len(begun)
    assert all(whole[:size] == begun[:size] and whole[size:] for whole in wholes)


def test_a_prompt_longer_than_the_model_reads_is_not_cut() -> None:
    records = asked(["a", "b"], ["a", "bbbb"])
    with_answer = len("Q: bbbb") + 1
    assert texts.choose(ScriptedWriter(context=with_answer), records, " ").chance == 0.5
    short = ScriptedWriter(context=with_answer - 1)
    params = {"row": 2, "tokens": with_answer, "maximum": with_answer - 1}
    assert unfit("ethics.prompt-unfit", texts.choose, short, records, " ") == params
    lines = Records(("Q:",), (), (), ("yes",), None)
    unfit("ethics.prompt-unfit", texts.write, ScriptedWriter(context=20), lines, " ")


def test_a_prompt_without_a_token_of_its_own_has_nothing_to_go_on_from() -> None:
    class Bare(ScriptedWriter):
        def prompt(self, text: str) -> list[int]:
            return [sum(self.tokens(text))]

    unfit("ethics.prompt-unfit", texts.choose, Bare(), asked(["a", "b"]), " ")


def test_likelihoods_that_are_no_numbers_are_no_answer() -> None:
    unfit("ethics.model-not-finite", texts.choose, ScriptedWriter({"a": math.nan}), asked(["a", "b"]), " ")


@pytest.mark.parametrize(
    ("wrote", "answer", "is_right"),
    [
        (" Paris\nand more", "Paris", True),
        ("ＰＡＲＩＳ  ", "paris", True),
        (" New   York", "new york", True),
        ("Paris, of course", "Paris", False),
        ("\nParis", "Paris", False),
        ("", "Paris", False),
        (" 北京\n", "北京", True),
    ],
)
def test_the_line_that_is_written_is_the_answer_or_is_not(wrote: str, answer: str, is_right: bool) -> None:
    records = Records(("Q:",), (), (), (answer,), None)
    found = texts.write(ScriptedWriter(written={"Q:": wrote}), records, " ")
    assert found.hits.tolist() == [is_right] and found.chance == 0.0 and found.confidence is None


def test_no_more_is_written_than_an_answer_may_have() -> None:
    told: list[int] = []

    class Endless(ScriptedWriter):
        def steps(self, tokens: Sequence[int], wishes: Any, limit: int) -> Any:
            told.append(limit)
            return super().steps(tokens, wishes, limit)

    endless = Endless(written={"Q:": "a" * 10_000})
    assert not texts.write(endless, Records(("Q:",), (), (), ("aaa",), None), " ").hits[0]
    assert told == [3 + texts.SPARE_TOKENS]


# ---- models that embed


def paired(rows: Sequence[dict[str, Any]]) -> Records:
    return Records(tuple(row["prompt"] for row in rows), (), (), tuple(row["answer"] for row in rows), None)


def test_the_nearest_answer_of_all_has_to_be_the_own_one(embedder: dict[str, bytes]) -> None:
    found = texts.find(Encoder(embedder), paired(yardsticks.pairs(60, wrong=4)), " ")
    wrong = [number for number, hit in enumerate(found.hits) if not hit]
    assert wrong == [0, 2, 4, 6] and found.chance == 1 / 60


class Vectors:
    """Texts are numbers of rows."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.dimensions = np.asarray(rows, np.float32), len(rows[0])

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [[int(text)] for text in texts]

    def vectors(self, rows: Sequence[Sequence[int]]) -> Any:
        return self.rows[[row[0] for row in rows]]


def test_a_model_to_which_all_texts_are_alike_finds_nothing() -> None:
    records = Records(("0",) * 12, (), (), tuple(map(str, range(1, 13))), None)
    found = texts.find(Vectors([[1.0, 2.0]] * 13), records, " ")
    assert not found.hits.any() and found.figures["ndcg_at_10"] == 0.0


def test_what_is_found_second_is_no_hit_but_gains_a_little() -> None:
    vectors = Vectors([[1.0, 0.0], [0.8, 0.6], [1.0, 0.1]])
    found = texts.find(vectors, Records(("0", "0"), (), (), ("1", "2"), None), " ")
    assert found.hits.tolist() == [False, True]
    assert found.figures["ndcg_at_10"] == pytest.approx((1 / math.log2(3) + 1) / 2)


def test_prompts_may_share_an_answer_which_then_stands_once_among_all() -> None:
    found = texts.find(Vectors([[1.0, 0.0], [0.0, 1.0]]), Records(("0", "0", "1"), (), (), ("0", "0", "1"), None), " ")
    assert found.hits.all() and found.chance == 1 / 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_vectors_come_back_in_the_order_of_their_texts(lengths: list[int]) -> None:
    class Counting:
        dimensions = 1

        def tokens(self, texts: Sequence[str]) -> list[list[int]]:
            return [[0] * int(text) for text in texts]

        def vectors(self, rows: Sequence[Sequence[int]]) -> Any:
            widest = max(map(len, rows))
            assert len(rows) == 1 or len(rows) * widest <= texts.BATCH_TOKENS
            return np.array([[len(row) if len(row) % 2 else -len(row)] for row in rows], np.float32)

    found = texts._directions(Counting(), [str(length) for length in lengths])
    assert found[:, 0].tolist() == [1.0 if length % 2 else -1.0 for length in lengths]


def test_a_model_that_fails_in_the_middle_is_the_model_s_failure(embedder: dict[str, bytes]) -> None:
    class Broken(Encoder):
        def tokens(self, texts: Sequence[str]) -> list[list[int]]:
            return [[10**6]] * len(texts)  # beyond the vocabulary

    broken = Broken.__new__(Broken)
    broken.__dict__ |= Encoder(embedder).__dict__
    unfit("ethics.model-does-not-run", texts.find, broken, paired(yardsticks.pairs(30)), " ")


# ---- the figures


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, embedder: dict[str, bytes]) -> TextJob:
    """120 pairs, of which 6 are wrong, all of them in one of two languages."""
    folder = tmp_path_factory.mktemp("texts")
    for part, content in embedder.items():
        (folder / part).write_bytes(content)
    made = job_on(folder, yardsticks.pairs(120, wrong=6), "retrieval")
    return TextJob.from_json({**made.to_json(), "files": {part: str(folder / part) for part in embedder}})


def test_the_figures_are_those_worked_out_by_hand(job: TextJob) -> None:
    result = texts.evaluate(job)
    metrics = result["metrics"]
    assert (result["task"], result["records"], metrics["accuracy"]) == ("retrieval", 120, 0.95)
    assert metrics["chance_corrected_accuracy"] == pytest.approx((0.95 - 1 / 120) / (1 - 1 / 120), abs=1e-6)
    groups = {row["name"]: (row["records"], row["accuracy"]) for row in result["subgroups"]["groups"]}
    assert groups == {"en": (60, 0.9), "zh": (60, 1.0)}
    assert metrics["accuracy_gap"] == pytest.approx(0.1)
    low, high = result["intervals"]["accuracy_gap"]
    assert low < 0.1 < high
    hits = int(result["hits"], 16)
    assert hits.bit_count() == 114 and f"{hits:0120b}"[:12] == "010101010101"
    assert "brier" not in metrics and result["calibration"] == [], "nobody says how sure it is of what is nearest"
    content = {part: sha256(Path(path).read_bytes()).hexdigest() for part, path in job.files.items()}
    assert result["files"] == content and result["model_sha256"] == content[MODEL]


def test_confidence_is_measured_against_what_was_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty records at a confidence of two thirds, of which thirty are right."""
    rows = [{"prompt": "Q:", "choices": ["a", "b"], "label": number // 30, "language": "en"} for number in range(40)]
    job = job_on(tmp_path, rows, "multiple-choice")
    (tmp_path / "model").write_bytes(b"")
    monkeypatch.setattr(texts, "_engine", lambda job: ScriptedWriter({"a": math.log(2 / 3), "b": math.log(1 / 3)}))
    monkeypatch.setitem(texts.LIBRARIES, "llama.cpp", ())
    result = texts.evaluate(job)
    assert result["metrics"]["expected_calibration_error"] == pytest.approx(0.75 - 2 / 3, abs=1e-6)
    assert result["metrics"]["brier"] == pytest.approx((30 * (1 / 3) ** 2 + 10 * (2 / 3) ** 2) / 40, abs=1e-6)
    assert result["metrics"]["chance_corrected_accuracy"] == pytest.approx(0.5)
    (bin,) = [each for each in result["calibration"] if each["count"]]
    assert (bin["from"], bin["count"], bin["observed"]) == (0.6, 40, 0.75)


def test_a_group_of_few_is_shown_without_a_figure_and_makes_no_gap() -> None:
    hits = np.array([True] * 9 + [True, False] * 10 + [False] * 10)
    table = texts._by_value(["few"] * 9 + ["some"] * 20 + ["others"] * 10, hits)
    assert [(row["name"], row["records"], row["accuracy"]) for row in table] == [
        ("few", 9, None),
        ("others", 10, 0.0),
        ("some", 20, 0.5),
    ]


def test_a_gap_needs_two_groups(tmp_path: Path, job: TextJob) -> None:
    alone = [row | {"language": "en"} for row in yardsticks.pairs(40)]
    data = tmp_path / "alone.jsonl"
    data.write_bytes(yardsticks.lines(alone))
    metrics = texts.evaluate(TextJob.from_json({**job.to_json(), "data": str(data)}))["metrics"]
    assert metrics["accuracy_gap"] is None
    without = texts.evaluate(TextJob.from_json({**job.to_json(), "data": str(data), "subgroup": None}))
    assert without["subgroups"] is None and "accuracy_gap" not in without["metrics"]


def test_more_groups_than_can_be_looked_at_are_refused() -> None:
    params = unfit("ethics.subgroups-too-many", texts._by_value, list(map(str, range(51))), np.ones(51, bool))
    assert params == {"groups": 51, "maximum": 50}


def test_two_evaluations_of_texts_are_compared_record_by_record(job: TextJob, tmp_path: Path) -> None:
    after = texts.evaluate(job)
    hits = int(after["hits"], 16) & ~(1 << 118)
    before = {**after, "hits": f"{hits:030x}", "metrics": {**after["metrics"], "accuracy": 0.9416}}
    found = rules.compare(before, after)
    assert (found.gained, found.lost) == (1, 0)
    assert [change.metric for change in found.changes if change.is_better] == ["accuracy"]
    assert not any(change.metric == "roc_auc" for change in found.changes), "which neither has"
    with pytest.raises(Refused, match=r"ethics\.evaluations-not-comparable"):
        rules.compare({**before, "task": "exact-match"}, after)


# ---- the child


@pytest.mark.long
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_child_finds_what_is_found_here(job: TextJob, tmp_path: Path, form: str) -> None:
    data = tmp_path / f"data.{form}"
    data.write_bytes(written(yardsticks.pairs(120, wrong=6), form))
    asked = TextJob.from_json({**job.to_json(), "data": str(data), "form": form})
    assert run_evaluation(asked) == json.loads(json.dumps(texts.evaluate(asked)))


def test_the_child_says_why_a_model_or_its_records_do_not_fit(job: TextJob, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"not a model")
    asked = TextJob.from_json({**job.to_json(), "files": {**job.files, MODEL: str(other)}})
    with pytest.raises(Refused) as caught:
        run_evaluation(asked)
    assert (caught.value.code, caught.value.params) == ("serving.engine-unloadable", {"reason": "onnx"})
    with pytest.raises(Refused, match=r"ethics\.data-unreadable"):
        run_evaluation(TextJob.from_json({**job.to_json(), "data": str(other), "form": "parquet"}))


def test_a_task_is_known_by_the_engine_its_models_run_in() -> None:
    assert set(tasks.ENGINES) == set(tasks.COLUMNS) == set(texts.ASKED) and tasks.CLASSIFICATION in tasks.TASKS
