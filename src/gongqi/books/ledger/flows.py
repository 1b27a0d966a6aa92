"""The sweep that ends holds whose time is over, in bounded batches so that it never keeps the writer for long."""

from __future__ import annotations

from gongqi.books.ledger.service import MAX_EXPIRING, expire_holds
from gongqi.kernel.flows import Flow, Run, Schedule

EXPIRE_EVERY_SECONDS = 60  # a hold cannot be settled once its time is over; this is only how late the units come back
MAX_BATCHES = 100  # 50,000 holds a sweep; what is left waits for the next


def expire(run: Run) -> int:
    ended = 0
    for batch in range(MAX_BATCHES):
        count = run.write(f"batch-{batch}", expire_holds)
        ended += count
        if count < MAX_EXPIRING:
            break
    return ended


EXPIRE = Flow("ledger.expire-holds", expire)
SCHEDULE = Schedule(EXPIRE.kind, EXPIRE_EVERY_SECONDS)
