"""The sweeps: calls whose process died between the reservation and the settlement are ended, and leases of data planes
that vanished; responses that were kept for their time, and names of calls whose day is over, are deleted; feedback that
has waited for its days loses its content; what processes reported of roll-outs long over is deleted. And what climbs."""

from __future__ import annotations

from collections.abc import Callable

from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.kernel.verbs import Write
from gongqi.resources.serving import claims, drift, feedback, kept, leases, rollouts, tallies
from gongqi.resources.serving.calls import MAX_SWEEP, sweep

SWEEP_EVERY_SECONDS = 30
FORGET_EVERY_SECONDS = 3600
MAX_BATCHES = 100  # 50,000 calls a sweep; what is left waits for the next


def in_batches(run: Run, name: str, work: Callable[[Write], int], size: int) -> int:
    """Do `work` until it finds less than `size`; how much there was."""
    done = 0
    for batch in range(MAX_BATCHES):
        count = run.write(f"{name}-{batch}", work)
        done += count
        if count < size:
            break
    return done


def sweep_calls(run: Run) -> int:
    return in_batches(run, "batch", sweep, MAX_SWEEP)


def forget(run: Run) -> int:
    responses = in_batches(run, "responses", kept.forget_expired, kept.BATCH)
    names = in_batches(run, "claims", claims.forget_old, claims.BATCH)
    said = in_batches(run, "feedback", feedback.forget_over, feedback.BATCH)
    told = in_batches(run, "tallies", tallies.forget_old, tallies.BATCH)
    return responses + names + said + told + in_batches(run, "leases", leases.end_lost, leases.BATCH)


FLOWS = (
    Flow("serving.sweep", sweep_calls),
    Flow("serving.forget", forget),
    Flow("serving.watch-drift", drift.look),
    Flow(rollouts.FLOW, rollouts.climb),
)
SCHEDULES = (
    Schedule("serving.sweep", SWEEP_EVERY_SECONDS),
    Schedule("serving.forget", FORGET_EVERY_SECONDS),
    Schedule("serving.watch-drift", drift.WATCH_EVERY_SECONDS),
)
