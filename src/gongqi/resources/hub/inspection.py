"""Looking into bytes before they are kept: in a child process, which a bad file may crash, fill or keep busy in vain.

Parsers of hostile bytes, some written in C, never run in the server. `safety.py` says what is looked for, `inspector.py`
runs it in a child (kernel/sandbox) that holds the open file and nothing else: no network, no name of any other file. A
child that is ended refuses the file, and the server does not notice. A file costs a few milliseconds more for it, so
small texts take the same way: one way in is one thing to trust.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.kernel.sandbox import Bounds, Outcome, Spawner
from gongqi.resources.hub.formats import Finding
from gongqi.resources.hub.rules import check_path

MEMORY_BYTES = 2 << 30  # a graph of 128 MiB as text, as messages and in the checker; a member of an archive; xz
SECONDS = 60  # of processor time whatever the size: the largest archive allowed unpacks in ten
BYTES_PER_SECOND = (
    32 << 20
)  # and as much again for what must be read through: one core does 100 MB of text, 900 of weights
PATIENCE = 4  # how much longer than its processor time a child may take on a busy machine
RETRY_SECONDS = 30

INSPECTOR = Spawner(Path(__file__).with_name("inspector.py"))  # starts with the first file


@dataclass(frozen=True, slots=True)
class Inspected:
    """Bytes that may come in under this file name: their size, the warnings, the files they point at."""

    name: str
    size: int
    findings: tuple[dict[str, Any], ...]
    external: tuple[str, ...]


def inspect_blob(blobs: Blobs, sha256: str, path: str) -> Inspected:
    """Look into stored bytes as `inspect_file` does."""
    with blobs.local(sha256) as place, place.open("rb") as file:
        return inspect_file(file, path)


def inspect_file(file: BinaryIO, path: str) -> Inspected:
    """Look into an open file as `path`; slow for large files, so never inside a transaction.

    Files that an ONNX graph points at are not here yet: they are noted, and a commit must bring them. Raises Refused
    with the first finding that is not a mere warning, or when the file was too much for the child; Unavailable when the
    machine was too busy.
    """
    check_path(path)
    size = os.fstat(file.fileno()).st_size
    seconds = SECONDS + size // BYTES_PER_SECOND
    bounds = Bounds(cpu_seconds=seconds, memory_bytes=MEMORY_BYTES, processes=0)
    outcome = INSPECTOR.ask({"path": path, "size": size}, file, bounds=bounds, wait_seconds=PATIENCE * seconds)
    if outcome.ending != "done":
        raise _too_much(path, outcome, seconds)
    warnings = []
    for said in outcome.answer["findings"]:
        if said["severity"] == "refuse":
            raise _finding(said).refusal()
        warnings.append({name: said[name] for name in ("code", "path", "params")})
    external = tuple(outcome.answer["external"])
    return Inspected(PurePosixPath(path).name, size, tuple(warnings), external)


def _finding(said: Mapping[str, Any]) -> Finding:
    return Finding(said["code"], said["path"], said["offset"], said["params"], said["severity"])


def _too_much(path: str, outcome: Outcome, seconds: int) -> GongqiError:
    if outcome.ending == "memory":
        return Refused("hub.inspection-memory", path=path, limit_bytes=MEMORY_BYTES)
    if outcome.ending == "time":
        return Refused("hub.inspection-time", path=path, seconds=seconds)
    if outcome.ending == "late":
        return Unavailable("hub.inspection-late", retry_after_seconds=RETRY_SECONDS, path=path)
    return Refused("hub.inspection-crash", path=path, detail=outcome.detail)
