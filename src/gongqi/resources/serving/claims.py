"""Names of calls (`Idempotency-Key`), each claimed by one call for a day, across processes and restarts.

Kept are digests: of the caller's word, and of the request that it names. Whether a call that has a claim is over is told
by its usage record, which is the bill: what was charged is never made again under the same name.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from gongqi.kernel.verbs import Write
from gongqi.resources.serving import metering
from gongqi.resources.serving.models import CallClaim, Usage
from gongqi.resources.serving.plane.snapshot import Claimed

CLAIM_HOURS = 24
LOST_SECONDS = (
    1200  # after which a call without a record never began: longer than a call may last and wait for its books
)
BATCH = 500  # deleted in one transaction


def claim(ctx: Write, *, key: str, name: str, fingerprint: str, call: str) -> Claimed | None:
    """Make the name this call's; or the call that has it."""
    row = ctx.session.get(CallClaim, (key, name))
    if row is None:
        row = ctx.add(CallClaim(key=key, name=name, fingerprint=fingerprint, call=call, at=ctx.now))
        return None
    if ctx.now - row.at < timedelta(hours=CLAIM_HOURS):
        if row.fingerprint != fingerprint:
            return Claimed(row.call, row.fingerprint, is_over=False)
        usage = ctx.session.get(Usage, row.call)
        if usage is None and ctx.now - row.at < timedelta(seconds=LOST_SECONDS):
            return Claimed(row.call, row.fingerprint, is_over=False)
        if usage is not None and (usage.cost_nanos or usage.ending == metering.COMPLETE):
            return Claimed(row.call, row.fingerprint, is_over=True)
    row.fingerprint, row.call, row.at = fingerprint, call, ctx.now
    return None


def unclaim(ctx: Write, *, key: str, name: str, call: str) -> None:
    """The call that had this name came to nothing and cost nothing."""
    row = ctx.session.get(CallClaim, (key, name))
    if row is not None and row.call == call:
        ctx.session.delete(row)


def forget_old(ctx: Write) -> int:
    """Delete a batch of the claims whose day is over; returns how many."""
    until = ctx.now - timedelta(hours=CLAIM_HOURS)
    rows = list(ctx.session.scalars(select(CallClaim).where(CallClaim.at <= until).order_by(CallClaim.at).limit(BATCH)))
    for row in rows:
        ctx.session.delete(row)
    return len(rows)
