"""What standards does by itself: read each revision of a dataset once it is committed, describe each release once it is
published, and forget what was read in files that are gone."""

from __future__ import annotations

from gongqi.chain.standards import documents, readings
from gongqi.chain.standards.tables import RECIPE
from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.kernel.verbs import Write
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.events import RevisionCommitted

READ = "standards.read"
READ_OLDER = "standards.read-older"
FORGET = "standards.forget"
CATCH_UP = "standards.catch-up"
CATCH_UP_SECONDS = 3600
DAY_SECONDS = 24 * 3600
AT_ONCE = 200  # releases or datasets found in one go; the next hour finds the next releases
MAX_TURNS = 2_000  # a million rows a day; the rest can wait for the next


def on_committed(ctx: Write, event: RevisionCommitted) -> None:
    """Have a dataset's tables read; the second delivery finds that under way."""
    if hub.asset_out(ctx, event.asset).kind == "dataset":
        _start(ctx, event.revision)


def _start(ctx: Write, revision: str) -> None:
    ctx.start_flow(READ, key=f"{revision}:{RECIPE}", revision=revision)


def read(run: Run, revision: str) -> list[int]:
    """Read the tables of a revision, then compare them with those before it: how many of each. What was kept before a
    crash is not read again."""
    facts = run.kernel.look(lambda ctx: hub.revision_facts(ctx, revision))
    count = readings.read_all(run.kernel, facts.files)
    parent = run.kernel.look(lambda ctx: hub.parent_of(ctx, revision))
    before = run.kernel.look(lambda ctx: hub.revision_facts(ctx, parent)).files if parent else ()
    return [count, readings.compare_all(run.kernel, before, facts.files)]


def read_older(run: Run) -> None:
    """Have read what was committed before there was this recipe: the last revision of each dataset."""
    last = ""
    for turn in range(1, MAX_TURNS + 1):

        def start(ctx: Write, last: str = last) -> str | None:
            heads = hub.heads_after(ctx, last, kind="dataset", limit=AT_ONCE)
            for _, revision in heads:
                _start(ctx, revision)
            return heads[-1][0] if len(heads) == AT_ONCE else None

        last = run.write(f"batch {turn}", start)
        if last is None:
            return


def forget(run: Run) -> None:
    last = ""
    for turn in range(1, MAX_TURNS + 1):
        last = run.write(f"batch {turn}", lambda ctx, last=last: readings.forget_lost(ctx, after=last))
        if last is None:
            return


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


FLOWS = (
    Flow(READ, read),
    Flow(READ_OLDER, read_older),
    Flow(FORGET, forget),
    Flow(documents.DESCRIBE, describe),
    Flow(CATCH_UP, catch_up),
)
SCHEDULES = (
    Schedule(CATCH_UP, every_seconds=CATCH_UP_SECONDS),
    Schedule(READ_OLDER, every_seconds=DAY_SECONDS),
    Schedule(FORGET, every_seconds=DAY_SECONDS),
)
