"""The sweep that ends calls whose process died between the reservation and the settlement."""

from __future__ import annotations

from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.resources.serving.calls import MAX_SWEEP, sweep

SWEEP_EVERY_SECONDS = 30
MAX_BATCHES = 100  # 50,000 calls a sweep; what is left waits for the next


def sweep_calls(run: Run) -> int:
    ended = 0
    for batch in range(MAX_BATCHES):
        count = run.write(f"batch-{batch}", sweep)
        ended += count
        if count < MAX_SWEEP:
            break
    return ended


FLOWS = (Flow("serving.sweep", sweep_calls),)
SCHEDULES = (Schedule("serving.sweep", SWEEP_EVERY_SECONDS),)
