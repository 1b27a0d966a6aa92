"""Known answers: what the official client uploads is verified, and rebuilt to the byte. See vectors/README.md."""

from __future__ import annotations

import hashlib
from array import array
from pathlib import Path

import pytest

from gongqi.resources.hub.xet.hashes import NO_HASH, parse_hash, text_of
from gongqi.resources.hub.xet.rebuild import check, rebuild
from gongqi.resources.hub.xet.shards import parse_shard

VECTORS = Path(__file__).with_name("vectors")


def noise(length: int, seed: str = "noise") -> bytes:
    """Bytes that do not compress."""
    blocks = (hashlib.sha256(f"{seed} {index}".encode()).digest() for index in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def table(rows: int) -> bytes:
    """Text that compresses."""
    lines = (f"{index:06},{'甲乙丙丁'[index % 4]},{'benign' if index % 3 else 'malignant'}\n" for index in range(rows))
    return "".join(lines).encode()


def weights(count: int) -> bytes:
    """Numbers that compress only when their bytes are grouped."""
    return array("f", [index * index / 4096 for index in range(count)]).tobytes()


# Each case is one upload, in this order: `grown` names a xorb that came with `base`.
CASES: dict[str, list[bytes]] = {
    "empty": [b""],
    "one-byte": [b"x"],
    "least-chunk": [noise(8192)],
    "periodic": [b"ab" * 2_000_000],
    "zeros": [bytes(3_000_001)],
    "floats": [weights(20_000) + b"xyz"],
    "base": [table(10_000)],
    "grown": [table(10_000) + noise(9_000)],
    "several": [noise(10_000, "a"), b"tiny", table(3_000), noise(10_000, "a"), noise(9_000, "b") + table(3_000)],
}


@pytest.fixture(scope="module")
def held(sim):
    held = sim.Held()
    for path in VECTORS.glob("*.xorb"):
        held.receive(parse_hash(path.stem), path.read_bytes())
    return held


@pytest.mark.parametrize("case", CASES)
def test_what_the_official_client_uploads_is_rebuilt_to_the_byte(case, held):
    shard = parse_shard((VECTORS / f"{case}.shard").read_bytes())
    check(shard, held)
    rebuilt = {file.sha256: b"".join(rebuild(file, held)) for file in shard.files}
    assert rebuilt == {hashlib.sha256(content).hexdigest(): content for content in CASES[case]}
    assert [file.raw_bytes for file in shard.files] == [len(rebuilt[file.sha256]) for file in shard.files]


def test_the_empty_file_has_the_name_that_the_client_gives_it():
    shard = parse_shard((VECTORS / "empty.shard").read_bytes())
    assert [file.name for file in shard.files] == [NO_HASH]


def test_the_vectors_show_every_scheme_and_a_file_of_two_xorbs(held):
    schemes = {content[at + 4] for xorb, content in held.xorbs.values() for at in xorb.places[:-1]}
    assert schemes == {0, 1, 2}
    (grown,) = parse_shard((VECTORS / "grown.shard").read_bytes()).files
    assert len({text_of(term.xorb) for term in grown.terms()}) == 2
