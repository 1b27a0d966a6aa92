"""The sweeps: calls whose process died between the reservation and the settlement are ended; responses that were kept
for their time, and names of calls whose day is over, are deleted."""

from __future__ import annotations

from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.resources.serving import claims, kept
from gongqi.resources.serving.calls import MAX_SWEEP, sweep

SWEEP_EVERY_SECONDS = 30
FORGET_EVERY_SECONDS = 3600
MAX_BATCHES = 100  # 50,000 calls a sweep; what is left waits for the next


def sweep_calls(run: Run) -> int:
    ended = 0
    for batch in range(MAX_BATCHES):
        count = run.write(f"batch-{batch}", sweep)
        ended += count
        if count < MAX_SWEEP:
            break
    return ended


def forget(run: Run) -> int:
    forgotten = 0
    for what, forget_batch, size in (
        ("responses", kept.forget_expired, kept.BATCH),
        ("claims", claims.forget_old, claims.BATCH),
    ):
        for batch in range(MAX_BATCHES):
            count = run.write(f"{what}-{batch}", forget_batch)
            forgotten += count
            if count < size:
                break
    return forgotten


FLOWS = (Flow("serving.sweep", sweep_calls), Flow("serving.forget", forget))
SCHEDULES = (
    Schedule("serving.sweep", SWEEP_EVERY_SECONDS),
    Schedule("serving.forget", FORGET_EVERY_SECONDS),
)
