"""Subscriptions whose days are over end and, where they renew, begin anew; what is left of an ended one goes back, and is
credited once its sale has been invoiced."""

from __future__ import annotations

from gongqi.economy.billing import credit_notes, packages
from gongqi.kernel.flows import Flow, Run, Schedule

TURN_EVERY_SECONDS = 300  # a subscription may run that much longer than its days: in the buyer's favour
MAX_BATCHES = 1000


def turn(run: Run) -> int:
    """How many came to their end."""
    done = 0
    for batch in range(MAX_BATCHES):
        count = run.write(f"over-{batch}", packages.end_over)
        done += count
        if count < packages.BATCH:
            break
    run.write("give-back", packages.give_back)
    run.write("credit", credit_notes.credit_returned)
    return done


FLOWS = (Flow("billing.turn", turn),)
SCHEDULES = (Schedule("billing.turn", TURN_EVERY_SECONDS),)
