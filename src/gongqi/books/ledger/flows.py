"""The sweep that ends holds whose time is over, and the marks that tie the book to the log of evidence.

A mark is an entry with the digest of the whole book up to a transaction. Whoever rewrites the book afterwards, with all
its digests and balances, must also rewrite the signed log, which others have copies of; `replay` compares. Both work in
bounded batches so that they never keep the writer for long.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from gongqi.books.evidence import service as evidence
from gongqi.books.ledger import rules
from gongqi.books.ledger.models import Transaction
from gongqi.books.ledger.replay import ANCHORED
from gongqi.books.ledger.service import MAX_EXPIRING, expire_holds
from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.kernel.verbs import Write

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


ANCHOR_EVERY_SECONDS = 600
SETTLED_SECONDS = 300  # on PostgreSQL a lower number may commit later; no transaction is open for so long
MAX_ANCHORED = 20_000  # transactions a mark; what is left has a mark of its own


def anchor(run: Run) -> None:
    for batch in range(MAX_BATCHES):
        if run.write(f"batch-{batch}", anchor_book) < MAX_ANCHORED:
            break


def anchor_book(ctx: Write) -> int:
    """Record the digest of the book up to the newest settled transaction; returns how many are new since the last."""
    last = evidence.newest_of(ctx.session, ANCHORED)
    facts = last.facts if last else {"through": 0, "transactions": 0, "digest": rules.EMPTY_BOOK}
    t = Transaction
    since = select(t.sequence, t.id, t.payload_digest, t.at).where(t.sequence > facts["through"]).order_by(t.sequence)
    settled = ctx.now - timedelta(seconds=SETTLED_SECONDS)
    count, through, digest = 0, facts["through"], facts["digest"]
    for sequence, id, payload_digest, at in ctx.session.execute(since.limit(MAX_ANCHORED)):
        if at > settled:
            break
        count, through, digest = count + 1, sequence, rules.chained(digest, sequence, id, payload_digest)
    if count:
        total = facts["transactions"] + count
        ctx.record("ledger", kind=ANCHORED, through=through, transactions=total, digest=digest)
    return count


EXPIRE = Flow("ledger.expire-holds", expire)
ANCHOR = Flow("ledger.anchor", anchor)
FLOWS = (EXPIRE, ANCHOR)
SCHEDULES = (Schedule(EXPIRE.kind, EXPIRE_EVERY_SECONDS), Schedule(ANCHOR.kind, ANCHOR_EVERY_SECONDS))
