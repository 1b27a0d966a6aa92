"""What identity does by itself: keep personal data no longer than the models' docstrings say."""

from __future__ import annotations

from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.members import sessions

DAY_SECONDS = 86_400


def forget(run: Run) -> None:
    """Delete what has had its time."""
    run.write("forget", sessions.forget)


FLOWS = (Flow("members.forget", forget),)
SCHEDULES = (Schedule("members.forget", DAY_SECONDS),)
