"""What an organisation calls and spends is its own: the public is shown the same whoever called, and for how much.

Two foundations live the same history, but for who calls and which of the calls is the large one. A stranger reads all
that can be read without an account, in both: every read, every page that a link or an id leads to, every file of the
log. Ids, digests and signatures are random and stand for themselves; nothing else may differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from gongqi.doors.web.api import path_of
from gongqi.doors.web.server import build as build_app
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.room import Kernel

pytestmark = pytest.mark.long

WEIGHTS = {"service": 2000, "model": 3500, "datasets": 2500, "compute": 1000, "foundation": 1000}
ID = re.compile(r"\b([a-z]{2,5})_[0-9a-hjkmnp-tv-z]{26}\b")
RANDOM = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
SHORTENED = re.compile(r"_…[0-9a-z]{6}|[0-9a-z/]{6,16}…")
MAX_FOUND = 2_000
NAMED = {  # by which field a read asks for an id of this kind
    "ev": "entry", "call": "call", "spl": "split", "dep": "deployment", "rel": "release", "ast": "asset",
    "rev": "revision", "org": "party", "spp": "policy",
}  # fmt: skip


class Ticking(FixedClock):
    """A millisecond later each time it is read, so that ids have one order and both histories the same times."""

    def now(self) -> datetime:
        self.advance(milliseconds=1)
        return super().now()


@contextmanager
def lived(folder: Any, url: str, sim: Any, caller: str, rows: tuple[int, ...]) -> Iterator[Any]:
    """A market in which `caller` alone has a budget, signs, calls once for each of `rows`, and reports an outcome."""
    folder.mkdir(exist_ok=True)
    database = Database(url)
    settings = Settings.from_environment({"GONGQI_HOME": str(folder), "GONGQI_DATABASE_URL": url})

    def build(house: Any, **more: Any) -> Kernel:
        Base.metadata.create_all(database.writer)  # every room is imported by now
        return Kernel(settings, house, database, FolderBlobs(folder / "blobs"), **more)

    market = sim.open_market(build, "chain.scenarios", "economy.credits", clock=Ticking())
    market.do(market.operator, "credits:policy:publish", **WEIGHTS)
    deployment = market.served()
    for role in ("application", "laboratory"):
        market.fund(1000, role=role)
    market.budget(deployment, 900, role=caller)
    signed = {"deployment": deployment.id, "org": market.orgs[caller]}
    market.do(market.owner(caller), "scenarios:agreement:sign", **signed)
    calls = [market.infer([(1.0, 2.0)] * count, role=caller)["parameters"]["call"] for count in rows]
    market.work()
    told = {"row": 0, "record": "s-1", "features": {"a": 1, "b": 2}, "label": 1}
    given = {"deployment": deployment.id, "call": calls[0], "records": [told]}
    market.do(market.owner(caller), "scenarios:outcome:report", **given)
    market.work()
    yield market
    database.close()


def told(market: Any) -> dict[str, str]:
    """All that a stranger is told, by what was asked: ids found in one answer are asked about next."""
    stranger = TestClient(build_app(market.kernel))
    house = market.kernel.house
    asked: dict[str, str] = {}
    found: list[str] = []

    def ask(path: str, named: str) -> None:
        answer = stranger.get(path, params={"lang": "en"} if not path.startswith(("/api", "/log")) else {})
        key = f"{named} ({sum(each.startswith(named + ' (') for each in asked)})"
        asked[key] = f"{answer.status_code} {plain(answer.text)}"
        found.extend(each for each in dict.fromkeys(m[0] for m in ID.finditer(answer.text)) if each not in found)

    for name, read in house.reads.items():
        if not read.input.model_json_schema().get("required"):
            ask("/api/v1/" + path_of(name), name)
    views = [view for room in house.rooms for view in room.views]
    for path in ["/", *(view.path for view in views if "{" not in view.path), "/log/checkpoint"]:
        ask(path, path)
    size = market.ask(ANONYMOUS, "evidence:log:checkpoint").size
    ask(f"/log/tile/entries/000.p/{size}", "entries")
    for id in found:
        assert len(found) < MAX_FOUND
        for name, read in house.reads.items():
            key = NAMED.get(id.partition("_")[0])
            if read.input.model_json_schema().get("required") == [key]:
                path = "/api/v1/" + path_of(name)
                ask(path.replace("{key}", id) if "{key}" in path else f"{path}?{key}={id}", name)
        for view in views:
            if "{key}" in view.path and view.id_prefix == id.partition("_")[0]:
                ask(view.path.replace("{key}", id), view.path)
    return asked


def plain(text: str) -> str:
    return SHORTENED.sub("#", RANDOM.sub("#", ID.sub(r"\1", text)))


def test_a_stranger_is_told_the_same_whoever_called_and_whichever_call_was_the_large_one(tmp_path, new_database, sim):
    seen = []
    for number, (caller, rows) in enumerate((("application", (1, 40)), ("laboratory", (40, 1)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        with new_database(folder) as url, lived(folder, url, sim, caller, rows) as market:
            seen.append(told(market))
    one, other = seen
    assert one.keys() == other.keys() and len(one) > 100
    for asked, answer in one.items():
        assert answer == other[asked], asked
