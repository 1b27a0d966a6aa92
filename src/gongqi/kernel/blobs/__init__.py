"""Bytes, addressed by their SHA-256: what every store promises (`Blobs`), whatever it stands on.

- A blob appears whole or not at all, under the digest of its bytes, and never changes. Two writers of the same bytes
  both succeed.
- Bytes on their way in are private (`incoming.py`): they may be inspected, gone on with after a cut, or abandoned.
- A blob goes only by `remove`, which spares what was put again in the meantime; who may go is `garbage.py`'s to say.
- Whatever the disk or the network does is said as one of four: full, denied, not answering, missing.

`folder.py` is the embedded store, `s3.py` the one for more than one machine; one suite tests both.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gongqi.kernel.errors import Broken, Refused

if TYPE_CHECKING:
    from gongqi.kernel.blobs.incoming import Incoming, Upload

CHUNK_BYTES = 1 << 20
MAX_BLOB_BYTES = 64 * 1024**3  # the largest single weights file in common use today is below this
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stored:
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Held:
    """A blob in the store; `put_at` is when it was last put, in seconds since the epoch by the store's clock."""

    sha256: str
    size: int
    put_at: float


def is_digest(name: str) -> bool:
    return _DIGEST.fullmatch(name) is not None


def check_digest(sha256: str) -> str:
    """The digest, when it is one: 64 lower-case hexadecimal characters. Raises Refused."""
    if not is_digest(sha256):
        raise Refused("kernel.digest-invalid", got=sha256[:80])
    return sha256


class Blobs(ABC):
    """A store. The abstract methods differ from store to store; the rest follows from them."""

    incoming: Incoming

    @abstractmethod
    def find(self, sha256: str) -> Held | None:
        """The blob's size and age, or None when it is not there."""

    @abstractmethod
    def open(self, sha256: str) -> BinaryIO:
        """The blob as a seekable file."""

    @abstractmethod
    def chunks(self, sha256: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces of at most a few megabytes."""

    @abstractmethod
    def local(self, sha256: str) -> AbstractContextManager[Path]:
        """The blob as a file on this machine, for what takes only a path; to be read, and only within the context."""

    @abstractmethod
    def listing(self) -> Iterator[Held]:
        """Every blob, in ascending order of digest. One that comes or goes meanwhile may be in it or not."""

    @abstractmethod
    def remove(self, sha256: str, *, put_before: float) -> bool:
        """Remove the blob unless it was put at `put_before` or later; returns whether it has gone.

        A put that ends after this began leaves the blob present, whatever the order of the two on disk.
        """

    @abstractmethod
    def condemn(self, sha256: str) -> None:
        """Note that nothing reaches the blob as of now. It can be read as before."""

    @abstractmethod
    def pardon(self, sha256: str) -> None:
        """Forget such a note."""

    @abstractmethod
    def condemned(self) -> Iterator[tuple[str, float]]:
        """Every such note and when it was made, in ascending order of digest."""

    def on_disk(self, sha256: str) -> Path | None:
        """Where the blob is as a file for as long as it is in the store, or None when the store has no files."""
        check_digest(sha256)
        return None

    def upload(self, *, resume: str | None = None) -> Upload:
        """Begin an upload, or go on with the one that has this token."""
        return self.incoming.begin() if resume is None else self.incoming.resume(resume)

    def put(self, chunks: Iterable[bytes | bytearray] | bytes, *, sha256: str | None = None) -> Stored:
        with self.upload() as upload:
            for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
                upload.feed(chunk)
            return upload.finish(sha256=sha256)

    def has(self, sha256: str) -> bool:
        return self.find(sha256) is not None

    def size(self, sha256: str) -> int:
        found = self.find(sha256)
        if found is None:
            raise Broken("kernel.blob-missing", sha256=sha256)
        return found.size

    def read(self, sha256: str, *, limit_bytes: int) -> bytes:
        """The whole blob, when it is at most `limit_bytes` long."""
        if self.size(sha256) > limit_bytes:
            raise Refused("kernel.blob-too-large", limit_bytes=limit_bytes)
        return b"".join(self.chunks(sha256))

    def check(self, sha256: str) -> bool:
        """Whether the stored bytes still hash to their name."""
        digest = hashlib.sha256()
        for chunk in self.chunks(sha256):
            digest.update(chunk)
        return digest.hexdigest() == sha256
