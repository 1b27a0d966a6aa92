"""Artefact safety: each trick by name, and the honest files beside them that must pass."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save

from gongqi.kernel.words import Words
from gongqi.resources.hub import formats, safety
from gongqi.resources.hub.formats import archives, graphs, tensors

WORDS = Path(safety.__file__).with_name("words.toml")


def inspect(content: bytes, path: str = "file.bin", siblings: frozenset[str] = frozenset()) -> list[safety.Finding]:
    return safety.inspect(path, io.BytesIO(content), len(content), siblings)


def codes(content: bytes, path: str = "file.bin", siblings: frozenset[str] = frozenset()) -> list[str]:
    """The codes found, after checking that each has words whose every parameter is given."""
    words = Words()
    words.load(WORDS)
    found = inspect(content, path, siblings)
    for finding in found:
        if finding.severity == "refuse":
            for language in ("zh", "en"):
                _, message, remedy = words.error(finding.refusal(), language)
                assert "{" not in message + remedy, message + remedy
                assert finding.path in message
                if flaw := finding.params.get("flaw"):
                    assert f": {flaw}." not in message and f"：{flaw}。" not in message, "a flaw is worded"
    return [finding.code for finding in found]


class Calls:
    def __reduce__(self):
        return (print, ("never",))


# --- pickle --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value", [None, 1, "x", [1, 2], {"a": b"b"}, Calls(), (), 2.5, np.arange(3)], ids=lambda v: type(v).__name__
)
def test_a_pickle_of_any_protocol_is_refused(protocol, value):
    assert codes(pickle.dumps(value, protocol)) == ["hub.pickle"]


def test_a_pickle_stays_one_under_an_innocent_name():
    assert codes(pickle.dumps(Calls()), "model.onnx") == ["hub.pickle"]
    assert codes(pickle.dumps(Calls(), 0), "notes.txt") == ["hub.pickle"]


def test_a_pickle_broken_after_its_call_is_refused():
    """It has run by the time the reader notices that the end is missing."""
    assert codes(b"cos\nsystem\n(S'true'\ntR\xffgarbage") == ["hub.pickle"]
    assert codes(pickle.dumps(Calls(), 4)[:-1] + b"\xff\xff") == ["hub.pickle"]


def test_a_pickle_followed_by_other_bytes_is_refused():
    assert codes(pickle.dumps(Calls(), 0) + b"\nand so on\n") == ["hub.pickle"]


def test_a_pickle_that_only_the_c_reader_understands_is_refused():
    evasion = b"I0x10\n0" + pickle.dumps(Calls(), 0)
    assert pickle.loads(b"I0x10\n.") == 16  # noqa: S301 - our own bytes: this is what the law is about
    assert codes(evasion + b"\n") == ["hub.pickle"]


def test_a_pickle_without_its_protocol_header_is_refused():
    assert codes(pickle.dumps(Calls(), 4)[2:]) == ["hub.pickle"]


def test_a_name_that_promises_a_pickle_is_refused_whatever_it_holds():
    assert codes(b"hello", "model.pt") == ["hub.pickle"]


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nbird\nibis\n",
        "class,id\n1,2\n",
        "N. Wirth\n",
        "I. Introduction\n",
        "K1\n",
        "(a) one\n",
        "]\n",
        "\n",
        "",
    ],
)
def test_ordinary_text_that_begins_with_opcodes_passes(text):
    assert codes(text.encode(), "words.txt") == []


def test_a_claimed_argument_of_exabytes_is_not_read():
    assert codes(b"\x8e" + b"\xff" * 8 + b"x") == ["hub.content-unrecognised"]


def test_an_array_of_objects_is_a_pickle():
    file = io.BytesIO()
    np.save(file, np.array([Calls()], dtype=object), allow_pickle=True)
    assert codes(file.getvalue(), "a.npy") == ["hub.pickle"]
    file = io.BytesIO()
    np.savez(file, a=np.array([{}], dtype=object))
    assert codes(file.getvalue(), "a.npz") == ["hub.pickle"]


def test_an_array_of_numbers_passes():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.eye(3), b=np.array([("x", 1)], dtype=[("n", "U4"), ("i", "<i8")]))
    assert codes(file.getvalue(), "a.npz") == []


@pytest.mark.parametrize("header", [b"\x01\x00\x76\x00{'descr': '<f8'", b"\x09\x00\x00", b"\x01\x00\xff\xff", b"\x01"])
def test_an_array_with_a_broken_header_is_refused(header):
    assert codes(tensors.NUMPY_MAGIC + header, "a.npy") == ["hub.numpy-malformed"]


# --- archives ------------------------------------------------------------------------------------------------------


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


PICKLE = pickle.dumps({"a": Calls()})


def test_honest_archives_pass():
    members = {"data/a.csv": b"a,b\n1,2\n" * 1000, "data/b.csv": b""}
    assert codes(zipped(members), "d.zip") == []
    assert codes(tarred(*members.items()), "d.tar") == []
    assert codes(gzip.compress(tarred(*members.items())), "d.tar.gz") == []
    assert codes(zipped({"scan.nii.gz": gzip.compress(b"text")}), "scans.zip") == []


def test_a_pickle_inside_an_archive_is_found_and_named():
    found = inspect(zipped({"archive/data.pkl": PICKLE}), "model.bin")
    assert [(f.code, f.path) for f in found] == [("hub.pickle", "model.bin!archive/data.pkl")]
    assert codes(tarred(("x.txt", PICKLE)), "x.tar") == ["hub.pickle"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_a_compressed_pickle_is_found(pack):
    assert codes(pack(PICKLE), "model.bin") == ["hub.pickle"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_streams_end_to_end_are_read_to_the_end(pack):
    assert set(codes(pack(b"a" * 100) + pack(safety.EICAR * 2), "x.gz")) == {"hub.malware"}


def test_bytes_after_the_end_of_a_stream_are_refused():
    assert codes(zlib.compress(b"a") + b"rest") == ["hub.archive-malformed"]
    assert codes(gzip.compress(b"a") + b"rest") == ["hub.archive-malformed"]
    assert codes(gzip.compress(b"a") + bytes(512)) == []


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, lambda data: zipped({"a": data})])
def test_a_bomb_is_refused_before_it_is_unpacked(pack):
    assert codes(pack(bytes(30 << 20))) == ["hub.archive-bomb"]


def test_a_bomb_inside_an_archive_stops_the_whole_archive():
    bomb = gzip.compress(bytes(9 << 20))  # each below the floor by itself
    found = codes(zipped({f"{n}.gz": bomb for n in range(50)}, zipfile.ZIP_STORED))
    assert found[-1] == "hub.archive-bomb"
    assert len(found) < 20


def test_too_many_members_are_a_bomb(monkeypatch):
    monkeypatch.setattr(archives, "MEMBER_COUNT_LIMIT", 3)
    assert codes(zipped({str(n): b"" for n in range(4)})) == ["hub.archive-bomb"]
    assert codes(tarred(*[(str(n), b"") for n in range(4)])) == ["hub.archive-bomb"]


def test_a_directory_larger_than_the_read_limit_is_not_loaded(monkeypatch):
    monkeypatch.setattr(formats, "READ_LIMIT_BYTES", 100)
    assert codes(zipped({f"member-{n}": b"" for n in range(10)})) == ["hub.archive-malformed"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a\\b", "C:/x", "a\x01b"])
def test_a_member_that_would_leave_the_folder_is_refused(name):
    assert codes(zipped({name: b"x"})) == ["hub.archive-path"]
    assert codes(tarred((name, b"x"))) == ["hub.archive-path"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind):
    member = tarfile.TarInfo("x")
    member.type, member.linkname = kind, "/etc/passwd"
    assert codes(tarred(member), "x.tar") == ["hub.archive-link"]


def test_a_symlink_in_a_zip_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("x")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert codes(file.getvalue()) == ["hub.archive-link"]


def test_two_members_of_one_name_are_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "good")
        archive.writestr("A.TXT", "evil")
    assert codes(file.getvalue()) == ["hub.archive-twin"]


def test_an_encrypted_member_is_refused():
    content = bytearray(zipped({"a": b"x"}, zipfile.ZIP_STORED))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert codes(bytes(content)) == ["hub.archive-unreadable"]


def test_a_member_with_an_unusual_compression_is_refused():
    assert codes(zipped({"a": b"x" * 99}, zipfile.ZIP_LZMA)) == ["hub.archive-unreadable"]


def test_an_archive_in_an_archive_is_refused():
    assert codes(zipped({"a.zip": zipped({"b": b"x"})})) == ["hub.archive-nested"]
    assert codes(gzip.compress(gzip.compress(b"x"))) == ["hub.archive-nested"]


def test_a_zip_hidden_behind_other_content_is_refused():
    assert codes(b"# A harmless text\n" + zipped({"a": b"x"}), "README.md") == ["hub.archive-disguised"]
    assert codes(save({"a": np.zeros(2)}) + zipped({"p": PICKLE})) == ["hub.archive-disguised", "hub.pickle"]


def test_a_truncated_archive_is_refused():
    assert codes(zipped({"a": b"x" * 99})[:-30]) == ["hub.archive-malformed"]
    assert codes(gzip.compress(b"x" * 99)[:-4]) == ["hub.archive-malformed"]
    assert codes(tarred(("a", b"x" * 5000))[:3000]) == ["hub.archive-malformed"]


def test_a_member_whose_checksum_is_wrong_is_refused():
    content = zipped({"a": b"hello"}, zipfile.ZIP_STORED)
    assert codes(content.replace(b"hello", b"jello")) == ["hub.archive-malformed"]


@pytest.mark.parametrize("magic", list(archives.OPAQUE))
def test_an_archive_that_cannot_be_opened_here_is_refused(magic):
    assert codes(magic + bytes(100)) == ["hub.archive-opaque"]


# --- programs, malware, secrets --------------------------------------------------------------------------------------


def portable_executable() -> bytes:
    return b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\x00\x00" + bytes(50)


@pytest.mark.parametrize("content", [magic + bytes(60) for magic in safety.PROGRAMS] + [portable_executable()])
def test_a_program_is_refused_under_any_name(content):
    assert codes(content, "weights.safetensors") == ["hub.program"]


@pytest.mark.parametrize("path", ["a/__pycache__/x.pyc", "saved_model.pb", "m.keras"])
def test_a_name_that_promises_a_program_is_refused(path):
    assert codes(b"x", path) == ["hub.program"]


def test_a_keras_model_in_hdf5_is_refused_and_plain_hdf5_passes():
    assert codes(safety.HDF5_MAGIC + bytes(100) + b"keras_version") == ["hub.program"]
    assert codes(safety.HDF5_MAGIC + bytes(100)) == []


def test_the_eicar_string_is_found_with_its_offset():
    assert [(f.code, f.offset) for f in inspect(b"x" * 10 + safety.EICAR)] == [("hub.malware", 10)]
    at = safety.CHUNK_BYTES - 5
    assert [f.offset for f in inspect(b"x" * at + safety.EICAR)] == [at], "across two chunks"


@pytest.mark.parametrize("pack", [lambda data: zipped({"a/b.txt": data}), lambda data: tarred(("b.txt", data))])
def test_the_eicar_string_is_found_inside_an_archive_and_inside_a_stream_in_it(pack):
    assert codes(zipped({"a.txt": safety.EICAR}, zipfile.ZIP_DEFLATED)) == ["hub.malware"]
    assert "hub.malware" in codes(pack(safety.EICAR))
    assert "hub.malware" in codes(gzip.compress(pack(b"x" * 300 + safety.EICAR)))


SECRETS = {
    "private-key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "AWS": "AKIA" + "Q" * 16,
    "Alibaba Cloud": "LTAI5t" + "a1" * 9,
    "Anthropic": "sk-ant-" + "api03-" + "a" * 93 + "AA",
    "GitHub": "ghp_" + "a" * 36,
    "GitLab": "glpat-" + "a" * 20,
    "Gongqi": "gq_" + "a1" * 12,
    "Google Cloud": "AIza" + "a" * 35,
    "Hugging Face": "hf_" + "a" * 34,
    "npm": "npm_" + "a" * 36,
    "OpenAI": "sk-proj-" + "a" * 74 + "T3BlbkFJ" + "b" * 74,
    "PyPI": "pypi-AgE" + "a" * 100,
    "Slack": "xoxb-" + "1" * 12 + "-" + "1" * 12 + "-" + "a" * 24,
    "Stripe": "sk_live_" + "a" * 24,
}


def test_every_kind_of_secret_has_its_example():
    assert set(SECRETS) == set(safety.SECRETS)


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
def test_a_secret_in_text_is_found_by_line_and_never_repeated(kind, secret):
    found = inspect(f"one\ntwo\nkey = '{secret}'\n".encode(), "config.json")
    assert [(f.code, dict(f.params)) for f in found] == [("hub.secret", {"kind": kind, "line": 3})]
    assert secret not in str(found[0]) + str(found[0].refusal())


def test_a_secret_far_into_a_file_is_found_once_on_the_right_line():
    text = "a line of text\n" * (safety.CHUNK_BYTES // 15) + "tail " + SECRETS["Gongqi"]
    found = inspect(text.encode())
    assert [f.params["line"] for f in found] == [safety.CHUNK_BYTES // 15 + 1]


def test_the_number_of_findings_in_one_file_is_bounded():
    assert len(inspect((SECRETS["AWS"] + "\n").encode() * 1000)) == safety.FINDING_LIMIT


def test_the_key_of_the_amazon_manual_is_not_a_secret():
    assert codes(b"key: AKIAIOSFODNN7EXAMPLE\n") == []


def test_a_truncated_upload_is_named():
    found = safety.inspect("a", io.BytesIO(b"12345"), 9, frozenset())
    assert [(f.code, dict(f.params)) for f in found] == [("hub.upload-truncated", {"want_bytes": 9, "got_bytes": 5})]


def test_an_unknown_binary_is_warned_about_but_not_refused():
    assert [(f.code, f.severity) for f in inspect(b"\x00\x01\x02\x03" * 9)] == [("hub.content-unrecognised", "warn")]


# --- safetensors, GGUF -----------------------------------------------------------------------------------------------

GOOD = save({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, dtype=np.int64)}, {"format": "np"})


def tensors_file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, dtype: str = "U8", shape: list | None = None) -> dict:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def test_a_file_of_the_reference_writer_passes():
    assert codes(GOOD, "model.safetensors") == []
    assert codes(tensors_file({"a": entry(0, 3, "F4", [6])}, b"abc"), "x.safetensors") == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        (1 << 60).to_bytes(8, "little") + b"{}",
        tensors_file({"a": entry(0, 2)}, b"abc"),
        tensors_file({"a": entry(1, 3)}, b"abc"),
        tensors_file({"a": entry(0, 2), "b": entry(1, 3)}, b"abc"),
        tensors_file({"a": entry(0, 1), "b": entry(2, 3)}, b"abc"),
        tensors_file({"a": entry(0, 4)}, b"abc"),
        tensors_file({"a": entry(0, 3, "F32")}, b"abc"),
        tensors_file({"a": entry(0, 3, "X9")}, b"abc"),
        tensors_file({"a": entry(0, 3, "U8", [-3])}, b"abc"),
        tensors_file({"a": entry(0, 3, "U8", [True, 3])}, b"abc"),
        tensors_file({"a": entry(0, 1, "U8", [1 << 70])}, b"a"),
        tensors_file({"a": {**entry(0, 3), "code": "x"}}, b"abc"),
        tensors_file({"a": 3}),
        tensors_file({"__metadata__": {"a": 1}}),
        tensors_file(b'{"a":1,"a":1}'),
        tensors_file(b'{"a":NaN}'),
        tensors_file(b"{" * 5000),
        tensors_file(b"{" + b'"a":[' * 5000),
        tensors_file(b"[1, 2]"),
        tensors_file(b'{"\xff": 1}'),
    ],
)
def test_a_safetensors_file_that_breaks_its_rules_is_refused(content):
    assert codes(content, "model.safetensors") == ["hub.safetensors-malformed"]


def test_a_header_beyond_its_limit_is_not_parsed(monkeypatch):
    monkeypatch.setattr(tensors, "SAFETENSORS_HEADER_LIMIT_BYTES", 10)
    assert inspect(GOOD)[0].params["flaw"] == "header-too-long"


def gguf(body: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<I", version) + body


def text_field(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text_field(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, *extents: int, kind: int = 0, offset: int = 0) -> bytes:
    return text_field(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, kind, offset)


def gguf_file(pairs: list[bytes] = [], tensors: list[bytes] = [], data: int = 0, alignment: int = 32) -> bytes:  # noqa: B006
    header = gguf(struct.pack("<QQ", len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors))
    return header + bytes(-len(header) % alignment) + bytes(data)


def test_a_gguf_header_is_walked():
    words = struct.pack("<IQ", 8, 2) + text_field(b"a") + text_field(b"b")
    scores = struct.pack("<IQ", 6, 3) + bytes(12)
    pairs = [
        pair(b"general.name", 8, text_field(b"tiny")), pair(b"tokens", 9, words), pair(b"scores", 9, scores),
        pair(b"add_bos", 7, b"\x01"), pair(b"general.alignment", 4, struct.pack("<I", 64)),
    ]  # fmt: skip
    tensors = [tensor(b"w", 4, 2), tensor(b"q", 32, 3, kind=2, offset=64), tensor(b"new", 7, kind=999, offset=128)]
    assert codes(gguf_file(pairs, tensors, data=192, alignment=64)) == []


def test_a_large_vocabulary_is_walked_and_not_counted_away():
    """512k tokens with their scores and types: the numbers are passed over as one, only the texts are walked."""
    count = 512_000
    words = struct.pack("<IQ", 8, count) + text_field(b"ab") * count
    numbers = struct.pack("<IQ", 6, count) + bytes(4 * count)
    assert codes(gguf_file([pair(b"tokens", 9, words), pair(b"scores", 9, numbers), pair(b"types", 9, numbers)])) == []


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (gguf(b"", 1), "version-unknown"),
        (gguf(b""), "cut-short"),
        (gguf(struct.pack("<QQ", 1 << 60, 0)), "too-many-parts"),
        (gguf(struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1 << 60)), "text-too-long"),
        (gguf(struct.pack("<QQ", 0, 1) + struct.pack("<Q", 50) + b"short"), "field-past-end"),
        (gguf_file([pair(b"a", 99, b"")]), "value-type-unknown"),
        (gguf_file([pair(b"a", 9, struct.pack("<IQ", 9, 1))]), "value-type-unknown"),
        (gguf_file([pair(b"a", 9, struct.pack("<IQ", 6, 1 << 61))]), "field-past-end"),
        (gguf_file([pair(b"a", 9, struct.pack("<IQ", 8, 1 << 40))]), "too-many-parts"),
        (gguf_file([pair(b"a", 8, struct.pack("<Q", 1 << 40))]), "text-too-long"),
        (gguf_file([pair(b"a", 7, b"\x02")]), "value-type-unknown"),
        (gguf_file([pair(b"a", 0, b"1"), pair(b"a", 0, b"2")]), "key-twice"),
        (gguf_file([pair(b"general.alignment", 4, bytes(4))]), "alignment-impossible"),
        (gguf_file([pair(b"general.alignment", 4, struct.pack("<I", 12))]), "alignment-impossible"),
        (gguf(struct.pack("<QQ", 1, 0) + text_field(b"w") + struct.pack("<I", 1000)), "tensor-rank"),
        (gguf_file([], [tensor(b"w" * 65, 1)], 32), "text-too-long"),
        (gguf_file([], [tensor(b"w", 1), tensor(b"w", 1, offset=32)], 64), "tensor-twice"),
        (gguf_file([], [tensor(b"w", 1, offset=4)], 64), "tensor-unaligned"),
        (gguf_file([], [tensor(b"w", 1 << 32, 1 << 32)], 64), "tensor-impossible"),
        (gguf_file([], [tensor(b"w", 33, kind=2)], 64), "tensor-impossible"),
        (gguf_file([], [tensor(b"w", 17)], 64), "tensor-past-end"),
        (gguf_file([], [tensor(b"w", 1, kind=999, offset=1 << 40)], 64), "tensor-past-end"),
    ],
)
def test_a_gguf_file_that_breaks_its_rules_is_refused(content, flaw):
    assert codes(content) == ["hub.gguf-malformed"]
    assert inspect(content)[0].params["flaw"] == flaw


# --- ONNX ------------------------------------------------------------------------------------------------------------


def model(*nodes: onnx.NodeProto, initializers: list[TensorProto] | None = None, **kwargs) -> onnx.ModelProto:
    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph(list(nodes) or [helper.make_node("Relu", ["x"], ["y"])], "g", [one], [out], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **kwargs)


def external(**entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def with_external(**entries: str) -> bytes:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return model(node, initializers=[external(**entries)]).SerializeToString()


def test_a_sound_graph_passes_and_is_known_by_its_content():
    content = model().SerializeToString()
    assert codes(content, "model.onnx") == []
    assert codes(content, "renamed.bin") == []


@pytest.mark.heavy
def test_a_classifier_exported_from_scikit_learn_passes():
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    features = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    forest = RandomForestClassifier(5, random_state=1).fit(features, features[:, 0] > 0)
    assert codes(to_onnx(forest, features).SerializeToString(), "model.onnx") == []


def test_external_data_beside_the_model_passes():
    siblings = frozenset({"m/model.onnx", "m/weights.bin"})
    content = with_external(location="weights.bin", offset="0", length="8")
    assert codes(content, "m/model.onnx", siblings) == []


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../weights.bin"},
        {"location": "/etc/passwd"},
        {"location": "a/../../weights.bin"},
        {"location": "..\\weights.bin"},
        {"location": ""},
        {},
        {"location": "weights.bin", "basepath": "/etc"},
        {"location": "weights.bin", "offset": "-1"},
        {"location": "weights.bin", "length": "9" * 30},
    ],
)
def test_external_data_outside_the_asset_is_refused(entries):
    assert codes(with_external(**entries), "model.onnx", frozenset({"weights.bin"})) == ["hub.onnx-external-outside"]


def test_external_data_named_twice_is_refused():
    tensor = external(location="weights.bin")
    tensor.external_data.add(key="location", value="other.bin")
    content = model(helper.make_node("Add", ["x", "w"], ["y"]), initializers=[tensor]).SerializeToString()
    assert codes(content, "model.onnx", frozenset({"weights.bin"})) == ["hub.onnx-external-outside"]


def test_external_data_that_was_not_uploaded_is_refused():
    assert codes(with_external(location="weights.bin"), "model.onnx") == ["hub.onnx-external-missing"]


def test_external_data_hidden_in_an_attribute_of_a_subgraph_is_found():
    constant = helper.make_node("Constant", [], ["c"], value=external(location="../x"))
    branch = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [2])])
    condition = helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["k"], ["y"], then_branch=branch, else_branch=branch)
    content = model(condition, choice).SerializeToString()
    assert codes(content, "model.onnx") == ["hub.onnx-external-outside"]


def test_an_operator_of_an_unknown_domain_is_refused():
    found = inspect(model(helper.make_node("Run", ["x"], ["y"], domain="evil.ops")).SerializeToString(), "m.onnx")
    assert [(f.code, f.params["operator"]) for f in found] == [("hub.onnx-operator-unknown", "evil.ops::Run")]


def test_an_operator_defined_as_a_function_in_the_model_passes():
    body = [helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function("my.ops", "Soft", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    built = model(helper.make_node("Soft", ["x"], ["y"], domain="my.ops"), functions=[function])
    built.opset_import.add(domain="my.ops", version=1)
    assert codes(built.SerializeToString(), "m.onnx") == []


def test_a_graph_that_carries_a_compiled_program_is_refused():
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="../x.bin")
    assert codes(model(node).SerializeToString(), "m.onnx") == ["hub.onnx-compiled"]


@pytest.mark.parametrize("content", [b"", b"\x08\x08", b"not a protobuf", b"\xff" * 50, b"\x08\x08\x3a\x7f"])
def test_a_broken_graph_is_refused_under_its_name(content):
    assert codes(content, "model.onnx") == ["hub.onnx-malformed"]


def test_a_graph_with_a_dangling_input_is_refused():
    assert codes(model(helper.make_node("Relu", ["nowhere"], ["y"])).SerializeToString()) == ["hub.onnx-malformed"]


def test_a_graph_beyond_its_limits_is_refused_before_it_is_parsed(monkeypatch):
    content = model(*[helper.make_node("Relu", ["x"], [f"y{n}"]) for n in range(20)]).SerializeToString()
    for name, limit in (("MESSAGE_LIMIT", 10), ("FIELD_LIMIT", 50), ("DEPTH_LIMIT", 2), ("ONNX_SIZE_LIMIT_BYTES", 99)):
        with monkeypatch.context() as patch:
            patch.setattr(graphs, name, limit)
            assert codes(content, "model.onnx") == ["hub.onnx-too-large"]


def test_a_model_is_recognised_by_the_very_fields_that_onnx_defines():
    fields = onnx.ModelProto.DESCRIPTOR.fields_by_number
    assert {
        number: 0 if field.type == field.TYPE_INT64 else 2 for number, field in fields.items()
    } == graphs.MODEL_FIELDS
    assert (fields[graphs.IR_VERSION].name, fields[graphs.GRAPH].name) == ("ir_version", "graph")
