"""A foundation that fetches, and hubs that it fetches from."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.house.conftest import Foundation, wait_for
from tests.sim.upstream import Upstream, serving

CARD = b"---\ntitle: {zh: \xe6\xa0\xb7\xe4\xbe\x8b, en: Sample}\nlicense: CC-BY-4.0\n---\n# Sample\n"


@dataclass
class Here:
    """`donor` owns the north, `other` the south."""

    foundation: Foundation
    donor: Any
    other: Any
    north: str
    south: str
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def source(self, endpoint: str, **more: Any) -> dict[str, Any]:
        given = {"name": f"source-{next(self.numbers)}", "endpoint": endpoint, "is_inside": True} | more
        return self.foundation.operator.verb("hub:source:add", **given)

    def asset(self, **more: Any) -> str:
        return self.foundation.asset(self.donor, self.north, f"thing-{next(self.numbers)}", **more)

    def begin(self, source: dict[str, Any], asset: str, repo: str = "north/thing", **more: Any) -> dict[str, Any]:
        return self.donor.verb("hub:import:begin", source=source["id"], asset=asset, repo=repo, **more)

    def ended(self, made: dict[str, Any], state: str | None = None, seconds: float = 60) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            row = self.donor.read("hub:import:get", made["id"])
            return row if row["state"] in ("done", "failed", "cancelled") else None

        row = wait_for(look, seconds=seconds)
        assert state is None or row["state"] == state, row
        return row

    def revisions(self, asset: str) -> list[dict[str, Any]]:
        return self.donor.read("hub:revision:list", asset=asset)["items"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Here]:
    folder: Path = tmp_path_factory.mktemp("here")
    with new_database(folder) as url:
        foundation = Foundation(folder / "home", url)
        north, south = foundation.organisation("north"), foundation.organisation("south")
        donor, other = foundation.person("donor", north, "owner"), foundation.person("other", south, "owner")
        yield Here(foundation, donor, other, north, south)
        foundation.stop()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with serving(
        Upstream({"README.md": CARD, "data/a.csv": b"a,b\n1,2\n", "w.bin": random.randbytes(5 << 20)})
    ) as made:
        yield made


@pytest.fixture
def another() -> Callable[..., contextlib.AbstractContextManager[Upstream]]:
    return lambda files, **more: serving(Upstream(files, **more))
