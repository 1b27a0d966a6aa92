"""Checks that nobody needs our word for: one proof, offline; or the whole log, every byte of it.

`verify_log` names each thing that is not as it was: a file by its path, a row as `table/key` or `table/key.column`, and
the entry where one can be named. Trust begins at the foundation's keys: they vouch for a checkpoint, its root judges
the tiles and entries (`tiles.audit`), and the log judges the rows of the database.

What it cannot see: a row that is not yet in the log (normally less than a second) and was changed in all its columns
alike, and an older checkpoint that was removed from the database. An erased private side is no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import rfc8785
from sqlalchemy import select
from sqlalchemy.orm import Session

from gongqi.books.evidence.folder import LogFolder, cut
from gongqi.books.evidence.keys import KeySet, SigningKeys
from gongqi.books.evidence.leaves import Leaf
from gongqi.books.evidence.models import CheckpointRow, EntryRow
from gongqi.books.evidence.notes import Checkpoint, note_keys, open_checkpoint
from gongqi.books.evidence.rules import EMPTY_ROOT, HASH_BYTES, Frontier, climb, leaf_hash
from gongqi.books.evidence.service import origin_of
from gongqi.books.evidence.tiles import (
    CHECKPOINT,
    ENTRIES,
    TILE_WIDTH,
    Edge,
    Fault,
    Tile,
    TileReader,
    audit,
    parse_bundle,
    tile_of,
)
from gongqi.kernel.db import Database
from gongqi.kernel.errors import Refused

ROWS_AT_ONCE = 2000
_ENTRIES = EntryRow.__tablename__
_CHECKPOINTS = CheckpointRow.__tablename__


# ---- one proof -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof shows: the signed checkpoint, and every hash reached on the way from the entry up to its root."""

    checkpoint: Checkpoint
    reached: tuple[bytes, ...]


def check_proof(proof: Mapping[str, Any], trusted: KeySet) -> Proven:
    """Return what `service.proof` claims, if it holds under these keys and nothing else; raise Refused if not."""
    try:
        leaf = leaf_hash(rfc8785.dumps(proof["entry"]))
        index, note = int(proof["index"]), str(proof["checkpoint"]).encode()
        path = [bytes.fromhex(node) for node in proof["inclusion"]]
    except (KeyError, TypeError, ValueError, rfc8785.CanonicalizationError) as error:
        raise Refused("evidence.proof-malformed", detail=str(error)) from error
    checkpoint = _opened(note, trusted)
    reached = climb(index=index, size=checkpoint.size, leaf=leaf, proof=path)
    if reached[-1] != checkpoint.root:
        raise Refused("evidence.inclusion-false", index=index, size=checkpoint.size)
    return Proven(checkpoint, tuple(reached))


def _opened(note: bytes, trusted: KeySet) -> Checkpoint:
    origin = origin_of(trusted)
    return open_checkpoint(note, origin, note_keys(origin, trusted))


# ---- the whole log ---------------------------------------------------------------------------------


def verify_log(home: Path, database: Database | None = None, *, trusted: KeySet | None = None) -> Iterator[Fault]:
    """Read the log under `home` and, when given, the rows of `database`; yield everything that is not as it was.

    `trusted` are the foundation's public keys as the reader knows them; by default those that lie in `home`.
    """
    keys = trusted or SigningKeys.load(home / "keys").public
    folder = LogFolder(home / "log")
    if database is None:
        yield from _Check(folder, keys, None).faults()
        return
    with database.reading() as session:
        yield from _Check(folder, keys, session).faults()


