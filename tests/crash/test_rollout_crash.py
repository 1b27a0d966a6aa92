"""kill -9 at each boundary of a look at a roll-out: it climbs once, completes once, rolls back once, whoever looks next."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gongqi.kernel.clock import FixedClock
from gongqi.resources.serving.control import GatewayControl
from gongqi.resources.serving.rollouts import FLOW
from tests.sim.talk import Talk

pytestmark = [pytest.mark.long, pytest.mark.postgres]

SIM = Path(__file__).parents[1] / "sim"
PATIENCE_SECONDS = 60.0
CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import market as sim
from gongqi.books.evidence import service as evidence
from gongqi.kernel import flows
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.room import Kernel
from gongqi.kernel.worker import Worker

order = json.loads(sys.argv[2])
settings = Settings.from_environment({"GONGQI_HOME": order["home"], "GONGQI_DATABASE_URL": order["url"]})
kernel = sim.prepare(Kernel(settings, sim.house(), Database(order["url"]), FolderBlobs(settings.home / "blobs"),
                            record=evidence.append))

def boundary(name):
    if name == order["die_at"]:
        os.kill(os.getpid(), 9)
flows.boundary = boundary
Worker(kernel).run_until_idle()
"""
MOMENTS = (f"claimed {FLOW}", "before look", "inside look", "after look")
# what processes have reported; what becomes of it; the last entry of evidence
CASES = {
    "climbs": ([1000, 0, 0], [60, 0, 0], ("climbing", 100, None), "serving.rollout-climbed"),
    "rolls-back": ([1000, 5, 5], [100, 60, 60], ("rolled-back", 0, "faults"), "serving.rollout-rolled-back"),
    "completes": ([1000, 0, 0], [60, 0, 0], ("complete", 100, None), "serving.rollout-completed"),
}


@pytest.fixture
def sim() -> Any:
    sys.path.insert(0, str(SIM))
    try:
        import market  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.remove(str(SIM))
    return market


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("case", CASES)
def test_a_look_killed_anywhere_ends_in_the_same_state(
    sim: Any, build: Any, settings: Any, database_url: str, moment: str, case: str
) -> None:
    old, new, end, kind = CASES[case]
    clock = FixedClock(datetime.now().astimezone() - timedelta(seconds=70))
    market = sim.open_market(build, clock=clock)
    talk = Talk(market)
    route = talk.route()
    other = market.do(market.operator, "serving:endpoint:add", name="other", base_url="https://other.example.org/v1").id
    steps = [100] if case == "completes" else [50, 100]
    given = {"route": route.id, "endpoint": other, "model": "m2", "hold_seconds": 60, "calls": 50, "steps": steps}
    rollout = market.do(market.operator, "serving:rollout:begin", **given).id
    GatewayControl(market.kernel).report("p1", {rollout: {"old": old, "new": new, "is_stopped": False}})
    order = {"home": str(settings.home), "url": database_url, "die_at": moment}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(SIM), json.dumps(order)], timeout=PATIENCE_SECONDS, capture_output=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    market.kernel.clock = FixedClock(
        datetime.now().astimezone() + timedelta(seconds=31)
    )  # the dead one's lease is over
    market.work()
    got = market.ask(market.operator, "serving:rollout:get", rollout=rollout)
    assert (got.state, got.percent, got.reason) == end
    assert len(market.evidence(kind)) == 1 and len(got.path) == 2
    targets = market.ask(market.operator, "serving:route:targets", route=route.id).targets
    assert [each["endpoint"] for each in targets] == [other if case == "completes" else talk.endpoint]
