"""Bytes on their way in: a private file that grows, is checked against its digest, and is then placed in the store.

- What has come in survives a cut, and the death of the server: whoever has the token goes on at `size`. What a dead
  machine had not yet written out shows at the end, as a digest that is not the declared one.
- One writer at a time: the file is locked for as long as it is open, and the kernel lets go of a dead writer's lock.
- The digest of an upload that was never interrupted is made while it comes in; of one that was, by reading it once at
  its end. So many small pieces cost two passes over the bytes, not one pass each.
- An upload that has not moved for a day is dead; `sweep` removes it, and no other.
- The disk is told to begin with each part as soon as it is there, so that the flush at the end waits for little.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gongqi.kernel import blobs
from gongqi.kernel.blobs import Stored
from gongqi.kernel.blobs.faults import disk_faults
from gongqi.kernel.errors import Refused, Unavailable

STALE_SECONDS = 24 * 3600  # well below the grace of garbage.py, so that the age of a file says enough
WRITE_OUT_BYTES = 16 << 20  # large enough to be written in one go, small enough that little is left at the end
MAX_PIECES = 1024  # in one call to the system, as Linux has it (IOV_MAX)
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far an upload has come, and the digest up to there."""

    size: int
    hash: Any


class Upload:
    """Feed it, then `finish`; or `pause`, to go on another time. Left in any other way, nothing was ever there."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        size: int,
        place: Callable[[Path, Stored], None],
        *,
        hashed: bool,
        hurried: bool,
    ) -> None:
        self.token = path.name
        self.size = size
        self._path = path
        self._file = file
        self._place = place
        self._hash = hashlib.sha256() if hashed else None
        self._written_out = size
        self._hurried = hurried

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._file.closed:
            self.abandon()

    def feed(self, *pieces: bytes | bytearray) -> None:
        """Take in these pieces, in their order. They are not joined first: that takes as long as to hash them."""
        count = sum(map(len, pieces))
        if self.size + count > blobs.MAX_BLOB_BYTES:
            raise Refused("kernel.blob-too-large", limit_bytes=blobs.MAX_BLOB_BYTES)
        with disk_faults():
            _write(self._file, pieces)
        if self._hash is not None:
            for piece in pieces:
                self._hash.update(piece)
        self.size += count
        if self._hurried and self.size - self._written_out >= WRITE_OUT_BYTES:
            _write_out(self._file, self._written_out, self.size)
            self._written_out = self.size

    def mark(self) -> Mark:
        """Where an upload that is hashed as it comes is now, for `rewind`."""
        assert self._hash is not None
        return Mark(self.size, self._hash.copy())

    def rewind(self, mark: Mark) -> None:
        """Forget what has come in since."""
        with disk_faults():
            self._file.truncate(mark.size)
            self._file.seek(mark.size)
        self.size, self._hash = mark.size, mark.hash.copy()
        self._written_out = min(self._written_out, mark.size)

    def check(self, *, sha256: str | None = None, size: int | None = None) -> Stored:
        """What has come in. Raises Refused when it is not what was declared."""
        if size is not None and size != self.size:
            raise Refused("kernel.blob-truncated", got_bytes=self.size, want_bytes=size)
        if self._hash is None:
            with disk_faults(), open(self._path, "rb") as file:
                self._hash = hashlib.file_digest(file, "sha256")
        got = self._hash.hexdigest()
        if sha256 is not None and sha256 != got:
            raise Refused("kernel.digest-mismatch", got=got, want=sha256[:64])
        return Stored(got, self.size)

    def open(self) -> BinaryIO:
        """The bytes that have come in, for whoever must look at them before they are kept."""
        with disk_faults():
            return open(self._path, "rb")

    def finish(self, *, sha256: str | None = None, size: int | None = None) -> Stored:
        """Put the bytes in place. When they are not the declared ones this raises Refused, and they are gone; when the
        store cannot take them now it raises Unavailable, and this may be called again."""
        try:
            stored = self.check(sha256=sha256, size=size)
        except Refused:
            self.abandon()
            raise
        with disk_faults():
            os.fsync(self._file.fileno())
            self._place(self._path, stored)
        self.abandon()
        return stored

    def pause(self) -> str:
        """Let go and keep what has come in; returns the token to go on with."""
        self._file.close()
        return self.token

    def abandon(self) -> None:
        with disk_faults():
            self._path.unlink(missing_ok=True)  # before the lock goes: nobody can go on with half of it
        self._file.close()


class Incoming:
    """The folder of uploads. `place` takes a finished file out of it and into the store, atomically."""

    def __init__(self, folder: Path, place: Callable[[Path, Stored], None]) -> None:
        self.folder = folder
        self._place = place
        with disk_faults():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self, *, passing: bool = False) -> Upload:
        """A new upload; `passing` when it will be read here and dropped: then no digest is made, and no haste either."""
        path = self.folder / secrets.token_hex(16)
        with disk_faults():
            file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by finish, pause or abandon
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Upload(path, file, 0, self._place, hashed=not passing, hurried=not passing)

    def resume(self, token: str) -> Upload:
        """Raises Refused when there is no such upload, Unavailable while somebody else is still feeding it."""
        if not _TOKEN.fullmatch(token):
            raise Refused("kernel.upload-unknown")
        path = self.folder / token
        with disk_faults():
            try:
                file = open(path, "r+b", buffering=0)  # noqa: SIM115 - as above
            except FileNotFoundError:
                raise Refused("kernel.upload-unknown") from None
        if not try_lock(file):
            file.close()
            raise Unavailable("kernel.upload-busy", retry_after_seconds=5)
        if not is_at(path, file):  # it was placed or swept while we opened it; writing now would change a blob
            file.close()
            raise Refused("kernel.upload-unknown")
        size = file.seek(0, os.SEEK_END)
        return Upload(path, file, size, self._place, hashed=size == 0, hurried=True)

    def sweep(self) -> int:
        """Remove uploads that died; returns how many."""
        count = 0
        with disk_faults():
            for path in self.folder.iterdir():
                try:
                    with open(path, "rb") as file:
                        is_stale = time.time() - os.fstat(file.fileno()).st_mtime > STALE_SECONDS
                        if is_stale and try_lock(file) and is_at(path, file):
                            path.unlink()
                            count += 1
                except FileNotFoundError:
                    continue  # finished meanwhile
        return count


def _write(file: BinaryIO, pieces: Sequence[bytes | bytearray]) -> None:
    """All of them, though a call to the system may write fewer bytes than it is given."""
    written = os.writev(file.fileno(), pieces[:MAX_PIECES])
    for piece in pieces:
        rest = memoryview(piece)[written:]
        written = max(0, written - len(piece))
        while rest:
            rest = rest[file.write(rest) :]


def _write_out(file: BinaryIO, start: int, end: int) -> None:
    """Let the system begin to write these bytes to disk, without waiting for it.

    What is not on disk yet cannot be dropped from memory, so this advice makes Linux begin, and what is still being
    written stays where it can be read (PostgreSQL's pg_flush_data does the same). Systems without it lose only time.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)


def try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
