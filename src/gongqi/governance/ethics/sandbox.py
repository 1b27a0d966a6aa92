"""Runs an evaluation where a bad model can hurt nobody: a child process that is bounded and then forgotten.

The child (kernel/sandbox) has bounded processor time and address space, no network, may write no file, and has an empty
working directory, an empty environment and its own process group, which is ended when time is up. What evaluates a table
has one thread; what evaluates texts has a few, gives up its files as well, and does so one at a time: it takes minutes,
and those who wait for other work of the server are not to wait for it.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gongqi.governance.ethics import evaluate, texts
from gongqi.governance.ethics.evaluate import Job
from gongqi.governance.ethics.tasks import TextJob
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.kernel.sandbox import Bounds, run_file

OUTPUT_BYTES = 1 << 20  # a result is about 6 KB; what is larger is not a result
DETAIL_BYTES = 2000  # the end of a traceback; the log needs no more
RETRY_SECONDS = 60
_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Program:
    """What evaluates, and what it may use beside the model's own files, which are only mapped."""

    file: str
    seconds: float
    memory_bytes: int
    threads: int


TABLES = Program(evaluate.__file__, seconds=60, memory_bytes=2 << 30, threads=1)
TEXTS = Program(texts.__file__, seconds=1800, memory_bytes=4 << 30, threads=texts.THREADS)


def run_evaluation(
    job: Job | TextJob, *, timeout_seconds: float | None = None, memory_bytes: int | None = None
) -> dict[str, Any]:
    """Evaluate in a child process and return its result.

    Raises Refused (model or data unfit), Unavailable (no answer in time) or Broken (our bug).
    """
    program = TEXTS if isinstance(job, TextJob) else TABLES
    wait_seconds = timeout_seconds or program.seconds
    seconds, memory = math.ceil(wait_seconds), memory_bytes or program.memory_bytes + _mapped(job)
    bounds = Bounds(cpu_seconds=seconds * program.threads, memory_bytes=memory)
    ran = run_file(program.file, json.dumps(job.to_json()).encode(), bounds=bounds, wait_seconds=wait_seconds)
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


@contextlib.contextmanager
def turn(job: Job | TextJob) -> Iterator[bool]:
    """Whether this evaluation may run now: of texts one at a time, in this process."""
    if not isinstance(job, TextJob):
        yield True
        return
    is_mine = _turn.acquire(blocking=False)
    try:
        yield is_mine
    finally:
        if is_mine:
            _turn.release()


def _mapped(job: Job | TextJob) -> int:
    files = [*job.files.values(), job.data] if isinstance(job, TextJob) else []
    return sum(Path(path).stat().st_size for path in files)
