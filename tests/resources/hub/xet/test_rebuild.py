"""From a shard to bytes: each claim made false by itself is found, and nothing false is handed out."""

from __future__ import annotations

import hashlib
import random
import struct
import tracemalloc

import pytest

from gongqi.kernel.errors import Broken, Refused
from gongqi.resources.hub.xet.rebuild import check, rebuild
from gongqi.resources.hub.xet.shards import parse_shard
from gongqi.resources.hub.xet.xorbs import CHUNK_LIMIT_BYTES, GROUPED_LZ4, LZ4, STORED

CHUNKS = (b"first" * 1000, b"second!" * 1001, bytes(range(256)) * 5)
FILE, TERM, PROOF = 48, 96, 48 * 3  # where these records are in `one_file`


@pytest.fixture
def held(sim):
    held = sim.Held()
    for chunks in (CHUNKS, CHUNKS[:2]):
        held.receive(sim.name_of(chunks), b"".join(sim.pack(raw, LZ4) for raw in chunks))
    return held


@pytest.fixture
def one_file(sim) -> bytearray:
    return bytearray(sim.shard_of([sim.file_records([sim.Piece(CHUNKS, 1, 3)])], []))


def refusal(said, content: bytes, held) -> str:
    with pytest.raises(Refused) as caught:
        shard = parse_shard(bytes(content))
        check(shard, held)
        for file in shard.files:
            list(rebuild(file, held))
    return said(caught)


def test_a_file_of_pieces_of_several_xorbs_is_rebuilt(sim, held):
    pieces = [sim.Piece(CHUNKS, 1, 3), sim.Piece(CHUNKS[:2], 0, 2), sim.Piece(CHUNKS, 0, 1), sim.Piece(CHUNKS, 0, 1)]
    shard = parse_shard(sim.shard_of([sim.file_records(pieces)], [sim.xorb_records(CHUNKS)]))
    check(shard, held)
    want = b"".join(CHUNKS[1:] + CHUNKS[:2] + CHUNKS[:1] * 2)
    assert b"".join(rebuild(shard.files[0], held)) == want
    assert shard.files[0].sha256 == hashlib.sha256(want).hexdigest()


def test_a_shard_that_names_an_unknown_xorb_is_refused(sim, held, one_file, said):
    assert refusal(said, one_file, sim.Held()) == "hub.xet-xorb-unknown"
    assert refusal(said, sim.shard_of([], [sim.xorb_records(CHUNKS[1:])]), held) == "hub.xet-xorb-unknown"


def test_a_shard_that_describes_a_xorb_otherwise_than_it_came_is_refused(sim, held, said):
    other = sim.xorb_records(CHUNKS[1:])
    lie = sim.name_of(CHUNKS[:2]) + other[32:]
    assert refusal(said, sim.shard_of([], [lie]), held) == "hub.xet-xorb-differs"


def test_a_term_that_ends_after_its_xorb_is_refused(held, one_file, said):
    struct.pack_into("<I", one_file, TERM + 44, 4)
    assert refusal(said, one_file, held) == "hub.xet-file-differs: term"


def test_a_term_that_claims_another_length_is_refused(held, one_file, said):
    struct.pack_into("<I", one_file, TERM + 36, len(CHUNKS[1]) + len(CHUNKS[2]) + 1)
    assert refusal(said, one_file, held) == "hub.xet-file-differs: length"


def test_a_term_over_other_chunks_of_the_same_length_is_refused(sim, said):
    chunks = (b"one", b"two", b"six")
    held = sim.Held()
    held.receive(sim.name_of(chunks), b"".join(map(sim.pack, chunks)))
    content = bytearray(sim.shard_of([sim.file_records([sim.Piece(chunks, 0, 2)])], []))
    struct.pack_into("<II", content, TERM + 40, 1, 3)
    assert refusal(said, content, held) == "hub.xet-file-differs: range hash"


@pytest.mark.parametrize(("at", "claim"), [(FILE, "file hash"), (PROOF, "range hash")])
def test_a_false_hash_is_refused(held, one_file, said, at, claim):
    one_file[at] ^= 1
    assert refusal(said, one_file, held) == f"hub.xet-file-differs: {claim}"


def test_a_stored_chunk_that_has_changed_is_our_fault_and_is_not_handed_out(sim, held, one_file, said):
    (file,) = parse_shard(bytes(one_file)).files
    _, content = held.xorbs[sim.name_of(CHUNKS)]
    for at in range(0, len(content), 7):
        content[at] ^= 4
        out = b""
        try:
            for raw in rebuild(file, held):
                out += raw
        except Broken as error:
            assert error.code == "hub.xet-chunk-damaged"
        else:  # the change was in the first chunk, which the file does not use, or in what LZ4 does not read
            assert out == b"".join(CHUNKS[1:])
        assert b"".join(CHUNKS[1:]).startswith(out)
        content[at] ^= 4
    del content[-1]
    with pytest.raises(Broken) as caught:
        list(rebuild(file, held))
    assert said(caught) == "hub.xet-chunk-damaged"


def test_a_store_that_gives_too_few_chunks_is_our_fault(sim, held, one_file, said):
    class Forgetful(sim.Held):
        def read(self, xorb, start, end):
            return super().read(xorb, start, end - 1)

    (file,) = parse_shard(bytes(one_file)).files
    with pytest.raises(Broken) as caught:
        list(rebuild(file, Forgetful(held.xorbs)))
    assert said(caught) == "hub.xet-chunk-damaged"


@pytest.mark.parametrize("scheme", [STORED, LZ4, GROUPED_LZ4])
def test_a_large_file_is_rebuilt_in_the_memory_of_a_few_chunks(sim, scheme):
    half = CHUNK_LIMIT_BYTES // 2
    chunks = tuple(random.Random(seed).randbytes(half) + bytes(half) for seed in range(2))
    held = sim.Held()
    held.receive(sim.name_of(chunks), b"".join(sim.pack(raw, scheme) for raw in chunks))
    pieces = [sim.Piece(chunks, 0, 2)] * 200
    shard = parse_shard(sim.shard_of([sim.file_records(pieces)], []))
    tracemalloc.start()
    check(shard, held)
    length = sum(len(raw) for raw in rebuild(shard.files[0], held))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == shard.files[0].raw_bytes == 200 * sum(map(len, chunks))
    assert peak < 12 * CHUNK_LIMIT_BYTES
