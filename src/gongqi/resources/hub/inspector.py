"""What looks into an upload: served by a process that forks a bounded child for each file (`inspection.py` asks it).

Everything a format could need is imported here, once, so that a child begins at its work.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy  # noqa: F401 - `inspect_numpy` asks for it

from gongqi.resources.hub.formats import (
    Finding,
    operators,  # noqa: F401 - `inspect_onnx` asks for it
)
from gongqi.resources.hub.safety import inspect

EXTERNAL_PASSES = 20  # the inspector names at most 20 missing files a pass, so 400 in one graph
FINDING_LIMIT = 200  # of one file with all its members: the gate counts them, a person reads the first few


def serve(request: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
    """Look into `file` as `path`; other files that an ONNX graph points at may come later and are only named."""
    findings, external = _inspect(request["path"], file, request["size"])
    findings.sort(key=lambda finding: finding.severity != "refuse")  # stable: the first refusal stays the first
    shown = [
        {"code": f.code, "path": f.path, "offset": f.offset, "params": dict(f.params), "severity": f.severity}
        for f in findings[:FINDING_LIMIT]
    ]
    return {"findings": shown, "external": sorted(external)}


def _inspect(path: str, file: BinaryIO, size: int) -> tuple[list[Finding], set[str]]:
    external: set[str] = set()
    findings: list[Finding] = []
    for _ in range(EXTERNAL_PASSES):
        beside = frozenset(str(PurePosixPath(path).parent / name) for name in external) | {path}
        findings = inspect(path, file, size, beside)
        missing = {str(f.params["location"]) for f in findings if f.code == "hub.onnx-external-missing"}
        # A name that was shortened for display never turns up, and then the finding stands.
        if not missing - external:
            break
        external |= missing
    return findings, external
