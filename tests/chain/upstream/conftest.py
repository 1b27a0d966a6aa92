"""A foundation that serves, with a clock that can be put forward, and every way by which something can be downloaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from gongqi.kernel.clock import SystemClock
from gongqi.resources.hub.gates import RELEASE_PUBLISH
from tests.house.conftest import Foundation, wait_for

CARD = b"---\ntitle: {zh: \xe6\xa0\xb7\xe4\xbe\x8b, en: Sample}\nlicense: CC-BY-4.0\n---\n# Sample\n"
BYTES = b"record,ill\n1,0\n"


class Ahead(SystemClock):
    """The machine's clock, put forward when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self._ahead

    def advance(self, **delta: float) -> None:
        self._ahead += timedelta(**delta)


@dataclass
class Thing:
    """A donated dataset with one published release."""

    donation: str
    asset: str
    slug: str
    revision: str
    oid: str
    release: str


@dataclass
class Chain:
    """`owner` owns the north, which donates; `member` belongs to the south; `stranger` to nobody."""

    foundation: Foundation
    clock: Ahead
    north: str
    owner: Any
    member: Any
    stranger: Any
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def who(self, name: str) -> Any:
        return getattr(self, name)

    def later(self, **delta: float) -> None:
        """Put the clock forward; sessions have ended by then, so the people come back."""
        self.clock.advance(**delta)
        self.owner, self.member = self.foundation.back("owner"), self.foundation.back("member")

    def offered(self, schedule: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        given = {
            "org": self.north, "slug": f"thing-{next(self.numbers)}", "kind": "dataset", "title_zh": "样例",
            "title_en": "Sample", "license": "CC-BY-4.0", "provenance": "made here", "schedule": schedule,
        }  # fmt: skip
        return self.owner.verb("upstream:donation:offer", **(given | more))

    def donated(self, schedule: list[dict[str, Any]], **more: Any) -> Thing:
        """Offered, accepted, filled and released."""
        f, offered = self.foundation, self.offered(schedule, **more)
        f.operator.verb("upstream:donation:accept", donation=offered["id"])
        asset = self.owner.read("hub:asset:get", offered["asset"])
        files = [f.bring(self.owner, self.north, "README.md", CARD), f.bring(self.owner, self.north, "a.csv", BYTES)]
        made = self.owner.verb("hub:revision:commit", asset=asset["id"], message="as received", files=files)
        release = self.owner.verb("hub:release:draft", asset=asset["id"], revision=made["id"], name="1.0.0")["id"]
        self.owner.verb("hub:release:submit", release=release)
        f.operator.verb("hub:release:publish", release=release)
        thing = Thing(offered["id"], asset["id"], asset["slug"], made["id"], made["digest"][:40], release)
        described = f"/api/v1/standards/release/{release}/mlbom.json"
        wait_for(lambda: f.operator.http.get(described).status_code == 200 or None)
        return thing

    def at(self, **ahead: float) -> str:
        return (self.clock.now() + timedelta(**ahead)).isoformat()

    def opened(self, thing: Thing, visibility: str) -> None:
        """Wait until the flow has opened it so far."""
        wait_for(lambda: self.owner.read("hub:asset:get", thing.asset)["visibility"] == visibility or None)


Path_ = Callable[[httpx.Client, Thing], httpx.Response]
_NAME = "north/{0.slug}"

# By which addresses bytes are had, and by which one learns what there is.
BYTES_BY: dict[str, Path_] = {
    "hf-resolve": lambda http, t: http.get(f"/datasets/north/{t.slug}/resolve/main/a.csv"),
    "hf-resolve-head": lambda http, t: http.head(f"/datasets/north/{t.slug}/resolve/main/a.csv"),
    "hf-resolve-commit": lambda http, t: http.get(f"/datasets/north/{t.slug}/resolve/{t.oid}/a.csv"),
    "hf-resolve-card": lambda http, t: http.get(f"/datasets/north/{t.slug}/resolve/main/README.md"),
    "hf-auth-check": lambda http, t: http.get(f"/api/datasets/north/{t.slug}/auth-check"),
    "oci-blob": lambda http, t: http.get(f"/v2/north/{t.slug}/blobs/sha256:{sha256(BYTES).hexdigest()}"),
    "plain-file": lambda http, t: http.get(f"/api/v1/hub/revision/{t.revision}/file/a.csv"),
    "bundle": lambda http, t: http.get(f"/api/v1/hub/release/{t.release}/bundle"),
}
FACTS_BY: dict[str, Path_] = {
    "hf-info": lambda http, t: http.get(f"/api/datasets/north/{t.slug}"),
    "hf-info-at": lambda http, t: http.get(f"/api/datasets/north/{t.slug}/revision/{t.oid}"),
    "hf-tree": lambda http, t: http.get(f"/api/datasets/north/{t.slug}/tree/main?recursive=true"),
    "hf-paths-info": lambda http, t: http.post(
        f"/api/datasets/north/{t.slug}/paths-info/main", data={"paths": "a.csv"}
    ),
    "hf-refs": lambda http, t: http.get(f"/api/datasets/north/{t.slug}/refs"),
    "hf-commits": lambda http, t: http.get(f"/api/datasets/north/{t.slug}/commits/main"),
    "oci-manifest": lambda http, t: http.get(f"/v2/north/{t.slug}/manifests/main"),
    "oci-tags": lambda http, t: http.get(f"/v2/north/{t.slug}/tags/list"),
    "console-asset": lambda http, t: http.get(f"/hub/asset/{t.asset}"),
    "console-revision": lambda http, t: http.get(f"/hub/revision/{t.revision}"),
    "console-release": lambda http, t: http.get(f"/hub/release/{t.release}"),
    "statement": lambda http, t: http.get(f"/api/v1/hub/release/{t.release}/statement"),
    "document": lambda http, t: http.get(f"/api/v1/standards/release/{t.release}/mlbom.json"),
}


def walk(chain: Chain, thing: Thing, who: str, paths: dict[str, Path_]) -> dict[str, int]:
    """By path, what this person is answered."""
    client = chain.who(who)
    browser = httpx.Client(base_url=chain.foundation.url, trust_env=False, timeout=60)
    if getattr(client, "secret", None):
        browser.cookies.set("gongqi_session", client.secret)
    with browser:
        return {
            name: ask(browser if "console" in name else client.http, thing).status_code for name, ask in paths.items()
        }


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Chain]:
    folder: Path = tmp_path_factory.mktemp("chain")
    with new_database(folder) as url:
        clock = Ahead()
        foundation = Foundation(folder / "home", url, clock=clock)
        answerers = foundation.kernel.house.answerers[RELEASE_PUBLISH.name]
        answerers[:] = [each for each in answerers if each.source.startswith("upstream.")]  # the others have tests
        north, south = foundation.organisation("north"), foundation.organisation("south")
        yield Chain(
            foundation, clock, north,
            owner=foundation.person("owner", north, "owner"),
            member=foundation.person("member", south, "member"),
            stranger=foundation.client(),
        )  # fmt: skip
        foundation.stop()
