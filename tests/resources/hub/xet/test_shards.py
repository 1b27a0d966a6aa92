"""A shard: what is read, and every rule of its form, broken one at a time."""

from __future__ import annotations

import struct

import pytest

from gongqi.kernel.errors import Refused
from gongqi.resources.hub.xet import shards
from gongqi.resources.hub.xet.hashes import NO_HASH
from gongqi.resources.hub.xet.shards import BOOKEND, parse_shard

CHUNKS = (b"first" * 1000, b"second!" * 1001, bytes(range(256)) * 5)
FILE, TERM, XORB, CHUNK = 48, 96, 48 * 6, 48 * 7  # where these records are in `content` below


@pytest.fixture
def content(sim) -> bytearray:
    """One file of one term, and the xorb that it is made of."""
    return bytearray(sim.shard_of([sim.file_records([sim.Piece(CHUNKS, 1, 3)])], [sim.xorb_records(CHUNKS)]))


def refusal(said, content: bytes) -> str:
    with pytest.raises(Refused) as caught:
        parse_shard(bytes(content))
    return said(caught)


def put(content: bytearray, at: int, number: int) -> bytearray:
    struct.pack_into("<I", content, at, number)
    return content


def test_a_shard_gives_its_files_terms_and_xorbs(sim, content):
    shard = parse_shard(bytes(content))
    (file,) = shard.files
    (term,) = file.terms()
    assert file.raw_bytes == term.raw_bytes == len(CHUNKS[1]) + len(CHUNKS[2])
    assert (term.xorb, term.start, term.end) == (sim.name_of(CHUNKS), 1, 3)
    assert {name: chunks.root() for name, chunks in shard.xorbs.items()} == {term.xorb: term.xorb}


def test_a_shard_without_files_is_a_shard(sim):
    assert parse_shard(sim.shard_of([], [])) == shards.Shard((), {})


def test_an_uploader_may_give_no_sha256(sim):
    records = bytearray(sim.file_records([sim.Piece(CHUNKS, 0, 1)])[:-48])
    put(records, 32, shards.WITH_PROOFS)
    assert [file.sha256 for file in parse_shard(sim.shard_of([bytes(records)], [])).files] == [None]


def test_unused_fields_are_not_read(content):
    plain = parse_shard(bytes(content))
    struct.pack_into("<Q", content, 40, 200)  # footer size: hf-xet 1.2 gives one and sends no footer
    put(content, XORB + 44, 77)  # bytes on disk
    put(content, CHUNK + 44, 77)
    put(content, CHUNK + 40, shards.DEDUPLICABLE)
    assert [*parse_shard(bytes(content)).files[0].terms()] == [*plain.files[0].terms()]
    assert parse_shard(bytes(content)).xorbs == plain.xorbs


@pytest.mark.parametrize(
    ("flaw", "spoil"),
    [
        ("it is shorter than a header", lambda content: content[:47]),
        ("it does not begin with the tag and version of a shard", lambda content: b"h" + content[1:]),
        ("it does not begin with the tag and version of a shard", lambda content: put(content, 32, 3)),
        ("it ends before its records do", lambda content: content[:-1]),
        ("it ends before its records do", lambda content: content[:-48]),
        ("it ends before its records do", lambda content: put(content, FILE + 36, 0xFFFF_FFFF)),
        ("it ends before its records do", lambda content: put(content, XORB + 36, 8192)),
        ("bytes follow its last section", lambda content: content + b"\0"),
        ("bytes follow its last section", lambda content: content + bytes(200)),
        ("a file has flags 0xc0000001", lambda content: put(content, FILE + 32, 0xC000_0001)),
        ("a file has terms without range hashes", lambda content: put(content, FILE + 32, shards.WITH_METADATA)),
        ("a term has flags 0x1", lambda content: put(content, TERM + 32, 1)),
        ("a term names chunks 3 to 3", lambda content: put(content, TERM + 40, 3)),
        ("a term names chunks 4 to 3", lambda content: put(content, TERM + 40, 4)),
        ("a term names chunks 1 to 8193", lambda content: put(content, TERM + 44, 8193)),
        ("a xorb has flags 0x1", lambda content: put(content, XORB + 32, 1)),
        ("a xorb has 0 chunks", lambda content: put(content, XORB + 36, 0)),
        ("a xorb has 8193 chunks", lambda content: put(content, XORB + 36, 8193)),
        ("the chunks of a xorb do not add up to its length", lambda content: put(content, XORB + 40, 1)),
        ("the chunks of a xorb overlap or leave a hole", lambda content: put(content, CHUNK + 48 + 32, 1)),
        ("the chunks of a xorb overlap or leave a hole", lambda content: put(content, CHUNK + 36, 1)),
        ("a chunk has flags 0x1", lambda content: put(content, CHUNK + 40, 1)),
    ],
)
def test_a_shard_that_breaks_a_rule_of_the_format_is_refused(content, said, flaw, spoil):
    assert refusal(said, spoil(content)) == f"hub.xet-shard-malformed: {flaw}"


def test_a_bookend_is_all_of_its_48_bytes(sim, content, said):
    content[-1] = 1
    assert refusal(said, content) == "hub.xet-shard-malformed: a xorb has 0 chunks"


def test_only_the_empty_file_is_named_by_zeros(sim, content, said):
    flaw = "hub.xet-shard-malformed: a file without terms is named like one with terms, or the other way round"
    content[FILE : FILE + 32] = NO_HASH
    assert refusal(said, content) == flaw
    records = bytearray(sim.file_records([]))
    assert parse_shard(sim.shard_of([bytes(records)], [])).files[0].raw_bytes == 0
    records[0] = 1
    assert refusal(said, sim.shard_of([bytes(records)], [])) == flaw


def test_a_shard_above_a_limit_is_refused(sim, said, monkeypatch):
    file, xorb = sim.file_records([sim.Piece(CHUNKS, 1, 3)]), sim.xorb_records(CHUNKS)
    content = sim.shard_of([file] * 3, [xorb] * 3)
    for name, enough in [
        ("SHARD_LIMIT_BYTES", len(content)),
        ("FILE_COUNT_LIMIT", 3),
        ("SHARD_XORB_LIMIT", 3),
        ("SHARD_CHUNK_LIMIT", 6),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(shards, name, enough)
            assert len(parse_shard(content).files) == 3
            patch.setattr(shards, name, enough - 1)
            assert refusal(said, content) == "hub.xet-shard-too-large"


def test_a_shard_is_at_most_64_mib(said):
    assert refusal(said, BOOKEND * ((64 << 20) // 48 + 1)) == "hub.xet-shard-too-large"
