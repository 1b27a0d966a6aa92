"""The log as files: paths, widths, growth, proofs read from tiles, and an audit that names what was changed."""

import pytest

from gongqi.books.evidence.rules import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from gongqi.books.evidence.tiles import (
    CHECKPOINT,
    ENTRIES,
    MAX_ENTRY_BYTES,
    Edge,
    Fault,
    Load,
    Tile,
    TileReader,
    audit,
    encode_entry,
    new_tiles,
    parse_bundle,
    parse_tile,
    tile_of,
)
from gongqi.kernel.errors import Refused

SIZE = 70_000  # the specification's own example: three levels, each with a partial tile


@pytest.fixture(scope="module")
def entries() -> list[bytes]:
    return [b"entry %d" % index for index in range(SIZE)]


@pytest.fixture(scope="module")
def edge_and_files(entries: list[bytes]) -> tuple[Edge, dict[Tile, bytes]]:
    edge, files = Edge().append(entries)
    return edge, dict(files)


@pytest.fixture
def files(edge_and_files: tuple[Edge, dict[Tile, bytes]]) -> dict[Tile, bytes]:
    return dict(edge_and_files[1])


@pytest.fixture
def root(edge_and_files: tuple[Edge, dict[Tile, bytes]]) -> bytes:
    return edge_and_files[0].root


def load_from(files: dict[Tile, bytes]) -> Load:
    return lambda tile: files.get(tile, b"")


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 0), "tile/0/000"),
        (Tile(63, 999), "tile/63/999"),
        (Tile(1, 1000, 17), "tile/1/x001/000.p/17"),
        (Tile(ENTRIES, 273, 112), "tile/entries/273.p/112"),
        (Tile(0, 2**63 - 1, 255), "tile/0/x009/x223/x372/x036/x854/x775/807.p/255"),
    ],
)
def test_a_tile_has_one_path(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/" + "x001/" * 1000 + "000",
    ],
)
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(Refused) as refusal:
        Tile.parse(path)
    assert refusal.value.code == "evidence.tile-path-malformed"


def test_a_log_of_70000_has_the_files_the_specification_counts() -> None:
    tiles = [tile for tile in new_tiles(0, SIZE) if tile.level != ENTRIES]
    assert tiles == [
        *(Tile(0, index) for index in range(273)),
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]


def test_a_log_of_256_has_a_full_tile_and_a_partial_one_above_it() -> None:
    assert list(new_tiles(0, 256)) == [Tile(ENTRIES, 0), Tile(0, 0), Tile(1, 0, 1)]


@pytest.mark.parametrize(
    ("old_size", "new_size", "tiles"),
    [
        (0, 0, []),
        (7, 7, []),
        (0, 1, [Tile(ENTRIES, 0, 1), Tile(0, 0, 1)]),
        (255, 257, [Tile(ENTRIES, 0), Tile(ENTRIES, 1, 1), Tile(0, 0), Tile(0, 1, 1), Tile(1, 0, 1)]),
        (256, 300, [Tile(ENTRIES, 1, 44), Tile(0, 1, 44)]),
        (512, 513, [Tile(ENTRIES, 2, 1), Tile(0, 2, 1)]),
    ],
)
def test_growth_writes_only_the_files_that_change(old_size: int, new_size: int, tiles: list[Tile]) -> None:
    assert list(new_tiles(old_size, new_size)) == tiles


@pytest.mark.parametrize(("level", "index"), [(0, 1), (1, 0), (ENTRIES, 5), (0, -1)])
def test_a_tile_beyond_the_tree_is_refused(level: int, index: int) -> None:
    with pytest.raises(Refused) as refusal:
        tile_of(200, level, index)
    assert refusal.value.code == "evidence.tile-absent"


def test_an_entry_of_65535_bytes_fits_and_one_more_is_refused() -> None:
    largest = bytes(MAX_ENTRY_BYTES)
    assert parse_bundle(Tile(ENTRIES, 0, 1), encode_entry(largest)) == [largest]
    with pytest.raises(Refused) as refusal:
        Edge().append([b"small", largest + b"\x00"])
    assert refusal.value.code == "evidence.entry-too-large"
    assert refusal.value.params == {"size_bytes": 65_536, "limit_bytes": 65_535}


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x00\x01a\x00\x01", b"\x00\x01a\x00\x01b\x00", b"\x00\x01a" * 3])
def test_a_bundle_of_any_other_length_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        parse_bundle(Tile(ENTRIES, 0, 2), raw)
    assert refusal.value.code == "evidence.bundle-malformed"


def test_a_tile_of_any_other_length_is_refused() -> None:
    for raw in (b"", bytes(63), bytes(65)):
        with pytest.raises(Refused) as refusal:
            parse_tile(Tile(0, 0, 2), raw)
        assert refusal.value.code == "evidence.tile-malformed"


def test_the_empty_log_has_no_file_and_the_root_of_nothing() -> None:
    assert Edge().append([]) == (Edge(), [])
    assert Edge().root == EMPTY_ROOT
    assert list(audit(0, EMPTY_ROOT, load_from({}))) == []


def test_appending_makes_exactly_the_files_that_growth_names(edge_and_files: tuple[Edge, dict[Tile, bytes]]) -> None:
    edge, files = edge_and_files
    assert list(files) == list(new_tiles(0, SIZE))
    assert Edge.load(SIZE, load_from(files)) == edge


