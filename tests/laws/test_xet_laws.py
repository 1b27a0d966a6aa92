"""Laws of the Xet wire format, for which the machine looks for counter-examples.

1. What is cut, packed and described comes back to the byte, whatever the cut, the scheme and the sharing of chunks.
2. Any bytes, and any change of a sound xorb or shard, are read or refused: no other exception.
3. After one changed byte, anywhere, what is handed out is the file that its name says, or nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.kernel.errors import Refused
from gongqi.resources.hub.xet.hashes import Tree, chunk_hash, parse_hash, text_of
from gongqi.resources.hub.xet.rebuild import check, rebuild
from gongqi.resources.hub.xet.shards import TAG, File, parse_shard
from gongqi.resources.hub.xet.xorbs import CHUNK_LIMIT_BYTES, GROUPED_LZ4, LZ4, STORED, read_xorb

pytestmark = pytest.mark.heavy

LAW = settings(max_examples=120, deadline=5000)
SCHEMES = st.sampled_from([STORED, LZ4, GROUPED_LZ4])
PERIODIC = st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=3), st.integers(1, 40_000))
CHUNKS = st.binary(min_size=1, max_size=300) | PERIODIC
VECTORS = Path(__file__).parents[1] / "resources" / "hub" / "xet" / "vectors"
SHARDS = [path.read_bytes() for path in sorted(VECTORS.glob("*.shard"))]
XORBS = {parse_hash(path.stem): path.read_bytes() for path in sorted(VECTORS.glob("*.xorb"))}
SMALL = {name: content for name, content in XORBS.items() if len(content) < 10_000}


def load_client() -> ModuleType:
    if "gongqi_xet" not in sys.modules:
        spec = importlib.util.spec_from_file_location("gongqi_xet", Path(__file__).parents[1] / "sim" / "xet.py")
        assert spec and spec.loader
        sys.modules["gongqi_xet"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["gongqi_xet"])
    return sys.modules["gongqi_xet"]


sim = load_client()
HELD = sim.Held()
for _name, _content in XORBS.items():
    HELD.receive(_name, _content)


def is_what_it_is_called(file: File, content: bytes, held) -> bool:
    """Whether the content has the file's name and SHA-256, the chunks being cut as the shard says."""
    tree, at = Tree(), 0
    for term in file.terms():
        for _, length in held.chunks(term.xorb).nodes(term.start, term.end):
            tree.add((chunk_hash(content[at : at + length]), length))
            at += length
    sha256 = hashlib.sha256(content).hexdigest()
    return at == len(content) == file.raw_bytes and tree.file_hash() == file.name and file.sha256 in (None, sha256)


def handed_out(shard: bytes, held) -> list[tuple[File, bytes]]:
    """What a server would keep of this shard: all of it or nothing. A store of blobs compares the SHA-256."""
    try:
        parsed = parse_shard(shard)
        check(parsed, held)
        made = [(file, b"".join(rebuild(file, held))) for file in parsed.files]
    except Refused:
        return []
    return made if all(file.sha256 in (None, hashlib.sha256(content).hexdigest()) for file, content in made) else []


@LAW
@given(st.data())
def test_what_is_uploaded_comes_back_to_the_byte(data):
    packs = data.draw(st.lists(st.lists(CHUNKS, min_size=1, max_size=12), min_size=1, max_size=3))
    held, pieces = sim.Held(), []
    for chunks in map(tuple, packs):
        content = b"".join(sim.pack(each, data.draw(SCHEMES)) for each in chunks)
        held.receive(sim.name_of(chunks), content)
        pieces += [sim.Piece(chunks, at, end) for at in range(len(chunks)) for end in range(at + 1, len(chunks) + 1)]
    files = data.draw(st.lists(st.lists(st.sampled_from(pieces), max_size=6), max_size=4))
    shard = sim.shard_of(map(sim.file_records, files), map(sim.xorb_records, packs))
    want = [b"".join(raw for piece in file for raw in piece.chunks[piece.start : piece.end]) for file in files]
    assert [content for _, content in handed_out(shard, held)] == want


@LAW
@given(st.binary(max_size=600), st.booleans())
def test_arbitrary_bytes_are_a_shard_or_refused(content, tagged):
    handed_out((TAG + b"\2" + bytes(15) if tagged else b"") + content, HELD)


@LAW
@given(st.binary(max_size=600), st.sampled_from([b"", b"\0\4\0\0\1\4\0\0", b"\0\x20\0\0\2\x10\0\0"]))
def test_arbitrary_bytes_are_refused_as_a_xorb(content, header):
    try:
        xorb = read_xorb(io.BytesIO(header + content), claimed=bytes(32))
    except Refused:
        return
    raise AssertionError(f"{text_of(xorb.name)} was read from bytes that nobody packed")


@settings(LAW, max_examples=400)
@given(st.sampled_from(SHARDS), st.data())
def test_a_changed_byte_of_a_shard_never_yields_a_wrong_file(shard, data):
    changed = bytearray(shard)
    changed[data.draw(st.integers(0, len(shard) - 1))] ^= data.draw(st.integers(1, 255))
    assert all(is_what_it_is_called(file, content, HELD) for file, content in handed_out(bytes(changed), HELD))


@settings(LAW, max_examples=400)
@given(st.sampled_from(SHARDS), st.data())
def test_records_cut_doubled_or_exchanged_never_yield_a_wrong_file(shard, data):
    records = [shard[at : at + 48] for at in range(0, len(shard), 48)]
    for _ in range(data.draw(st.integers(1, 3))):
        at, other = data.draw(st.integers(0, len(records) - 1)), data.draw(st.integers(0, len(records) - 1))
        match data.draw(st.sampled_from(["cut", "double", "exchange"])):
            case "cut" if len(records) > 1:
                del records[at]
                continue
            case "double":
                records.insert(other, records[at])
            case _:
                records[at], records[other] = records[other], records[at]
        break
    assert all(is_what_it_is_called(file, content, HELD) for file, content in handed_out(b"".join(records), HELD))


@settings(LAW, max_examples=400)
@given(st.sampled_from(sorted(SMALL.items())), st.data())
def test_a_changed_byte_of_a_xorb_is_refused_or_changes_nothing(sent, data):
    name, content = sent
    changed = bytearray(content)
    at = data.draw(st.integers(0, 30) | st.integers(0, 10_000)) % len(content)  # more often where the headers are
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        xorb = read_xorb(io.BytesIO(changed), claimed=name)
    except Refused:
        return
    assert xorb.chunks == HELD.chunks(name)


@LAW
@given(st.sampled_from(sorted(SMALL.items())), st.data())
def test_a_xorb_cut_short_is_refused(sent, data):
    name, content = sent
    short = content[: data.draw(st.integers(0, len(content) - 1))]
    try:
        read_xorb(io.BytesIO(short), claimed=name)
    except Refused:
        return
    raise AssertionError("a part was taken for the whole")


@LAW
@given(st.binary(min_size=1, max_size=CHUNK_LIMIT_BYTES), SCHEMES)
def test_every_scheme_gives_back_what_it_was_given(raw, scheme):
    xorb = read_xorb(io.BytesIO(sim.pack(raw, scheme)), claimed=chunk_hash(raw))
    assert list(xorb.chunks.nodes(0, 1)) == [(chunk_hash(raw), len(raw))]
