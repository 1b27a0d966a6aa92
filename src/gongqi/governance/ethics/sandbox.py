"""Runs `evaluate.py` where a bad model can hurt nobody: a child process that is bounded and then forgotten.

The child (kernel/sandbox) has bounded processor time and address space, no network, may write no file, and has one
thread, an empty working directory, an empty environment and its own process group, which is ended when time is up.
"""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

from gongqi.governance.ethics import evaluate
from gongqi.governance.ethics.evaluate import Job
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.kernel.sandbox import Bounds, run_file

OUTPUT_BYTES = 1 << 20  # a result is about 6 KB; what is larger is not a result
DETAIL_BYTES = 2000  # the end of a traceback; the log needs no more
RETRY_SECONDS = 60


def run_evaluation(job: Job, *, timeout_seconds: float = 60, memory_bytes: int = 2 << 30) -> dict[str, Any]:
    """Evaluate in a child process and return its result.

    Raises Refused (model or data unfit), Unavailable (no answer in time) or Broken (our bug).
    """
    seconds = math.ceil(timeout_seconds)
    paths = {"model": str(Path(job.model).resolve()), "data": str(Path(job.data).resolve())}
    request = json.dumps({**job.to_json(), **paths}).encode()
    bounds = Bounds(cpu_seconds=seconds, memory_bytes=memory_bytes)
    ran = run_file(evaluate.__file__, request, bounds=bounds, wait_seconds=timeout_seconds)
    detail = ran.trouble[-DETAIL_BYTES:].decode("utf-8", "replace")
    if ran.status is None:
        raise Unavailable("ethics.evaluation-timeout", retry_after_seconds=RETRY_SECONDS, seconds=seconds)
    if ran.status < 0:
        raise Refused("ethics.model-crashes", signal=signal.Signals(-ran.status).name, detail=detail)
    if len(ran.output) > OUTPUT_BYTES or ran.status not in (0, 2):
        raise Broken("ethics.evaluation-failed", detail=detail)
    result = json.loads(ran.output)
    if ran.status == 0:
        return result
    if result["error"] == "ethics.evaluation-failed":
        raise Broken("ethics.evaluation-failed", detail=detail)
    raise Refused(result["error"], detail=detail, **result["params"])
