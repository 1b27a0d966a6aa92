"""A xorb: what is read, and every way in which one can lie."""

from __future__ import annotations

import io
import tracemalloc

import lz4.frame
import pytest

from gongqi.kernel.errors import Refused
from gongqi.resources.hub.xet import xorbs
from gongqi.resources.hub.xet.hashes import chunk_hash
from gongqi.resources.hub.xet.xorbs import GROUPED_LZ4, LZ4, STORED, read_chunks, read_xorb

RAW = [b"first" * 1000, b"second!" * 1001, bytes(range(256)) * 5]


def refusal(said, content: bytes, claimed: bytes = bytes(32)) -> str:
    with pytest.raises(Refused) as caught:
        read_xorb(io.BytesIO(content), claimed=claimed)
    return said(caught)


@pytest.mark.parametrize("scheme", [STORED, LZ4, GROUPED_LZ4])
def test_a_xorb_gives_its_chunks_and_any_run_of_them(sim, scheme):
    file = io.BytesIO(b"".join(sim.pack(raw, scheme) for raw in RAW))
    xorb = read_xorb(file, claimed=sim.name_of(RAW))
    assert [chunk_hash(raw) for raw in RAW] == [name for name, _ in xorb.chunks.nodes(0, 3)]
    for start in range(3):
        for end in range(start + 1, 4):
            assert list(read_chunks(file, xorb, start, end)) == RAW[start:end]
            assert xorb.chunks.raw_bytes(start, end) == sum(map(len, RAW[start:end]))
    assert xorb.places[-1] == len(file.getvalue())


def test_a_xorb_with_another_name_is_refused(sim, said):
    content = b"".join(map(sim.pack, RAW))
    assert refusal(said, content, sim.name_of(RAW[:2])) == "hub.xet-xorb-differs"
    swapped = b"".join(map(sim.pack, [RAW[1], RAW[0], RAW[2]]))
    assert refusal(said, swapped, sim.name_of(RAW)) == "hub.xet-xorb-differs"


@pytest.mark.parametrize(
    ("flaw", "make"),
    [
        ("it holds no chunk", lambda sim: b""),
        ("it ends inside a chunk header", lambda sim: sim.pack(b"abc") + b"\0\3\0"),
        ("it ends inside a chunk", lambda sim: sim.pack(b"abc")[:-1]),
        ("a chunk header has version 1", lambda sim: b"\1" + sim.pack(b"abc")[1:]),
        ("a chunk header has version 88", lambda sim: sim.pack(b"abc") + b"XETBLOB\1" + bytes(84)),
        ("a chunk is packed by scheme 3", lambda sim: sim.framed(b"abc", 3, 3)),
        ("a chunk is packed by scheme 99", lambda sim: sim.framed(b"abc", 99, 3)),
        ("a chunk of 0 bytes claims to be 3 bytes", lambda sim: sim.framed(b"", STORED, 3)),
        ("a chunk of 0 bytes claims to be 3 bytes", lambda sim: sim.framed(b"", LZ4, 3)),
        ("a chunk of 11 bytes claims to be 0 bytes", lambda sim: sim.pack(b"", LZ4)),
        ("a chunk of 3 bytes claims to be 0 bytes", lambda sim: sim.framed(b"abc", STORED, 0)),
        ("a chunk of 3 bytes claims to be 4 bytes", lambda sim: sim.framed(b"abc", STORED, 4)),
        ("a chunk of 3 bytes claims to be 131073 bytes", lambda sim: sim.framed(b"abc", LZ4, 131_073)),
        ("a chunk of 131073 bytes claims to be 131073 bytes", lambda sim: sim.pack(bytes(131_073))),
        ("a chunk of 3 bytes claims to be 4 bytes", lambda sim: sim.framed(lz4.frame.compress(b"abc"), LZ4, 4)),
        ("a chunk is not an LZ4 frame", lambda sim: sim.framed(b"abcdefgh", LZ4, 8)),
        ("a chunk is more or less than one LZ4 frame", lambda sim: sim.framed(lz4.frame.compress(b"abc")[:-4], LZ4, 3)),
        ("a chunk is more or less than one LZ4 frame", lambda sim: sim.framed(lz4.frame.compress(b"abc") * 2, LZ4, 3)),
        (
            "a chunk is more or less than one LZ4 frame",
            lambda sim: sim.framed(lz4.frame.compress(bytes(100_000)), GROUPED_LZ4, 3),
        ),
    ],
)
def test_a_xorb_that_breaks_a_rule_of_the_format_is_refused(sim, said, flaw, make):
    assert refusal(said, make(sim)) == f"hub.xet-xorb-malformed: {flaw}"


def test_the_largest_chunk_is_read(sim):
    raw = [bytes(128 << 10)]
    for scheme in (STORED, LZ4, GROUPED_LZ4):
        assert len(read_xorb(io.BytesIO(sim.pack(raw[0], scheme)), claimed=sim.name_of(raw)).chunks) == 1


def test_a_xorb_may_have_8192_chunks_and_no_more(sim, said):
    most = [b"%d" % index for index in range(8192)]
    assert len(read_xorb(io.BytesIO(b"".join(map(sim.pack, most))), claimed=sim.name_of(most)).chunks) == 8192
    assert refusal(said, b"".join(map(sim.pack, [*most, b"more"]))) == "hub.xet-xorb-too-large"


class Endless:
    """As many stored chunks as one cares to read, without holding them."""

    def __init__(self, chunk: bytes) -> None:
        self._chunk, self._at, self.given = chunk, 0, 0

    def read(self, size: int) -> bytes:
        start, self._at = self._at, (self._at + size) % len(self._chunk)
        self.given += size
        return self._chunk[start : start + size]


def test_reading_stops_at_the_limit_and_holds_one_chunk(sim, said):
    stream = Endless(sim.pack(bytes(128 << 10)))
    tracemalloc.start()
    with pytest.raises(Refused) as caught:
        read_xorb(stream, claimed=bytes(32))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said(caught) == "hub.xet-xorb-too-large"
    assert stream.given <= xorbs.XORB_LIMIT_BYTES + (128 << 10) + 8
    assert peak < 2 << 20


def test_a_bomb_gets_no_more_memory_than_its_chunk_may_have(sim, said):
    bomb = sim.framed(lz4.frame.compress(bytes(30_000_000)), LZ4, 4096)
    assert len(bomb) <= xorbs.CHUNK_LIMIT_BYTES
    tracemalloc.start()
    assert refusal(said, bomb) == "hub.xet-xorb-malformed: a chunk is more or less than one LZ4 frame"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
