"""The evaluation, on models made here by hand so that every figure can be worked out on paper."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gongqi.governance.ethics import evaluate
from gongqi.governance.ethics.evaluate import Job, Unfit
from gongqi.governance.ethics.sandbox import run_evaluation
from gongqi.kernel.errors import Broken, Refused, Unavailable

FEATURES = ("a", "b")


def save(
    path: Path, nodes: list, *, width: int | None = 2, initializers: tuple = (), outputs: list | None = None
) -> Path:
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])
    outputs = outputs or [("label", TensorProto.INT64, [None]), ("probabilities", TensorProto.FLOAT, [None, 2])]
    made = [helper.make_tensor_value_info(*output) for output in outputs]
    graph = helper.make_graph(nodes, "by-hand", [given], made, list(initializers))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def constant(name: str, value: object, kind: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.array(value, dtype=kind), name)


def probability_is_a(path: Path, *, scale: float = 1.0, width: int | None = 2) -> Path:
    """A model whose probability of class 1 is scale * column a; label 1 from 0.5 on."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["raw"]),
        helper.make_node("Add", ["raw", "offset"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0, select_last_index=1),
    ]
    weights = constant("weights", [[-scale, scale]] + [[0, 0]] * ((width or 2) - 1))
    return save(path, nodes, width=width, initializers=(weights, constant("offset", [1, 0])))


def write_rows(path: Path, rows: list[tuple[object, ...]], header: tuple[str, ...] = ("a", "b", "y")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def thirty_rows() -> list[tuple[object, ...]]:
    """b orders the rows in thirds of ten; the model errs on two of the last third: one missed, one false alarm."""
    rows: list[tuple[object, ...]] = []
    for number in range(30):
        label = number % 2
        probability = 0.95 if label else 0.05
        if number in (28, 29):
            probability = 1 - probability
        rows.append((probability, number, label))
    return rows


@pytest.fixture
def job(tmp_path: Path) -> Job:
    model = probability_is_a(tmp_path / "model.onnx")
    data = write_rows(tmp_path / "data.csv", thirty_rows())
    return Job(str(model), str(data), "y", FEATURES, "b")


def with_model(job: Job, model: Path) -> Job:
    return Job(str(model), job.data, job.target, job.features, job.subgroup)


def with_rows(job: Job, rows: list[tuple[object, ...]], header: tuple[str, ...] = ("a", "b", "y")) -> Job:
    write_rows(Path(job.data), rows, header)
    return job


def test_the_figures_are_those_worked_out_by_hand(job: Job) -> None:
    result = evaluate.evaluate(job)
    metrics = result["metrics"]
    assert metrics["accuracy"] == metrics["balanced_accuracy"] == pytest.approx(28 / 30, abs=1e-6)
    assert result["confusion"] == {"true_negative": 14, "false_positive": 1, "false_negative": 1, "true_positive": 14}
    assert metrics["brier"] == pytest.approx((28 * 0.05**2 + 2 * 0.95**2) / 30, abs=1e-6)
    # Of 225 pairs 196 are ordered right, and 28 are ties that count half.
    assert metrics["roc_auc"] == pytest.approx((196 + 28 / 2) / 225, abs=1e-6)
    # In both filled bins one of fifteen has the rarer label: |1/15 - 0.05|.
    assert metrics["expected_calibration_error"] == pytest.approx(1 / 15 - 0.05, abs=1e-6)
    assert [row["count"] for row in result["calibration"]] == [15, 0, 0, 0, 0, 0, 0, 0, 0, 15]
    assert result["calibration"][4]["observed"] is None


def test_subgroups_are_thirds_and_the_gap_is_largest_minus_smallest(job: Job) -> None:
    result = evaluate.evaluate(job)
    groups = result["subgroups"]["groups"]
    assert [(row["records"], row["accuracy"]) for row in groups] == [(10, 1.0), (10, 1.0), (10, 0.8)]
    assert result["metrics"]["accuracy_gap"] == pytest.approx(0.2)
    assert result["subgroup_note"] == "ethics.note.terciles-not-demographics"


def test_a_rate_over_few_cases_is_not_reported(job: Job) -> None:
    result = evaluate.evaluate(job)
    assert [row["false_negative_rate"] for row in result["subgroups"]["groups"]] == [None, None, None]
    assert result["metrics"]["false_negative_rate_gap"] is None


def test_hits_hold_one_bit_for_each_record_in_order(job: Job) -> None:
    hits = int(evaluate.evaluate(job)["hits"], 16) >> 2  # 30 records in 4 bytes
    assert f"{hits:030b}" == "1" * 28 + "00"


def test_without_a_subgroup_no_gap_is_claimed(job: Job) -> None:
    result = evaluate.evaluate(Job(job.model, job.data, "y", FEATURES))
    assert result["subgroups"] is None and "accuracy_gap" not in result["metrics"]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_newcombe(successes: int, trials: int, low: float, high: float) -> None:
    assert evaluate.wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.long
def test_the_child_gives_the_same_bytes_each_time_and_the_same_as_run_here(job: Job) -> None:
    first, second = run_evaluation(job), run_evaluation(job)
    assert first == second == json.loads(json.dumps(evaluate.evaluate(job)))


@pytest.mark.long
def test_the_file_runs_alone_and_as_a_module(job: Job) -> None:
    request = json.dumps(job.to_json())
    alone = subprocess.run([sys.executable, "-I", evaluate.__file__], input=request, capture_output=True, text=True)
    command = [sys.executable, "-m", "gongqi.governance.ethics.evaluate"]
    source = {**os.environ, "PYTHONPATH": str(Path(evaluate.__file__).parents[3])}
    module = subprocess.run(command, input=request, capture_output=True, text=True, env=source)
    assert alone.returncode == module.returncode == 0
    assert alone.stdout == module.stdout


def test_a_failure_is_a_code_on_standard_output_and_exit_status_2(job: Job) -> None:
    Path(job.model).write_bytes(b"not a model")
    done = subprocess.run(
        [sys.executable, evaluate.__file__], input=json.dumps(job.to_json()), capture_output=True, text=True
    )
    assert (done.returncode, json.loads(done.stdout)) == (2, {"error": "ethics.model-does-not-load", "params": {}})


# ---- refusals about the model


def test_bytes_that_are_no_model_are_refused(job: Job) -> None:
    Path(job.model).write_bytes(b"not a model")
    with pytest.raises(Refused, match=r"ethics\.model-does-not-load"):
        run_evaluation(job)


def test_weights_outside_the_model_file_are_never_read(job: Job, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(np.array([[-1, 1], [0, 0]], dtype=np.float32).tobytes())
    model = onnx.load(job.model)
    weights = model.graph.initializer[0]
    for location in ("secret.bin", str(tmp_path / "secret.bin")):
        weights.ClearField("raw_data")
        del weights.external_data[:]
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=location)
        Path(job.model).write_bytes(model.SerializeToString())
        with pytest.raises(Refused, match=r"ethics\.model-does-not-load"):
            run_evaluation(job)


def test_a_wrong_input_width_is_refused_with_both_numbers(job: Job, tmp_path: Path) -> None:
    with pytest.raises(Unfit) as caught:
        evaluate.evaluate(with_model(job, probability_is_a(tmp_path / "wide.onnx", width=5)))
    assert (caught.value.code, caught.value.params) == ("ethics.model-input-width", {"declared": 5, "features": 2})


def test_a_model_without_a_declared_width_is_asked_by_running_it(job: Job, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["features", "w"], ["probabilities"])]
    nodes.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    model = save(tmp_path / "m.onnx", nodes, width=None, initializers=(constant("w", np.ones((7, 2))),))
    with pytest.raises(Unfit, match=r"ethics\.model-does-not-run"):
        evaluate.evaluate(with_model(job, model))


