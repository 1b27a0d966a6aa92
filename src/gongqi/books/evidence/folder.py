"""The log on disk: the files of `tiles.py` and the checkpoint in one folder that a web server could serve as it is.

Invariants
- A file appears whole or not at all, and is durable before anything that refers to it is: bytes are flushed under a
  temporary name, renamed, and the folder is flushed.
- One writer at a time, among threads and processes that share the folder: `writing` holds a lock that ends with its
  process. So a paused writer cannot put an older checkpoint over a newer one.
- A partial tile may be gone once a wider one is there; the wider one, cut to width, is the same bytes.

Source: c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gongqi.books.evidence.notes import MAX_NOTE_BYTES
from gongqi.books.evidence.rules import HASH_BYTES
from gongqi.books.evidence.tiles import CHECKPOINT, ENTRIES, TILE_WIDTH, Tile, new_tiles
from gongqi.kernel.errors import Unavailable

LOCK = "lock"
LOAD_TRIES = 3  # a partial tile may vanish between being listed and being read, when its successor is there
_TEMPORARY = ".part"


class LogFolder:
    """The files of one log under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def load(self, tile: Tile) -> bytes:
        """The file of `tile`, or what a wider file of the same tile says it holds; b"" if there is none."""
        for _ in range(LOAD_TRIES):
            try:
                return (self.root / tile.path).read_bytes()
            except FileNotFoundError:
                wider = self._wider(tile)
            for path in wider:
                with suppress(FileNotFoundError):
                    return cut(tile, path.read_bytes())
            if not wider:
                break
        return b""

    def checkpoint(self) -> bytes | None:
        """The published checkpoint as it stands on disk, or None."""
        try:
            with (self.root / CHECKPOINT).open("rb") as file:
                return file.read(MAX_NOTE_BYTES + 1)
        except FileNotFoundError:
            return None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder for writing; raises Unavailable while another process does."""
        if not self.root.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            _flush([self.root.parent])
        with (self.root / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Unavailable("evidence.log-held", retry_after_seconds=1) from error
            yield

    def write(self, files: Iterable[tuple[Tile, bytes]]) -> None:
        """Put tiles in place; durable when this returns."""
        folders: set[Path] = set()
        for tile, content in files:
            folders |= self._put(self.root / tile.path, content)
        _flush(folders)

    def publish(self, note: bytes) -> None:
        """Put the checkpoint in place, which says that all its tiles are."""
        _flush(self._put(self.root / CHECKPOINT, note))

    def prune(self, older: int, size: int) -> None:
        """Remove the partial tiles that the log does not need at `size` entries, where it has grown since `older`."""
        for tile in new_tiles(older, size):
            partials = (self.root / Tile(tile.level, tile.index, 1).path).parent
            for path in _listed(partials):
                if path != self.root / tile.path:
                    path.unlink()
            if tile.width == TILE_WIDTH and partials.is_dir():
                partials.rmdir()

    def files(self) -> Iterator[str]:
        """The paths of all files under tile/ that are in place, relative to the root."""
        for path in sorted(self.root.glob("tile/**/*")):
            if path.is_file() and path.suffix != _TEMPORARY:
                yield str(path.relative_to(self.root))

    def _wider(self, tile: Tile) -> list[Path]:
        if tile.width == TILE_WIDTH:
            return []
        full = self.root / Tile(tile.level, tile.index).path
        partials = _listed((self.root / tile.path).parent)
        wider = [path for path in partials if path.name.isdigit() and int(path.name) > tile.width]
        return [path for path in (*wider, full) if path.exists()]

    def _put(self, path: Path, content: bytes) -> set[Path]:
        """Write one file; returns the folders that must be flushed before it is durable."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + _TEMPORARY)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return {folder for folder in path.parents if folder.is_relative_to(self.root)}


def cut(tile: Tile, content: bytes) -> bytes:
    """The first `tile.width` hashes or entries of a file of the same tile; all of it when it holds fewer."""
    if tile.level != ENTRIES:
        return content[: tile.width * HASH_BYTES]
    end = 0
    for _ in range(tile.width):
        end += 2 + int.from_bytes(content[end : end + 2], "big")
    return content[:end]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _flush(folders: Iterable[Path]) -> None:
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
