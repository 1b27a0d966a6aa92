"""What an inference request may be: each fault has its name."""

from __future__ import annotations

import orjson
import pytest

from gongqi.kernel.errors import Refused
from gongqi.resources.serving import rules
from gongqi.resources.serving.rules import FREE, Port, Ports

PORTS = Ports((Port("features", "FP32", (FREE, 2)),), (Port("label", "INT64", (FREE,)),))


def tensor(**more):
    return {"name": "features", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]} | more


def parse(document):
    return rules.parse_request(document if isinstance(document, bytes) else orjson.dumps(document))


def literal(data):
    """A request whose data are written as they stand, for what no writer of JSON should write."""
    return b'{"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": ' + data + b"}]}"


def fault(document, ports=PORTS):
    with pytest.raises(Refused) as caught:
        rules.fit(parse(document), ports)
    return caught.value.code


def test_flat_and_nested_data_are_the_same_tensor():
    flat = parse({"inputs": [tensor()]}).inputs[0]
    assert parse({"inputs": [tensor(data=[[1, 2.5], [3, 4]])]}).inputs[0] == flat
    assert rules.fit(parse({"inputs": [tensor()]}), PORTS) == 2


def test_deeper_nesting_is_read_row_by_row():
    data = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    read = parse({"inputs": [tensor(shape=[2, 2, 2], datatype="INT32", data=data)]}).inputs[0]
    assert list(read.values) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (b"", "serving.request-malformed"),
        (b"[1]", "serving.request-malformed"),
        (b"{", "serving.request-malformed"),
        ({}, "serving.request-malformed"),
        ({"inputs": []}, "serving.request-malformed"),
        ({"inputs": [tensor()] * 33}, "serving.request-malformed"),
        ({"inputs": [tensor()], "input": 1}, "serving.request-malformed"),
        ({"inputs": [tensor(extra=1)]}, "serving.request-malformed"),
        ({"inputs": [tensor(name="")]}, "serving.request-malformed"),
        ({"inputs": [tensor(name="a\0b")]}, "serving.request-malformed"),
        ({"inputs": [tensor()], "id": 7}, "serving.request-malformed"),
        ({"inputs": [tensor()], "parameters": {"org": 7}}, "serving.request-malformed"),
        ({"inputs": [tensor(data="x")]}, "serving.request-malformed"),
        (literal(b"[NaN]"), "serving.number-not-finite"),
        (literal(b"[1,-Infinity]"), "serving.number-not-finite"),
        (literal(b"[1e400]"), "serving.number-not-finite"),
        ({"inputs": [tensor(datatype="FP16")]}, "serving.datatype-unknown"),
        ({"inputs": [tensor(data=[1, 2, 3, "4"])]}, "serving.data-mistyped"),
        ({"inputs": [tensor(data=[1, 2, 3, True])]}, "serving.data-mistyped"),
        ({"inputs": [tensor(data=[1, 2, 3, None])]}, "serving.data-mistyped"),
        ({"inputs": [tensor(datatype="INT64", data=[1, 2, 3, 4.5])]}, "serving.data-mistyped"),
        ({"inputs": [tensor(datatype="BOOL", data=[0, 1, 0, 1])]}, "serving.data-mistyped"),
        ({"inputs": [tensor(datatype="INT8", data=[1, 2, 3, 128])]}, "serving.number-out-of-range"),
        ({"inputs": [tensor(datatype="UINT8", data=[1, 2, 3, -1])]}, "serving.number-out-of-range"),
        ({"inputs": [tensor(data=[1, 2, 3, 1e39])]}, "serving.number-out-of-range"),
        ({"inputs": [tensor(shape=[2, -2])]}, "serving.shape-invalid"),
        ({"inputs": [tensor(shape=[2, 2.0])]}, "serving.shape-invalid"),
        ({"inputs": [tensor(shape=[1] * 9)]}, "serving.shape-invalid"),
        ({"inputs": [tensor(data=[[1, 2, 3], [4]])]}, "serving.shape-invalid"),
        ({"inputs": [tensor(data=[[1, 2], 3, 4])]}, "serving.shape-invalid"),
        ({"inputs": [tensor(shape=[], data=[[1]])]}, "serving.shape-invalid"),
        ({"inputs": [tensor(data=[[1, 2], [3, 4], [5, 6]])]}, "serving.element-count"),
        ({"inputs": [tensor(data=[1, 2, 3])]}, "serving.element-count"),
        ({"inputs": [tensor(), tensor()]}, "serving.input-twice"),
        ({"inputs": [tensor(name="other")]}, "serving.input-unknown"),
        ({"inputs": [tensor(), tensor(name="other")]}, "serving.input-unknown"),
        ({"inputs": [tensor(datatype="FP64")]}, "serving.datatype-differs"),
        ({"inputs": [tensor(datatype="BYTES", data=["a", "b", "c", "d"])]}, "serving.datatype-differs"),
        ({"inputs": [tensor(shape=[1, 4])]}, "serving.shape-differs"),
        ({"inputs": [tensor(shape=[4])]}, "serving.shape-differs"),
        ({"inputs": [tensor(shape=[0, 2], data=[])]}, "serving.rows-out-of-range"),
        ({"inputs": [tensor(shape=[10_001, 2], data=[0] * 20_002)]}, "serving.rows-out-of-range"),
        ({"inputs": [tensor()], "outputs": [{"name": "nothing"}]}, "serving.output-unknown"),
    ],
)  # fmt: skip
def test_each_fault_has_its_name(given, code):
    assert fault(given) == code


def test_a_missing_input_and_differing_rows_are_named():
    two = Ports((*PORTS.inputs, Port("age", "INT64", (FREE,))), PORTS.outputs)
    assert fault({"inputs": [tensor()]}, two) == "serving.input-missing"
    three = {"name": "age", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]}
    assert fault({"inputs": [tensor(), three]}, two) == "serving.rows-differ"


def test_a_model_without_a_free_dimension_answers_one_row():
    fixed = Ports((Port("features", "FP32", (2, 2)),), PORTS.outputs)
    assert rules.fit(parse({"inputs": [tensor()]}), fixed) == 1


def test_a_budget_counts_what_is_spent_and_what_is_reserved():
    rules.check_budget(limit=10, spent=4, reserved=3, fee=3)
    with pytest.raises(Refused, match=r"budget-exceeded"):
        rules.check_budget(limit=10, spent=4, reserved=3, fee=4)
    with pytest.raises(Refused, match=r"budget-exceeded"):
        rules.check_budget(limit=1, spent=4, reserved=0, fee=1)
