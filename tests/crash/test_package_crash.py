"""kill -9 at each boundary of the turn of packages: one ends once, is credited once and renewed once, whoever turns next."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gongqi.kernel.worker import Worker
from tests.economy.billing.conftest import Office, month
from tests.sim.desk import UNIT, Desk, open_desk

pytestmark = [pytest.mark.long, pytest.mark.postgres]

FLOW = "billing.turn"
STEPS = ("over-0", "give-back", "credit")
MOMENTS = (f"claimed {FLOW}", *(f"{when} {step}" for step in STEPS for when in ("before", "inside", "after")))
PATIENCE_SECONDS = 60.0
CHILD = """
import os, sys
from datetime import datetime
from pathlib import Path
from gongqi import app
from gongqi.kernel import flows
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.room import Kernel
from gongqi.kernel.worker import Worker

home, url, at, flow, die_at = sys.argv[1:]
told = Settings.from_environment({"GONGQI_HOME": home, "GONGQI_DATABASE_URL": url})
house = app.house()
house.schedules = tuple(each for each in house.schedules if each.kind == flow)
kernel = Kernel(told, house, Database(url), FolderBlobs(Path(home) / "blobs"), record=lambda ctx, entry: None,
                clock=FixedClock(datetime.fromisoformat(at)))

def boundary(name):
    if name == die_at:
        os.kill(os.getpid(), 9)
flows.boundary = boundary
Worker(kernel).run_until_idle()
"""


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]
) -> Iterator[tuple[Desk, Path, str]]:
    """A foundation whose worker turns packages and does nothing else, its folder and its database."""
    folder = tmp_path_factory.mktemp("turn")
    with new_database(folder) as url, open_desk(folder, url) as desk:
        desk.kernel.house.schedules = tuple(each for each in desk.kernel.house.schedules if each.kind == FLOW)
        yield desk, folder, url


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_turn_killed_anywhere_ends_in_the_same_state(house: tuple[Desk, Path, str], moment: str) -> None:
    desk, folder, url = house
    office = Office(desk)
    office.address(office.home)
    org, fund = desk.organisation(1_000), desk.fund(100)
    office.address(org)
    bought = {"org": org, "package": desk.package(80, 100, fund, days=70)}
    desk.do("billing:subscription:start", renews=True, **bought)
    desk.used(org, desk.priced_route(), 60)
    was = month(desk)
    desk.clock.advance(days=35)
    issued = office.issue(org, was)
    desk.clock.advance(days=36)
    command = [sys.executable, "-c", CHILD, str(folder), url, desk.clock.now().isoformat(), FLOW, moment]
    child = subprocess.run(command, timeout=PATIENCE_SECONDS, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    desk.clock.advance(seconds=31)  # the dead one's lease is over
    Worker(desk.kernel).run_until_idle()
    sold = desk.ask("billing:subscription:list", org=org).items
    assert sorted((each.state, each.returned) for each in sold) == [("ended", 32), ("running", None)]
    [note] = desk.ask("billing:invoice:list", corrects=issued.id).items
    assert (note.amount, [each.credit_note for each in sold if each.returned]) == (32, [note.id])
    assert (desk.balance(org), desk.balance(fund)) == (1_000 - 80 + 32 - 80, 100 - 20 + 8 - 20)
    told = desk.ask("billing:statement:get", org=org, month=month(desk), unit=UNIT)
    assert (told.credits, told.payments) == (32, 80)
    assert desk.ask("ledger:book:check").findings == []