class _Check:
    """One pass over one log."""

    def __init__(self, folder: LogFolder, keys: KeySet, session: Session | None) -> None:
        self.folder = folder
        self.keys = keys
        self.session = session
        self.top = Checkpoint(origin_of(keys), 0, EMPTY_ROOT)

    def faults(self) -> Iterator[Fault]:
        published = self.folder.checkpoint()
        kept = self._kept()
        yield from self._checkpoint_file(published, kept)
        yield from self._kept_signatures(kept)
        damaged = set()
        for fault in audit(self.top.size, self.top.root, self.folder.load):
            damaged.add(fault.path)
            yield fault
        yield from self._other_files(damaged)
        if self.session:
            if not damaged:
                yield from self._kept_roots(kept)
            yield from _Rows(self.session, self.folder, self.top.size).faults()

    def _kept(self) -> dict[int, bytes]:
        if not self.session:
            return {}
        rows = self.session.scalars(select(CheckpointRow).order_by(CheckpointRow.size))
        return {row.size: row.note.encode() for row in rows}

    def _checkpoint_file(self, published: bytes | None, kept: Mapping[int, bytes]) -> Iterator[Fault]:
        """The file must be ours, and the newest that is kept, or the one before while the newest is being published."""
        if published is None:
            first_round = self.session and len(kept) < 2
            if not first_round and any(self.folder.files()):
                yield Fault(CHECKPOINT)
            return
        try:
            self.top = _opened(published, self.keys)
        except Refused:
            yield Fault(CHECKPOINT)
            return
        row_blamed = self.top.size in kept and self._row_is_false(kept, self.top.size)
        if self.session and not row_blamed and published not in list(kept.values())[-2:]:
            yield Fault(CHECKPOINT)

    def _row_is_false(self, kept: Mapping[int, bytes], size: int) -> bool:
        try:
            return _opened(kept[size], self.keys).size != size
        except Refused:
            return True

    def _kept_signatures(self, kept: Mapping[int, bytes]) -> Iterator[Fault]:
        for size, note in kept.items():
            if self._row_is_false(kept, size):
                yield Fault(f"{_CHECKPOINTS}/{size}")
            elif size > self.top.size:
                self.top = _opened(note, self.keys)

    def _kept_roots(self, kept: Mapping[int, bytes]) -> Iterator[Fault]:
        """Every checkpoint that was ever signed is one of this log's past."""
        read = TileReader(self.top.size, self.folder.load)
        for size, note in kept.items():
            if not self._row_is_false(kept, size) and Frontier.of(size, read).root != _opened(note, self.keys).root:
                yield Fault(f"{_CHECKPOINTS}/{size}")

    def _other_files(self, damaged: set[str]) -> Iterator[Fault]:
        """Files beside those of the current size: older partial tiles, and tiles of a round that is not signed yet."""
        ahead = self._ahead()
        for path in self.folder.files():
            try:
                tile = Tile.parse(path)
            except Refused:
                yield Fault(path)
                continue
            now = _now(self.top.size, tile)
            if tile == now:
                continue  # the audit has read it
            content = (self.folder.root / path).read_bytes()
            if now and tile.width < now.width:
                right = now.path in damaged or content == cut(tile, self.folder.load(now))
            elif self.session:
                right = content == cut(tile, ahead.get((tile.level, tile.index), b"")) != b""
            else:
                right = True  # without the rows nothing says what an unsigned file should hold
            if not right:
                yield Fault(path)

    def _ahead(self) -> dict[tuple[int, int], bytes]:
        """By level and index, the tiles that the assigned rows beyond the checkpoint make."""
        if not self.session:
            return {}
        later = select(EntryRow.leaf).where(EntryRow.index >= self.top.size).order_by(EntryRow.index)
        leaves = list(self.session.scalars(later))
        try:
            _edge, files = Edge.load(self.top.size, self.folder.load).append(leaves)
        except Refused:  # the edge is damaged, which the audit has said
            return {}
        return {(tile.level, tile.index): content for tile, content in files}


def _now(size: int, tile: Tile) -> Tile | None:
    """The same tile as the tree of `size` has it."""
    try:
        return tile_of(size, tile.level, tile.index)
    except Refused:
        return None


class _Rows:
    """The rows of entries, read beside the log's own copies."""

    def __init__(self, session: Session, folder: LogFolder, size: int) -> None:
        self.session = session
        self.folder = folder
        self.size = size
        self._held: tuple[int, list[bytes], bytes] = (-1, [], b"")

    def faults(self) -> Iterator[Fault]:
        sequenced = select(EntryRow).where(EntryRow.index.is_not(None)).order_by(EntryRow.index)
        place = 0
        for row in self.session.scalars(sequenced.execution_options(yield_per=ROWS_AT_ONCE)):
            index = row.index
            assert index is not None
            while place < min(index, self.size):
                yield self._missing(place)
                place += 1
            if index != place:
                yield Fault(f"{_ENTRIES}/{row.id}.index", index)
                continue
            place += 1
            if index >= self.size:
                yield from _faults_of(row, Leaf.parse)
            elif self._in_log(index, row.leaf):
                yield from _faults_of(row, Leaf.read)
            else:
                yield Fault(f"{_ENTRIES}/{row.id}.leaf", index)
        for absent in range(place, self.size):
            yield self._missing(absent)
        waiting = select(EntryRow).where(EntryRow.index.is_(None)).order_by(EntryRow.id)
        for row in self.session.scalars(waiting.execution_options(yield_per=ROWS_AT_ONCE)):
            yield from _faults_of(row, Leaf.parse)

    def _in_log(self, index: int, leaf: bytes) -> bool:
        """Whether the log holds this leaf there, by its bytes or, should the bundle be damaged, by its hash."""
        entries, hashes = self._tile(index // TILE_WIDTH)
        at = index % TILE_WIDTH
        if at < len(entries) and entries[at] == leaf:
            return True
        return hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES] == leaf_hash(leaf)

    def _missing(self, index: int) -> Fault:
        entries, _hashes = self._tile(index // TILE_WIDTH)
        try:
            return Fault(f"{_ENTRIES}/{Leaf.parse(entries[index % TILE_WIDTH]).id}", index)
        except (IndexError, Refused):
            return Fault(_ENTRIES, index)

    def _tile(self, number: int) -> tuple[list[bytes], bytes]:
        if self._held[0] != number:
            bundle = tile_of(self.size, ENTRIES, number)
            try:
                entries = parse_bundle(bundle, self.folder.load(bundle))
            except Refused:
                entries = []
            self._held = (number, entries, self.folder.load(tile_of(self.size, 0, number)))
        return self._held[1], self._held[2]


def _faults_of(row: EntryRow, parse: Callable[[bytes], Leaf]) -> Iterator[Fault]:
    """What in a row contradicts its own leaf."""
    try:
        leaf = parse(row.leaf)
    except Refused:
        yield Fault(f"{_ENTRIES}/{row.id}.leaf", row.index)
        return
    for column in ("id", "kind", "actor", "verb", "subject", "at"):
        if getattr(row, column) != getattr(leaf, column):
            yield Fault(f"{_ENTRIES}/{row.id}.{column}", row.index)
    if row.private is not None and sha256(row.private).hexdigest() != leaf.private_digest:
        yield Fault(f"{_ENTRIES}/{row.id}.private", row.index)
