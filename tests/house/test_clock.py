"""A machine whose clock was set back while nobody ran."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gongqi import app
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.flows import FlowRow

DELAY_SECONDS = 60


def lived(settings: Settings, ahead: timedelta) -> None:
    """A foundation that was founded, and left a flow to run in a minute, by a clock that was `ahead`."""
    kernel = app.assemble(settings, clock=FixedClock(datetime.now(UTC) + ahead))
    with closing(kernel.db):
        app.prepare(kernel)
        kernel.transact(
            lambda ctx: ctx.start_flow("kernel.forget", key="late", delay_seconds=DELAY_SECONDS), reason="test"
        )


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=400)])
def test_after_a_restart_nothing_waits_for_the_old_time(tmp_path: Path, database_url: str, ahead: timedelta) -> None:
    settings = Settings.from_environment({"GONGQI_HOME": str(tmp_path), "GONGQI_DATABASE_URL": database_url})
    lived(settings, ahead)
    kernel = app.assemble(settings)
    with closing(kernel.db), kernel.db.reading() as session:
        wake_at = session.query(FlowRow).filter_by(kind="kernel.forget", key="late").one().wake_at
        assert wake_at - kernel.clock.now() <= timedelta(seconds=DELAY_SECONDS)
        wrong = kernel.clock.now() - datetime.now(UTC)
        assert wrong < timedelta(days=1), "a date is never more than a day off"
