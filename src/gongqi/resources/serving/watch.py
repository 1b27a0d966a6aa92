"""What a model's calls were in the last day, for whoever may see them: how many, how they ended, how long they took.

Computed from usage records, which are the bill: what is shown here is what was charged. A page looks at the latest
MAX_CALLS of them and says so where there were more. The rules of sight are those of the records: an organisation sees its
own calls, those who run the foundation see all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from gongqi.kernel.verbs import Read
from gongqi.resources.serving import metering
from gongqi.resources.serving.models import Usage

HOURS = 24
MAX_CALLS = 10_000  # read for one page: some thirty milliseconds
PARTS = (50, 95, 99)
FAULTS = frozenset((metering.CUT, metering.TIMED_OUT, metering.KILLED, metering.REFUSED))
_COLUMNS = (
    Usage.at, Usage.ending, Usage.duration_us, Usage.first_byte_us, Usage.input_tokens, Usage.cached_tokens,
    Usage.output_tokens, Usage.cost_nanos, Usage.unit, Usage.repeats,
)  # fmt: skip


class Hour(NamedTuple):
    at: datetime
    calls: int
    faults: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Day:
    """`hours`: the earliest first, with what little came before it. `took_us` and `first_us`: by PARTS, of calls that
    came to their end; empty without any. `cost_nanos` by unit."""

    calls: int
    is_cut: bool
    endings: tuple[tuple[str, int], ...]
    faults: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_nanos: dict[str, int]
    took_us: tuple[int, ...]
    first_us: tuple[int, ...]
    hours: tuple[Hour, ...]


def day_of(ctx: Read, route: str) -> Day:
    """Of what the reader may see."""
    since = ctx.now - timedelta(hours=HOURS)
    seen = ctx.visible(Usage, to="serving:usage:read").where(Usage.route == route, Usage.at > since)
    latest = seen.order_by(Usage.at.desc()).limit(MAX_CALLS + 1).with_only_columns(*_COLUMNS)
    rows = ctx.session.execute(latest).all()
    return summed(rows[:MAX_CALLS], ctx.now, is_cut=len(rows) > MAX_CALLS)


def summed(rows: Sequence[Any], now: datetime, *, is_cut: bool) -> Day:
    ended = [row for row in rows if row.ending == metering.COMPLETE and row.repeats is None]
    cost: Counter[str] = Counter()
    beginning = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    hours = [[0, 0, 0] for _ in range(HOURS)]
    for row in rows:
        cost[row.unit] += row.cost_nanos
        hour = hours[max(0, int((row.at - beginning).total_seconds() // 3600))]
        hour[0] += 1
        hour[1] += row.ending in FAULTS
        hour[2] += row.input_tokens + row.output_tokens
    return Day(
        calls=len(rows), is_cut=is_cut, endings=tuple(Counter(row.ending for row in rows).most_common()),
        faults=sum(row.ending in FAULTS for row in rows), input_tokens=sum(row.input_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in rows), output_tokens=sum(row.output_tokens for row in rows),
        cost_nanos=dict(cost), took_us=percentiles([row.duration_us for row in ended]),
        first_us=percentiles([row.first_byte_us for row in ended if row.first_byte_us is not None]),
        hours=tuple(Hour(beginning + timedelta(hours=number), *hour) for number, hour in enumerate(hours)),
    )  # fmt: skip


def percentiles(values: Sequence[int], parts: Sequence[int] = PARTS) -> tuple[int, ...]:
    """For each part the least value that so many of a hundred do not exceed (nearest rank); none of none."""
    ordered = sorted(values)
    return tuple(ordered[-(-len(ordered) * part // 100) - 1] for part in parts) if ordered else ()
