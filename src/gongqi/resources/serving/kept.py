"""Responses that callers asked to be kept (`"store": true`), for the key that asked and nobody else.

Purpose: to be asked for again, and to be gone on from (`previous_response_id`). Basis: the caller's own word, for each
one. Retention: RETENTION_DAYS, or until the caller deletes it. No other text of a call is ever kept.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import func, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read, Write
from gongqi.resources.serving.models import KeptResponse

RETENTION_DAYS = 30  # as OpenAI's
MAX_BYTES = 2 << 20  # of one, with all that was said before it
MAX_OF_A_KEY = 10_000
BATCH = 200  # deleted in one transaction


def keep(ctx: Write, key: str, id: str, document: dict[str, Any]) -> None:
    """Raises Refused: serving.response-too-large, serving.responses-too-many."""
    content = orjson.dumps(document)
    if len(content) > MAX_BYTES:
        raise Refused("serving.response-too-large", limit_bytes=MAX_BYTES)
    count = ctx.session.scalar(select(func.count()).select_from(KeptResponse).where(KeptResponse.key == key))
    if (count or 0) >= MAX_OF_A_KEY:
        raise Refused("serving.responses-too-many", limit=MAX_OF_A_KEY)
    expires = ctx.now + timedelta(days=RETENTION_DAYS)
    ctx.add(KeptResponse(key=key, id=id, content=content, at=ctx.now, expires_at=expires))


def recall(ctx: Read, key: str, id: str) -> dict[str, Any]:
    """Input and response. Raises Refused serving.response-unknown, also for another key's and an expired one."""
    row = ctx.session.get(KeptResponse, (key, id))
    if row is None or row.expires_at <= ctx.now:
        raise Refused("serving.response-unknown", response=id)
    return orjson.loads(row.content)


def forget(ctx: Write, key: str, id: str) -> None:
    """Raises Refused serving.response-unknown."""
    row = ctx.session.get(KeptResponse, (key, id))
    if row is None:
        raise Refused("serving.response-unknown", response=id)
    ctx.session.delete(row)


def forget_expired(ctx: Write) -> int:
    """Delete a batch of those whose time is over; returns how many."""
    old = select(KeptResponse).where(KeptResponse.expires_at <= ctx.now).order_by(KeptResponse.expires_at).limit(BATCH)
    rows = list(ctx.session.scalars(old))
    for row in rows:
        ctx.session.delete(row)
    return len(rows)
