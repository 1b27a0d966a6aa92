"""Rations of the limits a minute: drawn by data planes from one bucket a key, in the database that all of them share.

One transaction serves all the keys for which a process runs low.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from gongqi.kernel.verbs import Write
from gongqi.resources.serving import rates
from gongqi.resources.serving.models import KeyRate
from gongqi.resources.serving.rates import Answer, Ask, Bucket


def draw(ctx: Write, asks: Sequence[Ask]) -> list[Answer]:
    """Answers in the order of the questions."""
    now = int(ctx.now.timestamp() * 1000)
    wanted = select(KeyRate).where(KeyRate.key.in_([ask.key for ask in asks])).order_by(KeyRate.key).with_for_update()
    rows = {row.key: row for row in ctx.session.scalars(wanted)}
    return [_draw(ctx, rows.get(ask.key), ask, now) for ask in asks]


def _draw(ctx: Write, row: KeyRate | None, ask: Ask, now: int) -> Answer:
    if row is None:
        requests, tokens = (rates.full(limit, now) for limit in (ask.requests_per_minute, ask.tokens_per_minute))
        row = ctx.add(KeyRate(key=ask.key, request_level=requests.level, token_level=tokens.level, at_ms=now))
    requests, granted = rates.draw(Bucket(row.request_level, row.at_ms), ask.requests_per_minute, now, ask.requests)
    tokens, more = rates.draw(Bucket(row.token_level, row.at_ms), ask.tokens_per_minute, now, ask.tokens)
    row.request_level, row.token_level, row.at_ms = requests.level, tokens.level, requests.at
    return Answer(granted, more)
