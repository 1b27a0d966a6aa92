"""The one-time work that a new policy brings: the fees that were settled before there was any."""

from __future__ import annotations

from gongqi.economy.credits.service import MAX_WAITING, split_waiting
from gongqi.kernel.flows import MAX_STEPS, Flow, Run


def divide_waiting(run: Run) -> int:
    divided = 0
    for batch in range(MAX_STEPS):
        count = run.write(f"batch-{batch}", split_waiting)
        divided += count
        if count < MAX_WAITING:
            break
    return divided


FLOWS = (Flow("credits.split-waiting", divide_waiting),)
