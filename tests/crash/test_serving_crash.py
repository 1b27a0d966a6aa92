"""kill -9 between the reservation of a fee and its settlement, and at every step of a return or a gathering.

Every call ends settled or released, no fee is taken twice, the ledger is true; outcomes and feedback join a dataset once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from tests.sim.talk import Talk

pytestmark = [pytest.mark.long, pytest.mark.postgres]

SIM = Path(__file__).parents[1] / "sim"
PATIENCE_SECONDS = 60.0
# The child stands on the market of `home`. It calls in four threads, one of which hangs in the model, or it works; and
# says what it was told.
CHILD = """
import json, os, sys, threading
sys.path.insert(0, sys.argv[1])
import market as sim
from gongqi.kernel import flows
from gongqi.kernel.worker import Worker
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.room import Kernel
from gongqi.books.evidence import service as evidence
from gongqi.resources.serving.engine import Engine

order = json.loads(sys.argv[2])
settings = Settings.from_environment({"GONGQI_HOME": order["home"], "GONGQI_DATABASE_URL": order["url"]})
kernel = sim.prepare(Kernel(settings, sim.house("chain.scenarios"), Database(order["url"]),
                            FolderBlobs(settings.home / "blobs"), record=evidence.append))

def say(word):
    os.write(1, f"{word}\\n".encode())

HANGS = 99.0

class Hanging(Engine):
    def run(self, sha256, inputs, outputs=()):
        if inputs[0].values[0] == HANGS:
            say("running")
            threading.Event().wait()
        return super().run(sha256, inputs, outputs)

if order["do"] == "infer":
    kernel.parts[Engine] = Hanging(kernel.blobs)
    market = sim.Market.__new__(sim.Market)
    market.kernel, market.orgs = kernel, order["orgs"]
    def load(thread):
        for number in range(1_000_000):
            key = f"{thread}-{number}"
            answer = market.infer([(1.0, 2.0)], key=key)
            say("done " + key + " " + answer["parameters"]["call"])
    for thread in range(3):
        threading.Thread(target=load, args=(thread,), daemon=True).start()
    market.infer([(HANGS, 2.0)], key="stuck")
else:
    def boundary(name):
        say(name)
        if name == order["die_at"]:
            os.kill(os.getpid(), 9)
    flows.boundary = boundary
    Worker(kernel).run_until_idle()
    say("idle")
