"""How long a log of a million entries takes to build, to prove from, to replay; what an entry costs in the database.

    python -m bench evidence

Peers: building and replaying hash every entry and every node once, so the raw limit is `hashlib.sha256` over messages
of those sizes, called as often. A proof reads three or four small files: the limit is reading them. An entry in the
database is one row: the limit is the driver's own `executemany` of the same rows into the same table.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench import Figure
from gongqi.books.evidence import service
from gongqi.books.evidence.folder import LogFolder
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.models import EntryRow
from gongqi.books.evidence.notes import Checkpoint, sign_checkpoint
from gongqi.books.evidence.room import ROOM
from gongqi.books.evidence.rules import inclusion_proof
from gongqi.books.evidence.service import origin_of
from gongqi.books.evidence.tiles import ENTRIES, Edge, Tile, TileReader, tile_of
from gongqi.books.evidence.verify import verify_log
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.worker import Worker

ENTRIES_BUILT = 1_000_000
BATCH = 16_384
PROOFS = 500
ROWS = 20_000


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        return [*_log(home / "log-only"), *_rows(home / "with-rows")]


def _log(home: Path) -> list[Figure]:
    leaves = [_leaf(number) for number in range(ENTRIES_BUILT)]
    edge, kept, built = Edge(), {}, 0.0
    for start in range(0, ENTRIES_BUILT, BATCH):
        batch = leaves[start : start + BATCH]
        began = time.perf_counter()
        edge, files = edge.append(batch)
        built += time.perf_counter() - began
        kept |= dict(files)
    size = f"{ENTRIES_BUILT:,}"
    hashing = _timed(lambda: _hash_all(leaves))
    keys = SigningKeys.load_or_generate(home / "keys")
    checkpoint = sign_checkpoint(Checkpoint(origin_of(keys.public), edge.size, edge.root), keys)
    _put(home / "log", kept, checkpoint)
    one, reading = _proof(LogFolder(home / "log"))
    began = time.perf_counter()
    assert list(verify_log(home)) == []
    replayed = time.perf_counter() - began
    return [
        Figure(f"evidence: build {size} entries", built, "s", "≤ 5", "raw sha256", hashing, built / hashing),
        Figure(f"evidence: proof at {size}, median", one, "ms", "≤ 1", "reading its tiles", reading, one / reading),
        Figure(f"evidence: replay {size} from files", replayed, "s", "≤ 60", "raw sha256", hashing, replayed / hashing),
    ]


def _leaf(number: int) -> bytes:
    entry = {"at": "2026-01-01T00:00:00.000000Z", "facts": {"n": number}, "kind": "bench.done", "v": 1}
    return json.dumps(entry).encode()


def _hash_all(leaves: list[bytes]) -> None:
    for leaf in leaves:
        sha256(b"\x00" + leaf).digest()
    pair = bytes(65)
    for _ in leaves:
        sha256(pair).digest()


def _put(root: Path, files: dict[Tile, bytes], checkpoint: bytes) -> None:
    """Onto the disk without waiting for it: what is measured is reading."""
    for tile, content in files.items():
        if tile == tile_of(ENTRIES_BUILT, tile.level, tile.index):
            path = root / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (root / "checkpoint").write_bytes(checkpoint)


def _proof(folder: LogFolder) -> tuple[float, float]:
    """The medians, in milliseconds, of a proof from the files with nothing held, and of reading those files."""
    proving, reading = [], []
    for number in range(PROOFS):
        index = number * (ENTRIES_BUILT // PROOFS)
        read: list[Tile] = []

        def load(tile: Tile, read: list[Tile] = read) -> bytes:
            read.append(tile)
            return folder.load(tile)

        reader = TileReader(ENTRIES_BUILT, load)
        proving.append(_timed(lambda index=index, reader=reader: inclusion_proof(index, ENTRIES_BUILT, reader)))
        reading.append(_timed(lambda read=read: [(folder.root / tile.path).read_bytes() for tile in read]))
        assert all(tile.level != ENTRIES for tile in read)
    return statistics.median(proving) * 1000, statistics.median(reading) * 1000


def _rows(home: Path) -> list[Figure]:
    kernel = _kernel(home)
    worker = Worker(kernel, threads=0)
    appending = _timed(lambda: kernel.transact(_append_all, reason="bench")) / ROWS * 1e6
    sequencing = _timed(worker.run_until_idle) / ROWS * 1e6
    began = time.perf_counter()
    assert list(verify_log(home, kernel.db)) == []
    checking = (time.perf_counter() - began) / ROWS * 1e6
    raw = _raw(kernel) / ROWS * 1e6
    kernel.db.close()
    peer = "raw executemany"
    return [
        Figure("evidence: append an entry in a verb", appending, "µs", "", peer, raw, appending / raw),
        Figure("evidence: sequence an entry, in batches", sequencing, "µs", "", peer, raw, sequencing / raw),
        Figure("evidence: verify an entry, its row and files", checking, "µs", "≤ 60", peer, raw, checking / raw),
    ]


def _kernel(home: Path) -> Kernel:
    settings = Settings.from_environment({"GONGQI_HOME": str(home)})
    settings.prepare_home()
    database = Database(settings.database_url)
    Base.metadata.create_all(database.writer)
    house = House.build([ROOM], Vocabulary({}))
    kernel = Kernel(settings, house, database, FolderBlobs(home / "blobs"), record=service.append)
    kernel.parts[SigningKeys] = SigningKeys.load_or_generate(home / "keys")
    kernel.transact(service.ensure, reason="bench")
    return kernel


def _append_all(ctx: Any) -> None:
    for number in range(ROWS):
        ctx.record(f"thing_{number}", kind="bench.done", digest="0" * 64, number=number)


def _raw(kernel: Kernel) -> float:
    """The same rows again, in one call of the driver, into the table emptied."""
    table = EntryRow.__table__
    with kernel.db.writer.begin() as connection:
        rows = [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table.name} ORDER BY id")]
        connection.execute(table.delete())
        marks = ", ".join("?" * len(table.columns))
        return _timed(lambda: connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({marks})", rows))


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
