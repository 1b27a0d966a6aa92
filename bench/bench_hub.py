"""What the hub's doors cost: large files in and out, a thousand small ones, and short questions among many repositories.

    make bench-hub

Each row is a module of hub/. One server process takes all uploads and direct downloads and its memory is watched from
the first to the last; what asks much of the disk comes one after another. nginx and curl are the machine's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import Figure
from bench.hub import downloads, repositories, snapshots, uploads
from bench.hub.serving import check_programs, serving
from gongqi import app
from gongqi.kernel.config import Settings

GROWTH_LIMIT_MIB = 128


__all__ = ["check_programs", "run"]


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="gongqi-bench-") as name:
        folder = Path(name)
        home, source = folder / "home", folder / "weights.bin"
        prepare(home)
        with serving(home) as hub:
            small = folder / "small.txt"
            small.write_text("# One\n", "utf-8")
            uploads.brought(small, hub.url, uploads.new_repository(hub), "LFS", folder, hub.token)
            hub.idle_mib = hub.memory_mib()  # what inspects has started by now
            with hub.watched():
                yield from uploads.run(hub, folder)
                repository = uploads.new_repository(hub)
                uploads.brought(source, hub.url, repository, "LFS", folder, hub.token)
                yield from downloads.direct(hub, repository, source)
                yield from snapshots.run(hub)
                yield from uploads.sparse(hub, folder)
            grown = hub.peak_mib - hub.idle_mib
            yield Figure("hub: memory added by all of these", grown, "MiB", f"≤ {GROWTH_LIMIT_MIB}")
        yield from downloads.behind(home, repository, source)
    yield from repositories.run()


def prepare(home: Path) -> None:
    """A foundation that has one repository of small files."""
    kernel = app.assemble(Settings.from_environment({"GONGQI_HOME": str(home)}))
    app.prepare(kernel)
    stored = {path: kernel.blobs.put(content) for path, content in snapshots.files().items()}
    repositories.fill(kernel, stored, count=1)
    kernel.db.close()
