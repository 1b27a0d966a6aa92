"""A content-addressed folder: `ab/cd/abcd…`, written once, never changed.

A blob appears whole or not at all: bytes go to a private temporary file while they are hashed, are flushed to disk, and
are then renamed into place (atomic on POSIX). Two writers of the same bytes both succeed. A crash leaves only a
temporary file, which `sweep` removes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gongqi.kernel.errors import Broken, Refused, Unavailable

CHUNK_BYTES = 1 << 20
MAX_BLOB_BYTES = 64 * 1024**3  # the largest single weights file in common use today is below this
STALE_SECONDS = 24 * 3600  # an upload that has not moved for a day is dead
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stored:
    sha256: str
    size: int


class Upload:
    """Bytes on their way in. Feed it, then `finish`; or `abandon`, and nothing was ever there."""

    def __init__(self, store: FolderBlobs) -> None:
        self._store = store
        self._path = store.incoming / secrets.token_hex(16)
        self._file: BinaryIO = open(self._path, "xb")  # noqa: SIM115 - closed by finish or abandon
        self._hash = hashlib.sha256()
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > MAX_BLOB_BYTES:
            raise Refused("kernel.blob-too-large", limit_bytes=MAX_BLOB_BYTES)
        self._hash.update(chunk)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _storage_error(error) from error

    def finish(self, *, sha256: str | None = None, size: int | None = None) -> Stored:
        """Put the bytes in place. Raises Refused when they are not the declared ones; nothing is kept then."""
        got = self._hash.hexdigest()
        try:
            if size is not None and size != self.size:
                raise Refused("kernel.blob-truncated", got_bytes=self.size, want_bytes=size)
            if sha256 is not None and sha256 != got:
                raise Refused("kernel.digest-mismatch", got=got, want=sha256[:64])
            self._place(got)
        except OSError as error:
            raise _storage_error(error) from error
        finally:
            self.abandon()
        return Stored(got, self.size)

    def _place(self, digest: str) -> None:
        target = self._store.path(digest)
        self._file.flush()
        os.fsync(self._file.fileno())
        fresh = [folder for folder in (target.parent, target.parent.parent) if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(self._path, 0o400)
        os.rename(self._path, target)
        for folder in (target.parent, *(folder.parent for folder in fresh)):  # a name is durable once its folder is
            _flush_folder(folder)

    def abandon(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class FolderBlobs:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        if not _DIGEST.fullmatch(sha256):
            raise Refused("kernel.digest-invalid", got=sha256[:80])
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def upload(self) -> Upload:
        try:
            return Upload(self)
        except OSError as error:
            raise _storage_error(error) from error

    def put(self, chunks: Iterable[bytes] | bytes, *, sha256: str | None = None) -> Stored:
        upload = self.upload()
        try:
            for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
                upload.feed(chunk)
        except BaseException:
            upload.abandon()
            raise
        return upload.finish(sha256=sha256)

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def size(self, sha256: str) -> int:
        return self._present(sha256).stat().st_size

    def open(self, sha256: str) -> BinaryIO:
        return open(self._present(sha256), "rb")

    def read(self, sha256: str, *, limit_bytes: int) -> bytes:
        """The whole blob, when it is at most `limit_bytes` long."""
        size = self.size(sha256)
        if size > limit_bytes:
            raise Refused("kernel.blob-too-large", limit_bytes=limit_bytes)
        with self.open(sha256) as file:
            return file.read()

    def chunks(self, sha256: str) -> Iterator[bytes]:
        with self.open(sha256) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def check(self, sha256: str) -> bool:
        """Whether the stored bytes still hash to their name."""
        digest = hashlib.sha256()
        for chunk in self.chunks(sha256):
            digest.update(chunk)
        return digest.hexdigest() == sha256

    def sweep(self) -> int:
        """Remove uploads that died; returns how many."""
        stale = [p for p in self.incoming.iterdir() if time.time() - p.stat().st_mtime > STALE_SECONDS]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def _present(self, sha256: str) -> Path:
        path = self.path(sha256)
        if not path.exists():
            raise Broken("kernel.blob-missing", sha256=sha256)
        return path


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _storage_error(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("kernel.disk-full", retry_after_seconds=60, detail=str(error))
    return error
