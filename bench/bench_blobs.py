"""What the blob store costs: a file of 1 GiB put and got, beside hashing and writing, or reading, the same bytes once.

    python -m bench blobs

Both ways write a file that was not there, and end with the bytes flushed to disk. They take turns, and the medians are
compared: a disk has moods.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import Figure
from gongqi.kernel.blobs import CHUNK_BYTES
from gongqi.kernel.blobs.folder import FolderBlobs

SIZE_BYTES = 1 << 30
ROUNDS = 5
LEAST = 0.8
Work = Callable[[], object]


def run() -> list[Figure]:
    pieces = [os.urandom(CHUNK_BYTES) for _ in range(16)]
    chunks = [pieces[number % len(pieces)] for number in range(SIZE_BYTES // CHUNK_BYTES)]
    with tempfile.TemporaryDirectory(prefix="gongqi-bench-") as folder:
        blobs, plain = FolderBlobs(Path(folder) / "blobs"), Path(folder) / "plain"
        digest = hashlib.sha256(b"".join(chunks)).hexdigest()

        def clear() -> None:
            blobs.remove(digest, put_before=time.time() + 1)
            plain.unlink(missing_ok=True)

        put, written = _in_turns(lambda: blobs.put(chunks), lambda: _write(plain, chunks), before=clear)
        blobs.put(chunks)
        got, read = _in_turns(lambda: _use(blobs, digest), lambda: _read(plain), before=lambda: None)
    return [
        _figure("blobs: put 1 GiB", put, "hash and write once", written),
        _figure("blobs: get 1 GiB", got, "read once", read),
    ]


def _figure(name: str, value: float, peer: str, peer_value: float) -> Figure:
    target = f"≥ 1; ratio ≥ {LEAST}"
    return Figure(name, value, "MiB/s", target, peer, peer_value, value / peer_value, least_ratio=LEAST)


def _in_turns(
    ours: Callable[[], object], theirs: Callable[[], object], *, before: Callable[[], None]
) -> tuple[float, float]:
    """The medians, in MiB/s."""
    speeds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for work, kept in zip((ours, theirs), speeds, strict=True):
            before()
            began = time.perf_counter()
            work()
            kept.append((SIZE_BYTES >> 20) / (time.perf_counter() - began))
    return statistics.median(speeds[0]), statistics.median(speeds[1])


def _write(path: Path, chunks: list[bytes]) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _use(blobs: FolderBlobs, digest: str) -> None:
    for _ in blobs.chunks(digest):
        pass


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(CHUNK_BYTES):
            pass
