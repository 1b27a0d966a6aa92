"""Laws of the evidence log, for logs of any size and any history."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.books.evidence.rules import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    perfect_subtrees,
    verify_consistency,
    verify_inclusion,
)
from gongqi.books.evidence.tiles import ENTRIES, Edge, Tile, TileReader, audit, new_tiles
from gongqi.kernel.errors import Refused

MOST = 1100  # five tiles at level 0: past one full tile, several, and a partial one
ALL_ENTRIES = [b"entry %d" % index * (index % 3) for index in range(MOST)]
_EDGE, _FILES = Edge().append(ALL_ENTRIES)
FULL_TILES = dict(_FILES)

sizes = st.integers(0, MOST)


def tree_hash(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word: the definition the fast code must agree with."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return leaf_hash(entries[0])
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return node_hash(tree_hash(entries[:split]), tree_hash(entries[split:]))


def read_at(size: int) -> TileReader:
    """A reader at `size` over the log of MOST entries: a partial tile is the beginning of the later, wider one."""

    def load(tile: Tile) -> bytes:
        wider = next(name for name in FULL_TILES if (name.level, name.index) == (tile.level, tile.index))
        return FULL_TILES[wider][: tile.width * 32]

    return TileReader(size, load)


@given(size=sizes)
@settings(deadline=None, max_examples=40)
def test_every_way_to_the_root_gives_the_hash_the_rfc_defines(size: int) -> None:
    expected = tree_hash(ALL_ENTRIES[:size])
    assert Frontier().append(map(leaf_hash, ALL_ENTRIES[:size])).root == expected
    assert Edge().append(ALL_ENTRIES[:size])[0].root == expected
    assert Frontier.of(size, read_at(size)).root == expected


@given(cuts=st.lists(sizes, max_size=6))
@settings(deadline=None, max_examples=40)
def test_batches_leave_no_trace(cuts: list[int]) -> None:
    """Frontier, edge and the files of the final size are the same however the entries were batched."""
    frontier, edge, files = Frontier(), Edge(), {}
    for end in sorted({*cuts, MOST}):
        batch = ALL_ENTRIES[edge.size : end]
        frontier = frontier.append(map(leaf_hash, batch))
        written = list(new_tiles(edge.size, end))
        edge, made = edge.append(batch)
        assert [tile for tile, _ in made] == written
        files.update(made)
        assert edge.frontier == frontier
    assert edge == _EDGE
    assert {tile: files[tile] for tile in FULL_TILES} == FULL_TILES


@given(data=st.data(), size=st.integers(1, MOST))
@settings(deadline=None, max_examples=150)
def test_every_entry_has_a_proof_and_no_other_entry_fits_it(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1))
    root = Frontier.of(size, read_at(size)).root
    proof = inclusion_proof(index, size, read_at(size))
    leaf = leaf_hash(ALL_ENTRIES[index])
    verify_inclusion(index=index, size=size, leaf=leaf, root=root, proof=proof)
    assert len(proof) <= size.bit_length()
    if other != index:
        assert refuses(verify_inclusion, index=other, size=size, leaf=leaf, root=root, proof=proof)
    assert refuses(verify_inclusion, index=index, size=size, leaf=leaf_hash(b"forged"), root=root, proof=proof)


@given(two=st.tuples(sizes, sizes))
@settings(deadline=None, max_examples=150)
def test_every_log_continues_its_past_and_no_other(two: tuple[int, int]) -> None:
    old_size, new_size = sorted(two)
    read = read_at(new_size)
    old_root, new_root = Frontier.of(old_size, read).root, Frontier.of(new_size, read).root
    proof = consistency_proof(old_size, new_size, read)
    claim: dict[str, Any] = {
        "old_size": old_size,
        "new_size": new_size,
        "old_root": old_root,
        "new_root": new_root,
        "proof": proof,
    }
    verify_consistency(**claim)
    assert refuses(verify_consistency, **(claim | {"old_root": sha256(old_root).digest()}))
    if old_size:
        assert refuses(verify_consistency, **(claim | {"new_root": sha256(new_root).digest()}))


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_changed_byte_is_found_and_its_file_named_alone(data: st.DataObject) -> None:
    tile = data.draw(st.sampled_from(sorted(FULL_TILES)))
    raw = bytearray(FULL_TILES[tile])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = FULL_TILES | {tile: bytes(raw)}
    faults = list(audit(MOST, _EDGE.root, lambda name: damaged.get(name, b"")))
    assert faults
    assert {fault.path for fault in faults} == {tile.path}
    if tile.level != ENTRIES:
        assert [fault.entry for fault in faults] == [None]


@given(start=st.integers(0, 2**62), width=st.integers(0, 2**20))
def test_perfect_subtrees_tile_their_range_without_gap_or_overlap(start: int, width: int) -> None:
    at = start
    for level, index in perfect_subtrees(start, start + width):
        assert index << level == at
        at = (index + 1) << level
    assert at == start + width


@given(level=st.integers(ENTRIES, 63), index=st.integers(0, 2**63 - 1), width=st.integers(1, 256))
def test_a_path_and_its_tile_are_the_same_thing(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert Tile.parse(tile.path) == tile


def refuses(check: Callable[..., None], **claim: Any) -> bool:
    try:
        check(**claim)
    except Refused:
        return True
    return False
