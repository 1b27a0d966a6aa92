"""Blobs in an S3 bucket: `s3://bucket/prefix?endpoint=https://…`.

A blob is one object, `blobs/<sha256>/<random>`: a name is written once and never again. S3 puts an object whole or not
at all, large ones in parts, so nothing half is ever seen, and no conditional put is needed. What S3 lacks is a way to say
"delete unless it was put again"; names that are never used again give it: `remove` deletes only the objects that it has
just listed and found old, and a put meanwhile has another name. A put that is done deletes the copies that it had listed
before it began; so the copy begun last always stays, and an extra one, left by two puts at once, does no harm.

Uploads grow in a folder of this machine (`incoming.py`) and go to S3 at their end: they can then be inspected, and gone
on with, as in the folder store, but only on the machine where they began. What takes a path reads through `cache.py`.

Retries, signatures and parts are obstore's. The parts of a put that was killed stay, unseen, until the bucket's rule for
incomplete multipart uploads removes them. Source: Amazon S3 API reference (consistency model, ListObjectsV2).
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from gongqi.kernel.blobs import Blobs, Held, Stored, check_digest, is_digest
from gongqi.kernel.blobs.cache import Cache
from gongqi.kernel.blobs.faults import RETRY_SECONDS, disk_faults
from gongqi.kernel.blobs.incoming import Incoming
from gongqi.kernel.errors import Broken, Unavailable

PART_BYTES = 16 << 20  # S3 allows 10,000 parts: 160 GB, above the largest blob
PARTS_AT_ONCE = 2  # times the part size is about what a put holds in memory
READ_BYTES = 4 << 20  # asked for at once: a slow reader then holds no connection open
CLOCK_SECONDS = 1  # S3 tells whole seconds, cut off: a put is never taken for older than it is
COPIES_TRIED = 5  # a reader whose copy was replaced looks for the new one


class _Copy(NamedTuple):
    put_at: float
    path: str
    size: int


class S3Blobs(Blobs):
    def __init__(self, store: S3Store, folder: Path, *, cache_bytes: int) -> None:
        self._store = store
        self.incoming = Incoming(folder / "incoming", self._place)
        self.cache = Cache(folder / "cache", cache_bytes)

    def ask(self) -> None:
        """Find out whether the store answers, lets us in, and has the bucket. Raises Unavailable."""
        with _faults(), suppress(FileNotFoundError):  # of a listing, obstore does not tell that it was denied
            obstore.head(self._store, "condemned")
        next(self.condemned(), None)

    def find(self, sha256: str) -> Held | None:
        copies = self._copies(sha256)
        return _newest(sha256, copies) if copies else None

    def open(self, sha256: str) -> BinaryIO:
        return io.BufferedReader(_Far(self, sha256), READ_BYTES)  # type: ignore[return-value]

    def chunks(self, sha256: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with _Far(self, sha256) as file:
            file.seek(start)
            while chunk := file.read(READ_BYTES if end is None else max(0, min(READ_BYTES, end - file.tell()))):
                yield chunk

    def local(self, sha256: str) -> AbstractContextManager[Path]:
        return self.cache.holding(check_digest(sha256), self.chunks)

    def listing(self) -> Iterator[Held]:
        for sha256, copies in groupby(self._list("blobs"), key=_second):
            if is_digest(sha256):
                yield _newest(sha256, copies)

    def remove(self, sha256: str, *, put_before: float) -> bool:
        copies = self._copies(sha256)
        if not copies or max(copies).put_at >= put_before:
            return False
        self._delete(copy.path for copy in copies)
        self.pardon(sha256)
        return True

    def condemn(self, sha256: str) -> None:
        with _faults():
            obstore.put(self._store, f"condemned/{check_digest(sha256)}", b"")

    def pardon(self, sha256: str) -> None:
        self._delete([f"condemned/{check_digest(sha256)}"])

    def condemned(self) -> Iterator[tuple[str, float]]:
        for note in self._list("condemned"):
            if is_digest(_second(note)):
                yield _second(note), note.put_at

    def newest(self, sha256: str) -> _Copy:
        """Raises Broken when there is none."""
        copies = self._copies(sha256)
        if not copies:
            raise Broken("kernel.blob-missing", sha256=sha256)
        return max(copies)

    def range_of(self, copy: _Copy, start: int, length: int) -> bytes | None:
        """Some bytes of a copy, or None when it has gone."""
        with _faults():
            try:
                return obstore.get_range(self._store, copy.path, start=start, length=length).to_bytes()
            except FileNotFoundError:
                return None

    def _place(self, part: Path, stored: Stored) -> None:
        before = self._copies(stored.sha256)
        name = f"blobs/{stored.sha256}/{secrets.token_hex(8)}"
        with _faults():
            obstore.put(self._store, name, part, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        self._delete(copy.path for copy in before)
        self.cache.adopt(part, stored)

    def _copies(self, sha256: str) -> list[_Copy]:
        return list(self._list(f"blobs/{check_digest(sha256)}"))

    def _list(self, prefix: str) -> Iterator[_Copy]:
        with _faults():
            for page in obstore.list(self._store, prefix=prefix):
                for each in page:
                    yield _Copy(each["last_modified"].timestamp() + CLOCK_SECONDS, each["path"], each["size"])

    def _delete(self, paths: Iterable[str]) -> None:
        if doomed := list(paths):
            with _faults():
                obstore.delete(self._store, doomed)


class _Far(io.RawIOBase):
    """A blob as a file that is read by ranges."""

    def __init__(self, blobs: S3Blobs, sha256: str) -> None:
        self._blobs = blobs
        self._sha256 = sha256
        self._copy = blobs.newest(sha256)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._copy.size}[whence]
        if start + offset < 0:
            raise ValueError("negative seek position")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        length = min(len(buffer), self._copy.size - self._at)
        if length <= 0:
            return 0
        data = self._range(length)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _range(self, length: int) -> bytes:
        for _ in range(COPIES_TRIED):
            data = self._blobs.range_of(self._copy, self._at, length)
            if data is not None:
                return data
            self._copy = self._blobs.newest(self._sha256)
        raise Broken("kernel.blob-missing", sha256=self._sha256)


def _second(copy: _Copy) -> str:
    return copy.path.split("/")[1]


def _newest(sha256: str, copies: Iterable[_Copy]) -> Held:
    copy = max(copies)
    return Held(sha256, copy.size, copy.put_at)


@contextmanager
def _faults() -> Iterator[None]:
    """Within, whatever S3 or the network says becomes Unavailable, as a disk's faults do."""
    with disk_faults():
        try:
            yield
        except BaseError as error:
            is_denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
            code = "kernel.storage-denied" if is_denied else "kernel.storage-failed"
            raise Unavailable(code, retry_after_seconds=RETRY_SECONDS, detail=str(error)[:2000]) from error