"""


def load_sim() -> Any:
    sys.path.insert(0, str(SIM))
    try:
        import market
    finally:
        sys.path.remove(str(SIM))
    return market


@pytest.fixture
def sim():
    return load_sim()


class Scene:
    """A market of this process, and children that live on the same home."""

    def __init__(self, sim: Any, build: Any, settings: Settings, url: str) -> None:
        self.market = sim.open_market(build, "chain.scenarios")
        self.deployment = self.market.served()
        self.market.fund(100_000)
        self.market.budget(self.deployment, 90_000)
        self.order = {"home": str(settings.home), "url": url, "orgs": self.market.orgs}

    def child(self, **order: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, str(SIM), json.dumps(self.order | order)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def scene(sim, build, settings, database_url):
    return Scene(sim, build, settings, database_url)


def test_a_server_killed_between_reservation_and_settlement_owes_nobody(scene):
    market = scene.market
    child = scene.child(do="infer")
    said: list[str] = []
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        assert child.stdout is not None
        while "running" not in said or len(said) < 12:
            said.append(child.stdout.readline().strip())
            assert said[-1] and time.monotonic() < deadline
    finally:
        os.kill(child.pid, signal.SIGKILL)
        said += child.stdout.read().split("\n")[:-1]
        child.wait()
    done = dict(line.split()[1:] for line in said if line.startswith("done "))
    open_calls = [call for call in all_calls(market) if call.state == "reserved"]
    assert open_calls, "at least the call that hung was cut"
    for key, call in done.items():  # whoever asks again is told the same and pays nothing more
        assert market.infer([(1.0, 2.0)], key=key)["parameters"]["call"] == call
    later = FixedClock(datetime.now().astimezone() + timedelta(seconds=120))
    market.kernel.clock = later
    market.work(sweep=True)
    market.infer([(99.0, 2.0)], key="stuck")
    states = [call.state for call in all_calls(market)]
    assert set(states) <= {"settled", "released"}
    settled = states.count("settled")
    assert settled >= len(done) + 1
    assert market.balance(scene.deployment.id, "clearing") == 3 * settled
    assert market.balance("application") == 100_000 - 3 * settled
    assert market.balance("application", "held") == 0 and market.book_holds()
    [budget] = market.ask(market.operator, "serving:budget:list").items
    assert budget.spent == 3 * settled


def all_calls(market) -> list[Any]:
    calls, cursor = [], None
    while True:
        page = market.ask(market.operator, "serving:call:list", limit=200, cursor=cursor)
        calls += page.items
        cursor = page.next
        if cursor is None:
            return calls


STEPS = ("build-0", "commit-0")
MOMENTS = [f"{moment} {step}" for step in STEPS for moment in ("before", "inside", "after")]


@pytest.mark.parametrize("moment", [*MOMENTS, "finishing scenarios.return"])
def test_a_return_killed_at_any_step_joins_the_dataset_once(scene, moment):
    market = scene.market
    given = {"deployment": scene.deployment.id, "org": market.orgs["application"]}
    market.do(market.owner("application"), "scenarios:agreement:sign", **given)
    call = market.infer([(n, 1) for n in range(20)])["parameters"]["call"]
    records = [{"row": n, "record": f"s-{n}", "features": {"a": n, "b": 1}, "label": n % 2} for n in range(20)]
    told = {"deployment": scene.deployment.id, "call": call, "records": records}
    market.do(market.owner("application"), "scenarios:outcome:report", **told)
    back = {"deployment": scene.deployment.id, "asset": market.data[0]}
    started = market.do(market.owner("hospital"), "scenarios:return:start", **back)
    child = scene.child(do="work", die_at=moment)
    said, _ = child.communicate(timeout=PATIENCE_SECONDS)
    assert child.returncode == -signal.SIGKILL, said
    later = timedelta(seconds=60)  # the dead worker's lease is over
    market.kernel.clock = FixedClock(datetime.now().astimezone() + later)
    market.work()
    done = market.ask(market.owner("hospital"), "scenarios:return:get", back=started.id)
    assert (done.state, done.count, done.set_aside) == ("done", 20, 0)
    revisions = market.ask(market.operator, "hub:revision:list", asset=market.data[0]).items
    assert sorted(each.number for each in revisions) == [1, 2]
    assert len(market.evidence("scenarios.outcomes-returned")) == 1


@pytest.mark.parametrize("moment", [*MOMENTS, "finishing scenarios.gather"])
def test_a_gathering_killed_at_any_step_makes_one_revision_of_the_feedback(scene, moment):
    talk = Talk(scene.market)
    route = talk.route()
    for place, call in enumerate(talk.called(route, count=20)):
        talk.say(route, call, rating="up", correction=f"c-{place}" if place else "li.lei@example.org")
    started = scene.market.do(scene.market.owner("foundation"), "scenarios:feedback:gather", route=route.id)
    child = scene.child(do="work", die_at=moment)
    said, _ = child.communicate(timeout=PATIENCE_SECONDS)
    assert child.returncode == -signal.SIGKILL, said
    scene.market.kernel.clock = FixedClock(datetime.now().astimezone() + timedelta(seconds=60))
    scene.market.work()
    done = scene.market.ask(scene.market.operator, "scenarios:gathering:get", gathering=started.id)
    assert (done.state, done.count, done.set_aside) == ("done", 19, {"personal": 1})
    revisions = scene.market.ask(scene.market.operator, "hub:revision:list", asset=done.asset).items
    assert [each.id for each in revisions] == [done.revision]
    assert sorted(line["correction"] for line in talk.lines(done.revision)) == sorted(f"c-{n}" for n in range(1, 20))
    assert len(scene.market.evidence("scenarios.feedback-gathered")) == 1
