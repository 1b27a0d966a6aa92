"""What the ethics review does by itself: run evaluations, and close cases when their time has come."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from typing import Any

from gongqi.governance.ethics import decisions, evaluations, planning, sandbox
from gongqi.governance.ethics.events import ReviewDecided
from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.kernel.flows import Flow, Run

TRIES = 3  # a model that is three times too slow is too slow; a machine that is busy gets another chance
PAUSE_SECONDS = 60


def evaluate(run: Run, release: str) -> str:
    """Evaluate a release's model in a child process and store what came out, a failure too."""
    outcome: dict[str, Any] = {}
    late = 0
    for turn in count(1):
        outcome = run.call("run" if turn == 1 else f"run again {turn}", lambda _key: _evaluate(run, release))
        late += bool(outcome.get("is_late"))
        if not outcome.get("is_waiting") and (not outcome.get("is_late") or late == TRIES):
            break
        run.sleep(f"pause {turn}", PAUSE_SECONDS)
    return run.write("store", lambda ctx: evaluations.store(ctx, release, outcome), last=True)


def _evaluate(run: Run, release: str) -> dict[str, Any]:
    """Plan and run. A refusal is an answer about the model or the data, and so is lateness; our bugs are raised."""
    planned: dict[str, Any] = {}
    try:
        planned = run.kernel.look(lambda ctx: planning.plan(ctx, release))
        with planning.job_on(run.kernel, planned["job"]) as job, sandbox.turn(job) as is_ours:
            if not is_ours:
                return {"is_waiting": True}
            result = sandbox.run_evaluation(job)
    except (Refused, Unavailable) as error:
        return {**planned, **_failure(error)}
    return {**planned, "result": planning.check_result(planned["job"], result)}


def _failure(error: GongqiError) -> dict[str, Any]:
    is_late = error.code == "ethics.evaluation-timeout"
    is_unavailable = isinstance(error, Unavailable) and not is_late
    return {"code": error.code, "params": error.params, "is_late": is_late, "is_unavailable": is_unavailable}


def review(run: Run, case: str) -> None:
    """Settle a case when voting closes or the board has decided, and again when its approval comes to an end."""
    for turn in count(1):
        pending = run.write(f"settle {turn}", lambda ctx: decisions.settle_at_its_time(ctx, case))
        if pending is None:
            return
        state, moment = pending
        seconds = max(1.0, (datetime.fromisoformat(moment) - run.kernel.clock.now()).total_seconds())
        if state == "open":
            run.wait(f"decided {turn}", ReviewDecided.kind, case, timeout_seconds=seconds)
        else:
            run.sleep(f"ends {turn}", seconds)


FLOWS = (Flow("ethics.evaluate", evaluate), Flow("ethics.review", review))
