"""What the hub does by itself: give back the room of bytes that were brought and never used, catalogue what is missing,
bring home what was downloaded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gongqi.kernel.blobs.garbage import collect
from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.kernel.room import Chore
from gongqi.resources.hub import catalogue, drafts, extents, quotas, tally
from gongqi.resources.hub.elsewhere.fetching import FLOW as IMPORT
from gongqi.resources.hub.known import held_xorbs

HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS
MAX_TURNS = 2000  # a million blobs or assets a day; the rest can wait for the next


def sweep(run: Run) -> dict[str, Any]:
    """Let go of what nobody committed or made files of, end uploads that died, and let the store remove what nothing
    reaches.

    The search is a read and the letting go a short write that looks again, so that a large hub is not held up.
    """
    now = run.created_at
    for turn in range(1, MAX_TURNS + 1):
        found = run.call(f"find {turn}", lambda _key: run.kernel.look(lambda ctx: quotas.uncommitted(ctx, now=now)))
        if not found:
            break
        pairs = [(sha256, org) for sha256, org in found]
        run.write(f"let go {turn}", lambda ctx, pairs=pairs: quotas.let_go(ctx, pairs))
    for turn in range(1, MAX_TURNS + 1):
        if not run.write(f"lose {turn}", lambda ctx: extents.expire(ctx, now=now)):
            break
    run.call("held", lambda _key: held_xorbs(run.kernel).sweep_unknown(run.kernel))
    run.call("uploads", lambda _key: run.kernel.blobs.incoming.sweep())
    return run.call("bytes", lambda _key: asdict(collect(run.kernel.blobs, lambda: quotas.digests_in_use(run.kernel))))


def fill(run: Run) -> None:
    """Catalogue the assets that are not: those from before there was a catalogue, and all when it was emptied."""
    last = ""
    for turn in range(1, MAX_TURNS + 1):
        last = run.write(f"batch {turn}", lambda ctx, last=last: catalogue.fill(ctx, after=last))
        if last is None:
            return


def let_days_go(run: Run) -> None:
    """Forget who was counted on past days, and add up the days that are no longer recent."""
    run.write("marks", tally.forget)
    for turn in range(1, MAX_TURNS + 1):
        if not run.write(f"days {turn}", tally.fold):
            return


FLOWS = (Flow("hub.sweep", sweep), Flow("hub.catalogue", fill), Flow("hub.downloads", let_days_go), IMPORT)
SCHEDULES = (
    Schedule("hub.sweep", every_seconds=DAY_SECONDS),
    Schedule("hub.catalogue", every_seconds=DAY_SECONDS),
    Schedule("hub.downloads", every_seconds=HOUR_SECONDS),
)
CHORES = (
    Chore("hub.tally", tally.BRING_HOME_SECONDS, tally.bring_home),
    Chore("hub.drafts", drafts.LOOK_SECONDS, drafts.drop_idle),
)
