"""A model that writes, evaluated in llama.cpp: `make test-engines` compiles it first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gongqi.governance.ethics import texts
from gongqi.governance.ethics.sandbox import run_evaluation
from gongqi.governance.ethics.tasks import TextJob, text_job
from gongqi.kernel.errors import Refused, Unavailable
from tests.sim import tiny_models, yardsticks

pytest.importorskip("llama_cpp", reason="make test-engines installs it")
pytest.importorskip("gguf", reason="make test-engines installs it")

BY_LANGUAGE = {"column": "language", "kind": "values"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("writer")
    tiny_models.writer(folder, ends=False)
    return str(folder / "writer.gguf")


def job_on(folder: Path, rows: list[yardsticks.Record], model: str, task: str = "multiple-choice") -> TextJob:
    data = folder / "data.jsonl"
    data.write_bytes(yardsticks.lines(rows))
    return text_job({"task": task, "subgroup": BY_LANGUAGE}, files={"model": model}, data=str(data), form="jsonl")


def test_letters_are_likelier_to_it_than_marks_and_it_is_sure(model: str, tmp_path: Path) -> None:
    result = run_evaluation(job_on(tmp_path, yardsticks.questions(), model))
    metrics = result["metrics"]
    assert (metrics["records"], metrics["accuracy"], metrics["accuracy_gap"]) == (120, 1.0, 0.0)
    assert metrics["chance_corrected_accuracy"] == 1.0 and metrics["expected_calibration_error"] < 0.1
    assert sum(each["count"] for each in result["calibration"]) == 120
    assert result["method"]["llama-cpp-python"]


def test_wrong_labels_are_told_from_right_ones(model: str, tmp_path: Path) -> None:
    rows = yardsticks.questions(40)
    for number in range(0, 40, 4):
        rows[number]["label"] = 1 - rows[number]["label"]
    result = run_evaluation(job_on(tmp_path, rows, model))
    groups = {row["name"]: row["accuracy"] for row in result["subgroups"]["groups"]}
    assert result["metrics"]["accuracy"] == 0.75 and groups == {"en": 0.5, "zh": 1.0}


def test_the_child_finds_what_is_found_here_and_finds_it_again(model: str, tmp_path: Path) -> None:
    job = job_on(tmp_path, yardsticks.questions(40), model)
    first = run_evaluation(job)
    assert first == run_evaluation(job) == json.loads(json.dumps(texts.evaluate(job)))


def test_the_line_it_writes_is_its_answer(model: str, tmp_path: Path) -> None:
    """Asked twice without chance, it says the same: how it begins is the answer for half of the records. It ends no line by
    itself, so it is given room for the answer alone; up to its first space, which is several tokens when it is read."""
    from gongqi.resources.serving.engines.writer import Wishes, Writer

    writer = Writer(Path(model), context_tokens=512, threads=1)
    rows = []
    for number in range(40):
        prompt, said = f"{number}:", b""
        for step in writer.steps(writer.prompt(prompt), Wishes(temperature=0.0), 30):
            said += step.text
        begun = said.decode("utf-8", "replace").partition(" ")[0]
        answer = begun if begun and number % 2 else "another"
        rows.append({"prompt": prompt, "answer": answer, "language": yardsticks.LANGUAGES[number % 2]})
    job = job_on(tmp_path, rows, model, "exact-match")
    spare, texts.SPARE_TOKENS = texts.SPARE_TOKENS, 0
    try:
        found = texts.write(writer, texts.read_records(job), " ")
    finally:
        texts.SPARE_TOKENS = spare
    assert found.hits.tolist() == [row["answer"] != "another" for row in rows] and found.hits.sum() > 10
    assert run_evaluation(job)["metrics"]["accuracy"] == 0.0, "with room to go on, it goes on"


def test_what_is_no_model_is_said_and_a_short_hour_is_over(model: str, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(Path(model).read_bytes()[:50_000])
    with pytest.raises(Refused) as caught:
        run_evaluation(job_on(tmp_path, yardsticks.questions(), str(cut)))
    assert (caught.value.code, caught.value.params) == ("serving.engine-unloadable", {"reason": "llama.cpp"})
    with pytest.raises(Unavailable, match=r"ethics\.evaluation-timeout"):
        run_evaluation(job_on(tmp_path, yardsticks.questions(), model), timeout_seconds=0.5)
