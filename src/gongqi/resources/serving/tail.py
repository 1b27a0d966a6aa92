"""The latest calls that a reader may see, as they are settled, without what was said: for a page that follows them.

Read from usage records, so it tells of the calls of all processes, a second or two after each has ended, and costs a call
nothing. Ids of calls begin with the time, so the latest are found by the primary key. Of more than ROWS between two looks
the latest are shown: this is a window, the records are the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.resources.serving import metering
from gongqi.resources.serving.models import ModelKey, Usage
from gongqi.resources.serving.months import names_of

READ = "serving:usage:read"
ROWS = 100
SPAN = timedelta(minutes=15)  # before which nothing is looked for: a call that ends later than that is not shown
_COLUMNS = (
    Usage.id, Usage.at, Usage.route, Usage.key, Usage.ending, Usage.input_tokens, Usage.output_tokens, Usage.duration_us,
    Usage.cost_nanos, Usage.unit,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """One call, in words of the reader's language; `cells` in the order of COLUMNS."""

    id: str
    cells: tuple[str, ...]


COLUMNS = ("at", "model", "key", "ending", "tokens", "took", "cost")


def latest(ctx: Read) -> list[Seen]:
    """The latest first. Raises Refused access.sign-in-needed."""
    if ctx.actor.is_anonymous:
        raise Refused("access.sign-in-needed", permission=READ)
    floor = f"gen_{int((ctx.now - SPAN).timestamp() * 1000):012x}"
    seen = ctx.visible(Usage, to=READ).where(Usage.id > floor).order_by(Usage.id.desc()).limit(ROWS)
    rows = ctx.session.execute(seen.with_only_columns(*_COLUMNS)).all()
    models = names_of(ctx, {row.route for row in rows})
    keys = ctx.visible(ModelKey, to="serving:key:read").where(ModelKey.id.in_(sorted({row.key for row in rows})))
    labels = {key.id: key.label for key in ctx.session.scalars(keys)}
    return [
        Seen(
            row.id,
            (
                f"{row.at:%H:%M:%S}", models.get(row.route, "–"), labels.get(row.key, "–"),
                ctx.text(f"serving.ending.{row.ending}"), f"{row.input_tokens} + {row.output_tokens}",
                ctx.text("serving.latency.ms", ms=round(row.duration_us / 1000, 1)),
                metering.exact(row.cost_nanos, row.unit),
            ),
        )
        for row in rows
    ]  # fmt: skip
