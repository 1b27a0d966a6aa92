"""One request, one fresh interpreter: for work that takes seconds and wants the processor's libraries to itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from gongqi.kernel.sandbox import confine
from gongqi.kernel.sandbox.confine import Bounds

# One thread each: a pool reserves address space for every core, and the limit would depend on the machine.
ENVIRONMENT: Mapping[str, str] = {
    "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JOBLIB_MULTIPROCESSING": "0",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. `status` is as in `subprocess`: negative is a signal; None when its time was up."""

    status: int | None
    output: bytes
    trouble: bytes


def run_file(file: str, request: bytes, *, bounds: Bounds, wait_seconds: float) -> Ran:
    """Run a Python file with `request` as its standard input, in an empty folder; all it started ends with it."""
    with tempfile.TemporaryDirectory(prefix="gongqi-alone-") as empty:
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", confine.__file__, bounds.to_json(), file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=empty,
            env=ENVIRONMENT,
            start_new_session=True,  # so that the whole group can be ended, whatever it started
        )
        try:
            output, trouble = child.communicate(request, timeout=wait_seconds)
        except subprocess.TimeoutExpired:
            return Ran(None, b"", b"")
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
    return Ran(None if child.returncode == -signal.SIGXCPU else child.returncode, output, trouble)
