"""The write-ahead file: what the data plane did, on disk before anyone is told.

A record is a line: CRC-32, a blank, JSON. `s` a call is under way, `p` so much of a stream was delivered, `e` a call has
ended, `l` a lease will not be spent from any more. Each is whole in itself, so that whoever settles need remember
nothing between two lines; `s` and `p` matter only after a death.

Records gather for one turn of the event loop and are written with one system call, before any answer of that turn is
delivered; a thread flushes the disk soon after, for all that was written meanwhile. So kill -9 loses nothing that was
delivered; the power going may lose the records of the last FLUSH_SECONDS, and then nobody is charged for them.

A folder belongs to one life of one process, which holds its lock. Segments are small, so that what is settled can be
deleted while the rest is written. When more than `limit_bytes` wait to be settled, or the disk refuses, the plane takes no
new calls: those under way have their room, because every call admitted has set HEADROOM aside.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson
import structlog

SEGMENT_BYTES = 8 << 20  # some 20,000 records: one or two batches of the settlement
LIMIT_BYTES = 512 << 20  # some 1,200,000 calls that wait: a minute or two of the fastest machine, hours of most
HEADROOM_BYTES = 2048  # of an admitted call: its start, its end and some progress
FLUSH_SECONDS = 0.1
MAX_LINE_BYTES = 4096
CLAIM_TRIES = 500
CLAIM_SECONDS = 0.01  # between two of them

log = structlog.get_logger("gongqi.serving.spool")


class Spool:
    """The open end of one folder. `add` is for the event loop's thread alone."""

    def __init__(self, root: Path, plane: str, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = root / plane
        self.limit_bytes = limit_bytes
        self.under_way = 0
        self.is_failing = False
        self._lock = claim(self.folder)
        sync_folder(root)
        self._waiting: list[bytes] = []
        self.number = 0
        self._listed = 0  # up to which segment the folder's list is on disk
        self._size = 0
        self._older = 0  # bytes in earlier segments that are not deleted yet
        self._descriptor = -1
        self._full: list[int] = []  # segments that are written and not yet flushed for the last time
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._guard = threading.Lock()
        self._next_segment()
        self._flusher = threading.Thread(target=self._flush, name="spool-flush", daemon=True)
        self._flusher.start()

    @property
    def has_older(self) -> bool:
        """Whether there are segments that can be deleted once they are settled."""
        return self._older > 0

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._older + self._size

    @property
    def is_full(self) -> bool:
        held = self.size + (self.under_way + 1) * HEADROOM_BYTES
        return self.is_failing or held > self.limit_bytes

    def add(self, record: list[Any]) -> None:
        self._waiting.append(line_of(record))

    def write(self) -> bool:
        """Put what was added on disk; False when the disk refuses, and then it is tried again with what comes next."""
        if not self._waiting:
            return True
        data = b"".join(self._waiting)
        try:
            while data:
                written = os.write(self._descriptor, data)
                self._size += written
                data = data[written:]
        except OSError as error:
            if not self.is_failing:
                log.error("spool cannot be written", folder=str(self.folder), error=str(error))
            self._waiting = [data]  # from where it broke off: a line may be half there, and is completed
            self.is_failing = True
            return False
        self._waiting.clear()
        self.is_failing = False
        if not self._dirty.is_set():
            self._dirty.set()
        if self._size >= SEGMENT_BYTES:
            self._next_segment()
        return True

    def forget(self, settled_segment: int) -> None:
        """Delete the segments before this one, all of which is settled."""
        freed = 0
        for number, path in segments(self.folder):
            if number < min(settled_segment, self.number):
                freed += path.stat().st_size
                path.unlink()
        self._older -= freed

    def close(self) -> None:
        self.write()
        self._closing.set()
        self._dirty.set()
        self._flusher.join()
        self._flush_now()
        os.close(self._descriptor)
        self._descriptor = -1  # a call that ends later still writes nowhere, and not where the number is used again
        self._lock.close()

    def _next_segment(self) -> None:
        path = self.folder / f"{self.number + 1:08d}.log"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            if self._descriptor < 0:
                raise
            return  # the present one grows on, and the next write tries again
        with self._guard:
            if self._descriptor >= 0:
                self._full.append(self._descriptor)
            self._descriptor = descriptor
        self._older, self._size = self._older + self._size, 0
        self.number += 1
        self._dirty.set()

    def _flush(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            self._dirty.clear()
            self._flush_now()
            self._closing.wait(FLUSH_SECONDS)

    def _flush_now(self) -> None:
        """The present segment, those that were begun before it, and the folder's list of them."""
        with self._guard:
            full, self._full = self._full, []
            files = [*full, os.dup(self._descriptor)]
        try:
            for file in files:
                os.fdatasync(file)
            if self._listed < self.number:
                listed = self.number
                sync_folder(self.folder)
                self._listed = listed
        except OSError as error:
            log.error("spool cannot be flushed", folder=str(self.folder), error=str(error))
        finally:
            for file in files:
                os.close(file)


def sync_folder(folder: Path) -> None:
    """Put the list of what is in a folder on disk: without it a file may be flushed and not be found."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def line_of(record: list[Any]) -> bytes:
    body = orjson.dumps(record)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def record_of(line: bytes) -> list[Any] | None:
    """The record of a line, or None for one that was not written whole."""
    if len(line) < 11 or line[8:9] != b" " or len(line) > MAX_LINE_BYTES:
        return None
    body = line[9:].rstrip(b"\n")
    try:
        if int(line[:8], 16) != zlib.crc32(body):
            return None
        return orjson.loads(body)
    except ValueError:
        return None


def read_from(path: Path, offset: int, limit_bytes: int) -> tuple[list[list[Any]], int]:
    """(records after `offset`, the offset after the last whole line); a line that is damaged is passed over and said."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(limit_bytes)
    end = data.rfind(b"\n") + 1
    records = []
    for line in data[:end].splitlines(keepends=True):
        record = record_of(line)
        if record is None:
            log.error("spool line is damaged", segment=str(path), length=len(line))
        else:
            records.append(record)
    return records, offset + end


def segments(folder: Path) -> list[tuple[int, Path]]:
    found = ((path.stem, path) for path in folder.glob("*.log"))
    return sorted((int(stem), path) for stem, path in found if stem.isdigit())


def folders(root: Path) -> Iterator[Path]:
    """Every spool folder of this home, oldest first."""
    if root.exists():
        yield from sorted(path for path in root.iterdir() if path.is_dir())


def claim(folder: Path) -> IO[str]:
    """A new folder and its lock. Whoever settles may find it before it is held, take it for a dead one's and remove it;
    then it is made again."""
    for _ in range(CLAIM_TRIES):
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            lock = hold(folder / "lock")
            if (folder / "lock").exists():
                return lock
            lock.close()
        time.sleep(CLAIM_SECONDS)
    raise BlockingIOError(f"{folder} cannot be held")


def hold(path: Path) -> IO[str]:
    """A lock for the life of this process; raises BlockingIOError while another has it."""
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock
