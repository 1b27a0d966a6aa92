"""Runs `evaluate.py` where a bad model can hurt nobody: a child process that is bounded and then forgotten.

The child has bounded processor time and address space, may write no file, and has one thread, an empty working
directory, an empty environment and its own process group, which is ended when time is up. The child sets the bounds
itself before it opens the model: code between fork and exec is unsafe in a threaded parent.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gongqi.governance.ethics import evaluate
from gongqi.governance.ethics.evaluate import Job
from gongqi.kernel.errors import Broken, Refused, Unavailable

OUTPUT_BYTES = 1 << 20  # a result is about 6 KB; what is larger is not a result
DETAIL_BYTES = 2000  # the end of a traceback; the log needs no more
RETRY_SECONDS = 60


def run_evaluation(job: Job, *, timeout_seconds: float = 60, memory_bytes: int = 2 << 30) -> dict[str, Any]:
    """Evaluate in a child process and return its result.

    Raises Refused (model or data unfit), Unavailable (no answer in time) or Broken (our bug).
    """
    seconds = math.ceil(timeout_seconds)
    late = Unavailable("ethics.evaluation-timeout", retry_after_seconds=RETRY_SECONDS, seconds=seconds)
    limits = {"cpu_seconds": seconds, "memory_bytes": memory_bytes}
    paths = {"model": str(Path(job.model).resolve()), "data": str(Path(job.data).resolve())}
    request = json.dumps({**job.to_json(), **paths, "limits": limits}).encode()
    # One thread each: a pool reserves address space for every core, and the limit would depend on the machine.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JOBLIB_MULTIPROCESSING": "0"}
    with tempfile.TemporaryDirectory(prefix="gongqi-evaluate-") as empty:
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", evaluate.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=empty,
            env={"LANG": "C.UTF-8", **threads},
            start_new_session=True,  # so that the whole group can be ended, whatever the model started
        )
        try:
            answer, trouble = child.communicate(request, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise late from None
        finally:
            _end_group(child)
    detail = trouble[-DETAIL_BYTES:].decode("utf-8", "replace")
    if child.returncode == -signal.SIGXCPU:
        raise late
    if child.returncode < 0:
        raise Refused("ethics.model-crashes", signal=signal.Signals(-child.returncode).name, detail=detail)
    if len(answer) > OUTPUT_BYTES or child.returncode not in (0, 2):
        raise Broken("ethics.evaluation-failed", detail=detail)
    result = json.loads(answer)
    if child.returncode == 0:
        return result
    if result["error"] == "ethics.evaluation-failed":
        raise Broken("ethics.evaluation-failed", detail=detail)
    raise Refused(result["error"], detail=detail, **result["params"])


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End what is left of the child's process group, and reap the child."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