def test_probabilities_that_are_not_numbers_are_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(Unfit, match=r"ethics\.model-not-finite"):
        evaluate.evaluate(with_model(job, probability_is_a(tmp_path / "nan.onnx", scale=float("nan"))))


def test_scores_that_are_not_probabilities_are_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(Unfit, match=r"ethics\.model-not-probabilities"):
        evaluate.evaluate(with_model(job, probability_is_a(tmp_path / "scores.onnx", scale=3)))


def test_two_inputs_are_refused(job: Job, tmp_path: Path) -> None:
    model = onnx.load(job.model)
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [None, 2]))
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(Unfit, match=r"ethics\.model-input-kind"):
        evaluate.evaluate(with_model(job, tmp_path / "two.onnx"))


def test_a_model_without_a_label_is_refused(job: Job, tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["features"], ["probabilities"])]
    model = save(tmp_path / "m.onnx", nodes, outputs=[("probabilities", TensorProto.FLOAT, [None, 2])])
    with pytest.raises(Unfit, match=r"ethics\.model-output-kind"):
        evaluate.evaluate(with_model(job, model))


def test_outputs_of_another_shape_are_refused(job: Job, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Concat", ["features", "features"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["features"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [("label", TensorProto.INT64, [None]), ("probabilities", TensorProto.FLOAT, [None, 4])]
    with pytest.raises(Unfit, match=r"ethics\.model-output-shape"):
        evaluate.evaluate(with_model(job, save(tmp_path / "m.onnx", nodes, outputs=outputs)))


def test_labels_other_than_0_and_1_are_refused(job: Job, tmp_path: Path) -> None:
    model = onnx.load(job.model)
    model.graph.node[2].output[0] = "place"
    model.graph.initializer.append(constant("three", 3, np.int64))
    model.graph.node.append(helper.make_node("Add", ["place", "three"], ["label"]))
    onnx.save(model, tmp_path / "three.onnx")
    with pytest.raises(Unfit, match=r"ethics\.model-labels-not-binary"):
        evaluate.evaluate(with_model(job, tmp_path / "three.onnx"))


@pytest.mark.long
def test_a_model_that_wants_all_memory_is_refused(job: Job, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["features"], ["small"]),
        helper.make_node("Mul", ["small", "factor"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["much"]),  # 30 * 2**15 * 2 * 2**15 zeros: 240 GiB
        helper.make_node("ReduceSum", ["much"], ["zero"], keepdims=0),
        helper.make_node("Add", ["features", "zero"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    model = save(tmp_path / "m.onnx", nodes, initializers=(constant("factor", 1 << 15, np.int64),))
    with pytest.raises(Refused, match=r"ethics\.evaluation-out-of-memory"):
        run_evaluation(with_model(job, model))


def endless(path: Path) -> Path:
    """A model that counts to 2**60 before it answers."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["value"], ["value_on"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 2]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_on", TensorProto.FLOAT, [None, 2]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "go_first", "features"], ["probabilities"], body=body),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    return save(path, nodes, initializers=(constant("turns", 1 << 60, np.int64), constant("go_first", True, np.bool_)))


@pytest.mark.heavy
def test_a_model_that_never_answers_is_ended_at_the_timeout(job: Job, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"ethics\.evaluation-timeout"):
        run_evaluation(with_model(job, endless(tmp_path / "m.onnx")), timeout_seconds=2)
    assert time.monotonic() - started < 6


def test_a_model_that_crashes_the_process_is_refused(job: Job, tmp_path: Path) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            run_evaluation(with_model(job, endless(tmp_path / "m.onnx")), timeout_seconds=30)
        except BaseException as error:
            caught.append(error)

    def children() -> list[int]:
        found = []
        for task in Path("/proc/self/task").iterdir():
            found += (task / "children").read_text().split()
        return [int(pid) for pid in found if evaluate.__file__ in Path(f"/proc/{pid}/cmdline").read_text()]

    thread = threading.Thread(target=run)
    thread.start()
    while not (pids := children()):
        time.sleep(0.02)
    os.kill(pids[0], signal.SIGSEGV)
    thread.join(timeout=20)
    assert isinstance(caught[0], Refused) and caught[0].code == "ethics.model-crashes"
    assert caught[0].params == {"signal": "SIGSEGV"}


def test_a_file_that_is_not_there_is_our_fault(job: Job, tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"ethics\.evaluation-failed"):
        run_evaluation(with_model(job, tmp_path / "missing.onnx"))


# ---- refusals about the data


@pytest.mark.parametrize(
    ("rows", "header", "code"),
    [
        (thirty_rows(), ("a", "c", "y"), "ethics.data-column-missing"),
        (thirty_rows()[:29], ("a", "b", "y"), "ethics.data-too-small"),
        ([*thirty_rows(), ("nan", 1, 0)], ("a", "b", "y"), "ethics.data-not-a-number"),
        ([*thirty_rows(), ("high", 1, 0)], ("a", "b", "y"), "ethics.data-not-a-number"),
        ([*thirty_rows(), (0.5,)], ("a", "b", "y"), "ethics.data-not-a-number"),
        ([*thirty_rows(), (0.5, 1, 2)], ("a", "b", "y"), "ethics.data-labels-not-binary"),
        ([(a, b, 1) for a, b, _ in thirty_rows()], ("a", "b", "y"), "ethics.data-one-class"),
        ([(a, 1, y) for a, _, y in thirty_rows()], ("a", "b", "y"), "ethics.subgroup-without-spread"),
    ],
)
def test_data_that_cannot_be_used_are_refused(job: Job, rows: list, header: tuple[str, ...], code: str) -> None:
    with pytest.raises(Unfit) as caught:
        evaluate.evaluate(with_rows(job, rows, header))
    assert caught.value.code == code


def test_data_that_are_not_csv_are_refused(job: Job) -> None:
    Path(job.data).write_bytes(b"a,b,y\n\xff\xfe,1,0\n")
    with pytest.raises(Unfit, match=r"ethics\.data-not-csv"):
        evaluate.evaluate(job)


def test_too_many_records_are_refused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "MAXIMUM_RECORDS", 29)
    with pytest.raises(Unfit, match=r"ethics\.data-too-large"):
        evaluate.evaluate(job)


def test_an_unknown_kind_of_subgroup_is_refused(job: Job) -> None:
    with pytest.raises(Unfit, match=r"ethics\.subgroup-kind-unknown"):
        Job.from_json({**job.to_json(), "subgroup": {"column": "b", "kind": "quintiles"}})
