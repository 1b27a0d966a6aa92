"""Models in memory: the very bytes that were released, only so many, and nothing from the server's own disk."""

from __future__ import annotations

import os

import pytest

from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.resources.serving import engine as engines
from gongqi.resources.serving.engine import Engine
from gongqi.resources.serving.rules import FREE, Port, Tensor


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path / "blobs")


def features(*values):
    return [Tensor("features", "FP32", (len(values) // 2, 2), list(values))]


def test_a_model_says_what_it_takes_and_gives(blobs, sim):
    ports = Engine(blobs).ports(blobs.put(sim.onnx_model()).sha256)
    assert ports.inputs == (Port("features", "FP32", (FREE, 2)),)
    assert ports.outputs == (Port("label", "INT64", (FREE,)), Port("score", "FP32", (FREE,)))


def test_at_most_so_many_models_stay_loaded(blobs, sim, monkeypatch):
    monkeypatch.setattr(engines, "MAX_SESSIONS", 2)
    engine = Engine(blobs)
    digests = [blobs.put(sim.onnx_model(float(bias))).sha256 for bias in range(3)]
    for digest in (digests[0], digests[1], digests[0], digests[2]):
        engine.run(digest, features(1, 1))
    assert list(engine._loaded) == [digests[0], digests[2]]
    monkeypatch.setattr(engines, "MAX_LOADED_BYTES", 1)
    engine.ports(digests[1])
    assert len(engine._loaded) <= 1


def test_altered_bytes_are_not_run(blobs, sim):
    stored = blobs.put(sim.onnx_model())
    path = blobs.path(stored.sha256)
    os.chmod(path, 0o600)
    path.write_bytes(sim.onnx_model(5.0))
    with pytest.raises(Broken, match=r"serving\.model-altered"):
        Engine(blobs).ports(stored.sha256)


def test_what_is_no_model_cannot_be_loaded(blobs):
    with pytest.raises(Refused):
        Engine(blobs).ports(blobs.put(b"not a model").sha256)


def test_a_model_above_the_limit_is_refused_before_it_is_read(blobs, sim, monkeypatch):
    monkeypatch.setattr(engines, "MAX_MODEL_BYTES", 10)
    with pytest.raises(Refused, match=r"serving\.model-too-large"):
        Engine(blobs).ports(blobs.put(sim.onnx_model()).sha256)


def test_a_model_that_points_at_other_files_is_refused(blobs, tmp_path, monkeypatch):
    """Otherwise a file of the server could be read through a model's weights."""
    from onnx import TensorProto, helper

    (tmp_path / "secret.bin").write_bytes(b"\0\0\x80?" * 2)
    monkeypatch.chdir(tmp_path)
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="secret.bin")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(Refused, match=r"serving\.model-unloadable"):
        Engine(blobs).ports(blobs.put(model.SerializeToString()).sha256)


def test_a_run_that_fails_or_answers_infinity_is_a_failure_without_an_answer(blobs, sim):
    engine = Engine(blobs)
    digest = blobs.put(sim.onnx_model()).sha256
    with pytest.raises(Unavailable, match=r"serving\.run-failed"):
        engine.run(digest, [Tensor("features", "FP32", (1, 3), [1, 2, 3])])
    with pytest.raises(Unavailable, match=r"serving\.run-failed"):
        engine.run(digest, features(3e38, 3e38))


def test_a_run_that_takes_too_long_is_stopped(blobs, monkeypatch):
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["sum", "sum"], ["more"]),
            helper.make_node("Mul", ["more", "half"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2]),
        ],
        [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["many", "true", "x"], ["y"], body=body)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [
            helper.make_tensor("many", TensorProto.INT64, [], [2**40]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    digest = blobs.put(model.SerializeToString()).sha256
    monkeypatch.setattr(engines, "RUN_SECONDS", 0.2)
    with pytest.raises(Unavailable, match=r"serving\.run-too-long"):
        Engine(blobs).run(digest, [Tensor("x", "FP32", (2,), [1.0, 2.0])])
