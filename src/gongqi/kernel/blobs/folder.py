"""A content-addressed folder: `ab/cd/abcd…`, written once, never changed.

An upload that is finished is flushed to disk and renamed into place (atomic on POSIX), with its time of last change set
to that moment: by it `remove` tells what was put again. Placing and removing a blob hold one lock, so either the removal
sees the new time and spares the blob, or the rename comes after it and the blob is there again. A process that dies
takes its lock with it and leaves at most a file in `incoming`.

`locks` has 256 files, by the first byte of the digest; `condemned` one empty file per blob that nothing reached.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gongqi.kernel.blobs import CHUNK_BYTES, MAX_BLOB_BYTES, Blobs, Held, Stored, check_digest, is_digest
from gongqi.kernel.blobs.faults import disk_faults
from gongqi.kernel.blobs.incoming import Incoming, Upload
from gongqi.kernel.errors import Broken

__all__ = ["CHUNK_BYTES", "MAX_BLOB_BYTES", "FolderBlobs", "Stored", "Upload"]

_BYTE = re.compile(r"[0-9a-f]{2}")


class FolderBlobs(Blobs):
    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = Incoming(root / "incoming", self._place)
        with disk_faults():
            for name in ("locks", "condemned"):
                (root / name).mkdir(mode=0o700, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the blob is or would be."""
        return Path(self._place_of(sha256))

    def _place_of(self, sha256: str) -> str:
        """As `path`, for what is asked with every download: to make a `Path` takes longer than to look at the file."""
        check_digest(sha256)
        return f"{self.root}/{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def find(self, sha256: str) -> Held | None:
        with disk_faults():
            return _held(self._place_of(sha256))

    def open(self, sha256: str) -> BinaryIO:
        with disk_faults():
            try:
                return open(self._place_of(sha256), "rb")
            except FileNotFoundError as error:
                raise Broken("kernel.blob-missing", sha256=sha256) from error

    def chunks(self, sha256: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self.open(sha256) as file, disk_faults():
            file.seek(start)
            left = (MAX_BLOB_BYTES if end is None else end) - start
            while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk

    @contextmanager
    def local(self, sha256: str) -> Iterator[Path]:
        self.size(sha256)
        yield self.path(sha256)

    def on_disk(self, sha256: str) -> Path:
        return self.path(sha256)

    def listing(self) -> Iterator[Held]:
        with disk_faults():
            for first in sorted(each for each in os.listdir(self.root) if _BYTE.fullmatch(each)):
                for second in sorted(each for each in os.listdir(self.root / first) if _BYTE.fullmatch(each)):
                    yield from _held_in(self.root / first / second)

    def remove(self, sha256: str, *, put_before: float) -> bool:
        path = self.path(sha256)
        with disk_faults(), self._locked(sha256):
            held = _held(path)
            if held is None or held.put_at >= put_before:
                return False
            path.unlink()
        self.pardon(sha256)
        return True

    def condemn(self, sha256: str) -> None:
        with disk_faults():
            (self.root / "condemned" / check_digest(sha256)).touch(mode=0o600)

    def pardon(self, sha256: str) -> None:
        with disk_faults():
            (self.root / "condemned" / check_digest(sha256)).unlink(missing_ok=True)

    def condemned(self) -> Iterator[tuple[str, float]]:
        with disk_faults():
            for held in _held_in(self.root / "condemned"):
                yield held.sha256, held.put_at

    def _place(self, part: Path, stored: Stored) -> None:
        target = self.path(stored.sha256)
        with self._locked(stored.sha256):
            fresh = [folder for folder in (target.parent, target.parent.parent) if not folder.exists()]
            target.parent.mkdir(parents=True, exist_ok=True)
            os.chmod(part, 0o400)
            now = time.time_ns()
            os.utime(part, ns=(now, now))  # by itself the kernel would put down the time of its last tick
            os.rename(part, target)
            for folder in (target.parent, *(folder.parent for folder in fresh)):  # a name is durable once its folder is
                _flush_folder(folder)

    @contextmanager
    def _locked(self, sha256: str) -> Iterator[None]:
        with open(self.root / "locks" / sha256[:2], "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _held(path: Path | str) -> Held | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return Held(os.path.basename(path), stat.st_size, stat.st_mtime)


def _held_in(folder: Path) -> Iterator[Held]:
    """What bears a digest as its name, in order; anything else is not ours to touch."""
    for name in sorted(filter(is_digest, os.listdir(folder))):
        if held := _held(folder / name):
            yield held


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