def test_the_edge_has_the_root_of_the_leaves(entries: list[bytes], root: bytes) -> None:
    assert Frontier().append(map(leaf_hash, entries)).root == root


def test_an_edge_is_not_read_from_a_file_that_was_cut(files: dict[Tile, bytes]) -> None:
    for tile, code in (
        (Tile(1, 1, 17), "evidence.tile-malformed"),
        (Tile(ENTRIES, 273, 112), "evidence.bundle-malformed"),
    ):
        with pytest.raises(Refused) as refusal:
            Edge.load(SIZE, load_from(files | {tile: files[tile][:-1]}))
        assert refusal.value.code == code


@pytest.mark.parametrize("index", [0, 255, 256, 65_535, 65_536, 69_887, 69_888, SIZE - 1])
def test_an_inclusion_proof_from_tiles_holds_and_reads_few_of_them(
    index: int, entries: list[bytes], files: dict[Tile, bytes], root: bytes
) -> None:
    loaded: list[Tile] = []
    read = TileReader(SIZE, lambda tile: loaded.append(tile) or files[tile])
    proof = inclusion_proof(index, SIZE, read)
    verify_inclusion(index=index, size=SIZE, leaf=leaf_hash(entries[index]), root=root, proof=proof)
    assert len(loaded) == len(set(loaded)) <= 5


@pytest.mark.parametrize("old_size", [1, 255, 256, 65_535, 65_536, 65_537, SIZE - 1])
def test_a_consistency_proof_from_tiles_holds(
    old_size: int, entries: list[bytes], files: dict[Tile, bytes], root: bytes
) -> None:
    old_root = Frontier().append(map(leaf_hash, entries[:old_size])).root
    proof = consistency_proof(old_size, SIZE, TileReader(SIZE, load_from(files)))
    verify_consistency(old_size=old_size, new_size=SIZE, old_root=old_root, new_root=root, proof=proof)


def test_a_subtree_that_is_not_complete_is_refused(files: dict[Tile, bytes]) -> None:
    read = TileReader(SIZE, load_from(files))
    for level, index in ((17, 0), (0, SIZE), (16, 1)):
        with pytest.raises(Refused) as refusal:
            read(level, index)
        assert refusal.value.code == "evidence.tile-absent"


def test_a_whole_log_has_no_fault(files: dict[Tile, bytes], root: bytes) -> None:
    assert list(audit(SIZE, root, load_from(files))) == []


def flip(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize(
    ("tile", "at", "fault"),
    [
        (Tile(0, 5), 77, Fault("tile/0/005")),
        (Tile(0, 272), 8191, Fault("tile/0/272")),
        (Tile(0, 273, 112), 0, Fault("tile/0/273.p/112")),
        (Tile(1, 0), 40, Fault("tile/1/000")),
        (Tile(1, 1, 17), 40, Fault("tile/1/001.p/17")),
        (Tile(2, 0, 1), 0, Fault("tile/2/000.p/1")),
        (Tile(ENTRIES, 0), 2, Fault("tile/entries/000", 0)),
        (Tile(ENTRIES, 0), 0, Fault("tile/entries/000")),
        (Tile(ENTRIES, 273, 112), -1, Fault("tile/entries/273.p/112", SIZE - 1)),
    ],
)
def test_a_changed_byte_is_found_and_only_its_file_is_named(
    tile: Tile, at: int, fault: Fault, files: dict[Tile, bytes], root: bytes
) -> None:
    damaged = files | {tile: flip(files[tile], at % len(files[tile]))}
    assert list(audit(SIZE, root, load_from(damaged))) == [fault]


@pytest.mark.heavy
def test_a_file_that_is_missing_or_cut_is_named(files: dict[Tile, bytes], root: bytes) -> None:
    for tile in (Tile(0, 7), Tile(1, 0), Tile(2, 0, 1), Tile(ENTRIES, 7), Tile(ENTRIES, 273, 112)):
        missing = {name: raw for name, raw in files.items() if name != tile}
        assert list(audit(SIZE, root, load_from(missing))) == [Fault(tile.path)]


def test_two_changed_files_are_both_named(files: dict[Tile, bytes], root: bytes) -> None:
    tiles = (Tile(1, 0), Tile(ENTRIES, 9))
    damaged = files | {tile: flip(files[tile], 3) for tile in tiles}
    assert list(audit(SIZE, root, load_from(damaged))) == [Fault("tile/1/000"), Fault("tile/entries/009", 9 * 256)]


def test_a_missing_tile_over_a_missing_tile_blames_no_third(files: dict[Tile, bytes], root: bytes) -> None:
    missing = {name: raw for name, raw in files.items() if name not in (Tile(1, 0), Tile(0, 7))}
    assert list(audit(SIZE, root, load_from(missing))) == [Fault("tile/1/000"), Fault("tile/0/007")]


def test_a_root_that_no_file_explains_blames_the_checkpoint(files: dict[Tile, bytes], root: bytes) -> None:
    assert list(audit(SIZE, flip(root, 0), load_from(files))) == [Fault(CHECKPOINT)]


def test_rewritten_history_is_found_even_if_every_file_agrees(entries: list[bytes], root: bytes) -> None:
    """Somebody who rebuilds all files after changing an entry cannot rebuild the signed root."""
    _, rewritten = Edge().append([b"forged", *entries[1:]])
    assert list(audit(SIZE, root, load_from(dict(rewritten)))) == [Fault(CHECKPOINT)]
