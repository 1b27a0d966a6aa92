"""The evidence log as static files: which files, what is in them, how to read, grow and check them.

Idea: the tree is cut into tiles, 256 hashes wide and 8 levels high, and the entries into bundles of 256. A full tile
never changes, so the whole log is plain files that anybody can mirror, and every proof can be made from three or four
of them.

Invariants
- A tile at level `l` holds roots of perfect subtrees of 256**l leaves; only a full tile is hashed into the next level.
- The files of a tree of a given size depend on its entries alone, not on how they were batched.
- Appending needs the right edge only: the partial bundle and one partial tile a level, of 8 kB at most.

`Load` reads a file by its tile and returns b"" where there is none: a missing file is then refused as a short one is.

Source: c2sp.org/tlog-tiles.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from gongqi.books.evidence.rules import (
    HASH_BYTES,
    MAX_TREE_SIZE,
    Frontier,
    leaf_hash,
    parents,
    perfect_root,
    perfect_subtrees,
)
from gongqi.kernel.errors import Refused

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES
MAX_TILE_LEVEL = 63  # the specification's bound
MAX_PATH_CHARACTERS = 64  # the longest path of a tree of 2**63 entries has 53
MAX_ENTRY_BYTES = 2**16 - 1  # an entry's length is written in two bytes
READER_TILES = 64  # half a megabyte; one proof touches fewer than 16

ENTRIES = -1
"""The level of the entry bundles: they lie below the leaf hashes of level 0."""

_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The name of one file: a tile of hashes, or at level ENTRIES a bundle of entries. `width` counts what it holds."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Relative to the log's prefix, such as tile/0/x001/x234/067.p/5."""
        thousands, last = divmod(self.index, 1000)
        number = f"{last:03}"
        while thousands:
            thousands, part = divmod(thousands, 1000)
            number = f"x{part:03}/{number}"
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = f".p/{self.width}" if self.width < TILE_WIDTH else ""
        return f"tile/{level}/{number}{partial}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """The tile at `path`; raises Refused unless it is exactly the path that names a possible tile."""
        match = _PATH.fullmatch(path) if len(path) <= MAX_PATH_CHARACTERS else None
        if match is None:
            raise Refused("evidence.tile-path-malformed", path=path[:MAX_PATH_CHARACTERS])
        level, number, width = match.groups()
        tile = cls(
            ENTRIES if level == "entries" else int(level),
            int(number.replace("x", "").replace("/", "")),
            int(width) if width else TILE_WIDTH,
        )
        possible = tile.level <= MAX_TILE_LEVEL and tile.index <= MAX_TREE_SIZE
        if not possible or tile.path != path:  # one tile, one path: no leading zeros, no width of 256
            raise Refused("evidence.tile-path-malformed", path=path)
        return tile


Load = Callable[[Tile], bytes]
"""Reads the file of a tile; b"" if there is none."""


def tile_of(size: int, level: int, index: int) -> Tile:
    """Tile `index` of `level` as a tree of `size` entries has it; raises Refused if that tree has none there."""
    width = min(TILE_WIDTH, _count(size, level) - index * TILE_WIDTH)
    if index < 0 or width <= 0:
        raise Refused("evidence.tile-absent", path=Tile(level, max(index, 0)).path, size=size)
    return Tile(level, index, width)


def new_tiles(old_size: int, new_size: int) -> Iterator[Tile]:
    """Every file that growing from `old_size` to `new_size` writes, bundles first; from 0, all files of that tree."""
    for level in range(ENTRIES, MAX_TILE_LEVEL + 1):
        before, after = _count(old_size, level), _count(new_size, level)
        if before == after:
            return
        for index in range(before // TILE_WIDTH, -(-after // TILE_WIDTH)):
            yield tile_of(new_size, level, index)


def _count(size: int, level: int) -> int:
    """How many hashes (or entries) a whole level holds."""
    return size >> TILE_HEIGHT * max(level, 0)


def _edge_tiles(size: int) -> list[Tile]:
    """The last tile of each level while it is partial; where the level is all full tiles, the next one, of width 0."""
    levels = range(-(-size.bit_length() // TILE_HEIGHT))
    return [Tile(level, *divmod(_count(size, level), TILE_WIDTH)) for level in levels]


def encode_entry(entry: bytes) -> bytes:
    """An entry as bundles hold it; raises Refused when it is larger than MAX_ENTRY_BYTES."""
    if len(entry) > MAX_ENTRY_BYTES:
        raise Refused("evidence.entry-too-large", size_bytes=len(entry), limit_bytes=MAX_ENTRY_BYTES)
    return len(entry).to_bytes(2, "big") + entry


def parse_bundle(tile: Tile, raw: bytes) -> list[bytes]:
    """The entries of a bundle; raises Refused unless `raw` is exactly `tile.width` entries."""
    entries, at = [], 0
    while len(entries) < tile.width and at + 2 <= len(raw):
        start = at + 2
        at = start + int.from_bytes(raw[at:start], "big")
        entries.append(raw[start:at])
    if len(entries) != tile.width or at != len(raw):
        raise Refused("evidence.bundle-malformed", path=tile.path, width=tile.width)
    return entries


def parse_tile(tile: Tile, raw: bytes) -> bytes:
    """The packed hashes of a tile; raises Refused unless there are exactly `tile.width`."""
    if len(raw) != tile.width * HASH_BYTES:
        want_bytes = tile.width * HASH_BYTES
        raise Refused("evidence.tile-malformed", path=tile.path, got_bytes=len(raw), want_bytes=want_bytes)
    return raw


class TileReader:
    """A `HashReader` over the tiles of a tree of `size` entries, for the proofs of one request or one pass.

    Raises Refused for a tile of the wrong length, and for a subtree that is not complete at `size`.
    """

    def __init__(self, size: int, load: Load) -> None:
        self.size = size
        self._row = lru_cache(maxsize=READER_TILES)(lambda tile: parse_tile(tile, load(tile)))

    def __call__(self, level: int, index: int) -> bytes:
        tile_level, rise = divmod(level, TILE_HEIGHT)
        tile_index, first = divmod(index << rise, TILE_WIDTH)
        if (index + 1) << level > self.size:
            raise Refused("evidence.tile-absent", path=Tile(tile_level, tile_index).path, size=self.size)
        row = self._row(tile_of(self.size, tile_level, tile_index))
        return perfect_root(row[first * HASH_BYTES : (first + (1 << rise)) * HASH_BYTES])


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of the log, all that appending needs; `rows[level]` is that level's partial tile or empty."""

    size: int = 0
    bundle: bytes = b""
    rows: tuple[bytes, ...] = ()

    @classmethod
    def load(cls, size: int, load: Load) -> Self:
        """The edge of a stored log, a file per level. Compare its root with the signed checkpoint before appending."""

        tiles = _edge_tiles(size)
        rows = tuple(parse_tile(tile, load(tile)) if tile.width else b"" for tile in tiles)
        bundle = b""
        if size % TILE_WIDTH:
            tile = tile_of(size, ENTRIES, size // TILE_WIDTH)
            bundle = load(tile)
            parse_bundle(tile, bundle)
        return cls(size, bundle, rows)

    def append(self, entries: Sequence[bytes]) -> tuple[Self, list[tuple[Tile, bytes]]]:
        """The edge after `entries`, and the content of every file that is new, in the order they are to be written.

        Raises Refused for an entry that is too large, before anything is made.
        """
        size = self.size + len(entries)
        encoded = [encode_entry(entry) for entry in entries]
        files: list[tuple[Tile, bytes]] = []

        held, bundle = self.size % TILE_WIDTH, self.bundle
        for start in range(-held, len(encoded), TILE_WIDTH):
            bundle += b"".join(encoded[max(start, 0) : start + TILE_WIDTH])
            tile = tile_of(size, ENTRIES, (self.size + start) // TILE_WIDTH)
            files.append((tile, bundle))
            bundle = b"" if tile.width == TILE_WIDTH else bundle

        rows, fresh = [], b"".join(map(leaf_hash, entries))
        while fresh or len(rows) < len(self.rows):
            level = len(rows)
            row = (self.rows[level] if level < len(self.rows) else b"") + fresh
            if fresh:
                first = _count(self.size, level) // TILE_WIDTH
                for index, start in enumerate(range(0, len(row), TILE_BYTES), first):
                    files.append((tile_of(size, level, index), row[start : start + TILE_BYTES]))
            full_bytes = len(row) // TILE_BYTES * TILE_BYTES
            rows.append(row[full_bytes:])
            fresh = row[:full_bytes]
            for _ in range(TILE_HEIGHT):
                fresh = parents(fresh)
        return type(self)(size, bundle, tuple(rows)), files

    @property
    def frontier(self) -> Frontier:
        peaks = []
        for row in reversed(self.rows):
            for level, index in perfect_subtrees(0, len(row) // HASH_BYTES):
                peaks.append(perfect_root(row[index * HASH_BYTES << level : (index + 1) * HASH_BYTES << level]))
        return Frontier(self.size, tuple(peaks))

    @property
    def root(self) -> bytes:
        return self.frontier.root


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that does not belong under the signed root; `entry` is the log index, where one entry can be named."""

    path: str
    entry: int | None = None


CHECKPOINT = "checkpoint"
"""The path of a fault that no tile explains: the files agree with one another, and not with the signed root."""


def audit(size: int, root: bytes, load: Load) -> Iterator[Fault]:
    """Read every file of a log of `size` entries and name those that do not belong under `root`.

    Trust comes down from the root: a file is judged by the hash its parent holds for it. A damaged tile is also
    rebuilt from its children; if that gives what the parent holds, the tile alone is at fault and its children are
    not blamed for it. One pass, a few tiles in memory, two hashes an entry.
    """
    tiles = _edge_tiles(size)
    rows = [_row(tile, load) for tile in tiles]
    if not _carry(tiles, rows, size, root):
        below = [_row_from_below(tile, load) for tile in tiles]
        differing = [tile for tile, row, rebuilt in zip(tiles, rows, below, strict=True) if row != rebuilt]
        yield from [Fault(tile.path) for tile in differing] or [Fault(CHECKPOINT)]
        rows = [row or rebuilt for row, rebuilt in zip(rows, below, strict=True)]
        if _carry(tiles, below, size, root):
            rows = below
    for tile, row in zip(tiles, rows, strict=True):
        yield from _audit_below(tile, row, load)


def _carry(tiles: list[Tile], rows: list[bytes], size: int, root: bytes) -> bool:
    """Whether these rows of the right edge are whole and have that root."""
    whole = all(len(row) == tile.width * HASH_BYTES for tile, row in zip(tiles, rows, strict=True))
    return whole and Edge(size, rows=tuple(rows)).root == root


def _audit_tile(tile: Tile, expected: bytes, load: Load) -> Iterator[Fault]:
    row = _row(tile, load)
    if perfect_root(row) != expected:
        yield Fault(tile.path)
        rebuilt = _row_from_below(tile, load)
        if not row or perfect_root(rebuilt) == expected:
            row = rebuilt
    yield from _audit_below(tile, row, load)


def _audit_below(tile: Tile, row: bytes, load: Load) -> Iterator[Fault]:
    """Judge the tiles, or at level 0 the entries, that the hashes in `row` stand for."""
    hashes = [row[at : at + HASH_BYTES] for at in range(0, tile.width * HASH_BYTES, HASH_BYTES)]
    first = tile.index * TILE_WIDTH
    if tile.level > 0:
        for index, expected in enumerate(hashes, first):
            yield from _audit_tile(Tile(tile.level - 1, index), expected, load)
        return
    bundle = Tile(ENTRIES, tile.index, tile.width)
    entries = _entries(bundle, load)
    if len(entries) != tile.width:
        yield Fault(bundle.path)
        return
    for index, (entry, expected) in enumerate(zip(entries, hashes, strict=True), first):
        if leaf_hash(entry) != expected:
            yield Fault(bundle.path, index)


def _row(tile: Tile, load: Load) -> bytes:
    """The packed hashes of a stored tile; empty if the file is not of the right length."""
    row = load(tile) if tile.width else b""
    return row if len(row) == tile.width * HASH_BYTES else b""


def _row_from_below(tile: Tile, load: Load) -> bytes:
    """What a tile should hold by its children; zeros stand for a child that cannot be read."""
    if tile.level == 0:
        return b"".join(map(leaf_hash, _entries(Tile(ENTRIES, tile.index, tile.width), load)))
    first = tile.index * TILE_WIDTH
    children = (Tile(tile.level - 1, index) for index in range(first, first + tile.width))
    return b"".join(perfect_root(_row(child, load)) or bytes(HASH_BYTES) for child in children)


def _entries(bundle: Tile, load: Load) -> list[bytes]:
    """The entries of a stored bundle; none if it cannot be parsed."""
    try:
        return parse_bundle(bundle, load(bundle)) if bundle.width else []
    except Refused:
        return []
