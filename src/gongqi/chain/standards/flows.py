"""What standards does by itself: describe each release once it is published."""

from __future__ import annotations

from gongqi.chain.standards import documents
from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.kernel.verbs import Write
from gongqi.resources.hub import service as hub

CATCH_UP = "standards.catch-up"
CATCH_UP_SECONDS = 3600
AT_ONCE = 200  # releases found in one go; the next hour finds the next


def describe(run: Run, release: str) -> str | None:
    """Write the documents and keep them. What is written before a crash is written again: it is the same."""
    made = documents.describe(run.kernel, release)
    return run.write("keep", lambda ctx: documents.keep(ctx, release, made), last=True)


def catch_up(run: Run) -> int:
    """Have described what was published before there were documents."""

    def start(ctx: Write) -> int:
        found = hub.undocumented(ctx, limit=AT_ONCE)
        for release in found:
            ctx.start_flow(documents.DESCRIBE, key=release, release=release)
        return len(found)

    return run.write("start", start, last=True)


FLOWS = (Flow(documents.DESCRIBE, describe), Flow(CATCH_UP, catch_up))
SCHEDULES = (Schedule(CATCH_UP, every_seconds=CATCH_UP_SECONDS),)
