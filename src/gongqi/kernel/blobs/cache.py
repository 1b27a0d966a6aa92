"""Blobs of a far store, kept for a while as files of this machine, for what takes only a path.

A file is whole and has been checked against its digest before it has its name, so bytes altered on the way or in the
far store are found here and not used. A file in use is locked, shared; when the limit is passed, what has not been used
for longest goes first, and what is in use does not go. Everything in here can be deleted while no server runs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gongqi.kernel.blobs import Stored
from gongqi.kernel.blobs.faults import disk_faults
from gongqi.kernel.blobs.incoming import Incoming, is_at, try_lock
from gongqi.kernel.errors import Broken, Refused


class Cache:
    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.incoming = Incoming(folder / "incoming", self.adopt)

    @contextmanager
    def holding(self, sha256: str, fetch: Callable[[str], Iterable[bytes]]) -> Iterator[Path]:
        """The blob as a file that stays for as long as the context does; fetched when it is not here."""
        path = self.folder / sha256
        with disk_faults():
            file = _held(path)
            while file is None:
                self._fetch(sha256, fetch)
                file = _held(path)
        with file:
            yield path

    def adopt(self, part: Path, stored: Stored) -> None:
        """Take over a file whose digest is known, and make room for it."""
        path = self.folder / stored.sha256
        os.chmod(part, 0o400)
        os.utime(part)
        os.rename(part, path)
        self._evict(keep=path)

    def _fetch(self, sha256: str, fetch: Callable[[str], Iterable[bytes]]) -> None:
        with self.incoming.begin() as upload:
            for chunk in fetch(sha256):
                upload.feed(chunk)
            try:
                upload.finish(sha256=sha256)
            except Refused as error:
                raise Broken("kernel.blob-altered", sha256=sha256, detail=str(error)) from error

    def _evict(self, *, keep: Path) -> None:
        with os.scandir(self.folder) as entries:
            stats = [(entry.stat(), Path(entry.path)) for entry in entries if entry.is_file()]
        total = sum(stat.st_size for stat, _ in stats)
        for stat, path in sorted(stats, key=lambda each: each[0].st_mtime):
            if total <= self.limit_bytes:
                return
            if path != keep and _drop(path):
                total -= stat.st_size


def _held(path: Path) -> BinaryIO | None:
    """The file, open and locked against eviction, or None when it is not there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if not is_at(path, file):  # evicted before we had the lock
        file.close()
        return None
    os.utime(path)  # used now
    return file


def _drop(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if not (try_lock(file) and is_at(path, file)):
                return False
            path.unlink()
    except FileNotFoundError:
        return False
    return True
