"""Laws of artefact inspection, for which the machine looks for counter-examples.

1. Any bytes, and any mutation of a valid file, are answered with findings: no exception, no hang.
2. Every pickle of every protocol is refused: bare, headerless, compressed, or in an archive.
3. What the reference writers write is not refused.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from onnx import TensorProto, helper
from safetensors.numpy import save

from gongqi.resources.hub import safety

pytestmark = pytest.mark.heavy

LAW = settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.sampled_from(["a.bin", "model.onnx", "m.safetensors", "a.npy", "a.gguf", "x.zip", "x.tar.gz", "README.md"])


def inspect(content: bytes, path: str = "file.bin") -> list[safety.Finding]:
    return safety.inspect(path, io.BytesIO(content), len(content), frozenset({"weights.bin"}))


def refused(content: bytes, path: str = "file.bin") -> set[str]:
    return {finding.code for finding in inspect(content, path) if finding.severity == "refuse"}


class Calls:
    def __reduce__(self):
        return (print, ("never",))


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def graph() -> bytes:
    """A graph with most of what a graph can have: a branch, a function, external data, string tensors."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="weights.bin")
    value = helper.make_tensor_value_info
    branch = helper.make_graph([helper.make_node("Add", ["x", "w"], ["b"])], "b", [], [value("b", 1, [2])])
    condition = helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["k"], ["c"], then_branch=branch, else_branch=branch)
    function = helper.make_function(
        "my.ops", "Soft", ["a"], ["r"], [helper.make_node("Relu", ["a"], ["r"])], [helper.make_opsetid("", 17)]
    )
    call = helper.make_node("Soft", ["c"], ["y"], domain="my.ops")
    words = helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"])
    whole = helper.make_graph(
        [condition, choice, call], "g", [value("x", 1, [2])], [value("y", 1, [2])], [weights, words]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(whole, opset_imports=opsets, functions=[function], ir_version=8).SerializeToString()


def array(*values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


def llama() -> bytes:
    """A GGUF file with each kind of value and a tensor."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    words = text(b"tokens") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"b")
    scores = text(b"scores") + struct.pack("<IIQff", 9, 6, 2, 0, 1)
    name = text(b"general.name") + struct.pack("<I", 8) + text(b"tiny")
    tensor = text(b"w") + struct.pack("<IQQIQ", 2, 32, 2, 2, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + name + words + scores + tensor
    return header + bytes(-len(header) % 32) + bytes(36)


PICKLE = pickle.dumps({"a": [1, Calls(), "b"]}, 2)
CORPUS = [
    graph(),
    save({"w": np.arange(6, dtype=np.float32), "b": np.zeros(2)}),
    zipped("a/b.txt", b"hello " * 50),
    tarred("a/b.txt", b"hello " * 50),
    gzip.compress(b"hello " * 50),
    bz2.compress(b"hello " * 50),
    lzma.compress(b"hello " * 50),
    zlib.compress(b"hello " * 50),
    array(1.0, 2.0),
    pickle.dumps([1, {"a": Calls()}], 0),
    PICKLE,
    b"GGUF\x03\x00\x00\x00" + bytes(7) + b"\x01" + bytes(64),
    llama(),
    b"\x7fELF" + bytes(60),
    b"AKIA" + b"Q" * 16 + b"\n" + safety.EICAR,
]


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid file with a few bytes changed, cut out, doubled or joined to another."""
    content = bytearray(draw(st.sampled_from(CORPUS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["set", "cut", "insert", "repeat", "join"])):
            case "set" if content:
                content[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, draw(st.integers(0, 255))]))
            case "cut":
                del content[at : at + draw(st.integers(1, 40))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=12))
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 60))]
            case _:
                content += draw(st.sampled_from(CORPUS))
    return bytes(content)


@LAW
@given(st.binary(max_size=2000), NAMES)
def test_arbitrary_bytes_are_answered_with_findings(content, path):
    assert all(isinstance(finding, safety.Finding) for finding in inspect(content, path))


@settings(LAW, max_examples=600)
@given(mutations(), NAMES)
def test_mutations_of_valid_files_are_answered_with_findings(content, path):
    assert all(isinstance(finding, safety.Finding) for finding in inspect(content, path))


@pytest.mark.slow
@pytest.mark.timeout(0)
@settings(LAW, max_examples=int(os.environ.get("GONGQI_FUZZ_EXAMPLES") or 50_000))
@given(mutations(), NAMES)
def test_mutations_for_a_long_time(content, path):
    """Minutes by default; GONGQI_FUZZ_EXAMPLES says how many files to try."""
    assert all(isinstance(finding, safety.Finding) for finding in inspect(content, path))


@LAW
@given(mutations())
def test_mutations_inside_an_archive_are_answered_with_findings(content):
    inspect(zipped("model.onnx", content))
    inspect(gzip.compress(tarred("model.safetensors", content)))


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
VALUES = st.recursive(
    ATOMS | st.builds(Calls) | st_numpy.arrays(np.float32, 3) | st.sampled_from([len, Calls, np.float64]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@settings(LAW, max_examples=300)
@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_every_pickle_is_refused(value, protocol):
    content = pickle.dumps(value, protocol)
    assert refused(content) == {"hub.pickle"}
    if protocol >= 2:
        assert refused(content[2:]) == {"hub.pickle"}, "the reader does not insist on the header either"


@LAW
@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL), st.sampled_from([gzip, bz2, lzma, zlib]))
def test_every_packed_pickle_is_refused(value, protocol, packer):
    content = pickle.dumps(value, protocol)
    assert "hub.pickle" in refused(packer.compress(content))
    assert "hub.pickle" in refused(zipped("data.txt", content))
    assert "hub.pickle" in refused(tarred("data.txt", content))


DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_, np.float16])
ARRAYS = DTYPES.flatmap(lambda dtype: st_numpy.arrays(dtype, st_numpy.array_shapes(max_dims=3, max_side=4)))


@LAW
@given(st.dictionaries(st.text(min_size=1, max_size=8), ARRAYS, max_size=5))
def test_what_the_reference_writer_of_safetensors_writes_is_accepted(arrays):
    arrays.pop("__metadata__", None)
    assert refused(save(arrays), "model.safetensors") == set()


@LAW
@given(ARRAYS)
def test_what_numpy_writes_without_objects_is_accepted(values):
    file = io.BytesIO()
    np.savez(file, a=values)
    assert refused(file.getvalue(), "a.npz") == set()


@LAW
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=3))
def test_prose_after_a_heading_is_accepted(text):
    assert refused(f"# Heading\n\n{text}\n".encode(), "README.md") == set()


def test_the_corpus_of_valid_files_is_judged_as_it_should_be():
    """Mutations explore the neighbourhood of these, so these must stand where they are meant to."""
    expected = (
        [set()] * 9
        + [{"hub.pickle"}] * 2
        + [{"hub.gguf-malformed"}, set(), {"hub.program"}, {"hub.secret", "hub.malware"}]
    )
    assert [refused(content) for content in CORPUS] == expected
    assert onnx.ModelProto.FromString(CORPUS[0]).graph.name == "g"
