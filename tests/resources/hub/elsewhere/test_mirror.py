"""A foundation that stands in for another hub: what was asked for once travels once, and nothing closed is passed on."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from gongqi.doors.cli.client import Problem
from gongqi.kernel.clock import SystemClock
from gongqi.kernel.errors import Unavailable
from gongqi.resources.hub.elsewhere import mirroring, shared
from gongqi.resources.hub.elsewhere.outside import Outside
from gongqi.resources.hub.elsewhere.shared import Fetch, Fetches
from gongqi.resources.hub.models import Blob
from tests.house.conftest import Foundation, wait_for
from tests.resources.hub.elsewhere.conftest import CARD, Here
from tests.sim.upstream import Upstream, serving

pytestmark = pytest.mark.heavy

MEGABYTES = 1 << 20
SNAPSHOT = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], repo_type="dataset", local_dir=sys.argv[2]))
"""


class Ahead(SystemClock):
    """The machine's clock, put forward when a test says so."""

    ahead = 0.0

    def now(self) -> Any:
        return super().now() + timedelta(seconds=self.ahead)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Here]:
    folder: Path = tmp_path_factory.mktemp("mirror")
    with new_database(folder) as url:
        foundation = Foundation(folder / "home", url, clock=Ahead())
        north, south = foundation.organisation("north"), foundation.organisation("south")
        donor, other = foundation.person("donor", north, "owner"), foundation.person("other", south, "owner")
        yield Here(foundation, donor, other, north, south)
        foundation.stop()


@pytest.fixture
def mirror(here: Here) -> Iterator[Callable[..., dict[str, Any]]]:
    """`mirror(url)`: stand in for what serves there, until the test is over."""
    op, made = here.foundation.operator, []

    def stand_in(url: str, limit_bytes: int = 1 << 30, **more: Any) -> dict[str, Any]:
        made.append(here.source(url, **more))
        return op.verb("hub:source:mirror", source=made[-1]["id"], limit_bytes=limit_bytes)

    yield stand_in
    for source in made:
        op.verb("hub:source:mirror", source=source["id"], limit_bytes=0)


def get(here: Here, path: str, **headers: str) -> httpx.Response:
    return httpx.get(here.foundation.url + path, headers=headers, trust_env=False, timeout=60)


def resolve(path: str, rev: str = "main") -> str:
    return f"/datasets/far/thing/resolve/{rev}/{path}"


def far(**files: bytes) -> Upstream:
    return Upstream(
        {"README.md": CARD, **{name.replace("_", "."): content for name, content in files.items()}}, repo="far/thing"
    )


def asked(upstream: Upstream, path: str) -> int:
    """How often the bytes of a file were asked for; heads count too."""
    return sum(count for address, count in upstream.asked.items() if address.endswith(f"/{path}"))


@pytest.mark.long
def test_the_stock_client_takes_a_snapshot_through_a_mirror_of_a_real_foundation(
    here: Here, mirror: Any, tmp_path: Path, new_database: Any
) -> None:
    (tmp_path / "there").mkdir()
    with new_database(tmp_path / "there") as url:
        there = Foundation(tmp_path / "there" / "home", url)
        org = there.organisation("far")
        owner = there.person("owner", org, "owner")
        asset = there.asset(owner, org, "thing", visibility="public")
        content = {"README.md": CARD, "data/w.bin": random.randbytes(2 * MEGABYTES)}
        files = [there.bring(owner, org, path, each) for path, each in content.items()]
        made = owner.verb("hub:revision:commit", asset=asset, message="m", files=files)
        mirror(there.url)

        def snapshot(name: str) -> Path:
            environment = {"HF_ENDPOINT": here.foundation.url, "HF_HOME": str(tmp_path / "hf"), "PATH": "/usr/bin:/bin"}
            command = [sys.executable, "-c", SNAPSHOT, "far/thing", str(tmp_path / name)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, done.stderr
            return tmp_path / name

        first = snapshot("first")
        assert {path: (first / path).read_bytes() for path in content} == content
        head = httpx.head(here.foundation.url + resolve("data/w.bin"), trust_env=False)
        assert head.headers["etag"] == f'"{sha256(content["data/w.bin"]).hexdigest()}"'
        assert head.headers["x-repo-commit"] == made["digest"][:40]
        there.stop()
    # the line is dead now, and what was asked for once is still here
    here.foundation.kernel.clock.ahead += mirroring.FRESH_SECONDS + 1
    second = snapshot("second")
    assert (second / "data/w.bin").read_bytes() == content["data/w.bin"]
    assert "stale=" in get(here, resolve("data/w.bin")).headers["x-gongqi-mirror"]


def test_many_who_ask_at_once_share_one_fetch_and_read_while_it_comes(here: Here, mirror: Any) -> None:
    gate, content = threading.Event(), random.randbytes(4 * MEGABYTES)
    with serving(far(w_bin=content)) as upstream:
        upstream.faults["w.bin"] = {"gate": gate, "gate_at": 2 * MEGABYTES}
        mirror(upstream.url)
        url = here.foundation.url + resolve("w.bin")
        with httpx.stream("GET", url, trust_env=False, timeout=60) as early:
            pieces = early.iter_raw()
            came = len(next(pieces))
            assert came and not gate.is_set()  # the first bytes are here before the last have been sent
            with ThreadPoolExecutor(4) as pool:
                others = [pool.submit(get, here, resolve("w.bin")) for _ in range(4)]
                part = pool.submit(get, here, resolve("w.bin"), range="bytes=100-199")
                gate.set()
                assert all(each.result().content == content for each in others)
                assert (part.result().status_code, part.result().content) == (206, content[100:200])
            assert came + sum(map(len, pieces)) == len(content)
        bodies = upstream.asked[f"/datasets/far/thing/resolve/{upstream.sha}/w.bin"]
        again = get(here, resolve("w.bin"))
        assert again.content == content
        assert upstream.asked[f"/datasets/far/thing/resolve/{upstream.sha}/w.bin"] == bodies <= 7  # six heads, one body


def test_a_reader_who_comes_when_the_fetch_has_just_ended_reads_from_the_store(
    here: Here, mirror: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, begin = random.randbytes(MEGABYTES), Fetch.chunks

    def late(fetch: Fetch, start: int, end: int) -> Iterator[bytes]:
        wait_for(lambda: fetch._is_over or None)
        return begin(fetch, start, end)

    monkeypatch.setattr(Fetch, "chunks", late)
    with serving(far(late_bin=content)) as upstream:
        mirror(upstream.url)
        assert get(here, resolve("late.bin")).content == content
        assert get(here, resolve("late.bin"), range="bytes=7-99").content == content[7:100]


def test_a_cut_line_is_gone_on_with_and_a_lie_is_neither_kept_nor_ever_whole(here: Here, mirror: Any) -> None:
    content = random.randbytes(3 * MEGABYTES)
    with serving(far(cut_bin=content, lie_bin=content[::-1], odd_bin=content[1:])) as upstream:
        mirror(upstream.url)
        upstream.faults["cut.bin"] = {"cut": [2, MEGABYTES]}
        assert get(here, resolve("cut.bin")).content == content
        assert any(each.startswith("cut.bin bytes=") for each in upstream.ranges)
        upstream.faults["lie.bin"] = {"digest": True}
        with pytest.raises(httpx.RemoteProtocolError):
            get(here, resolve("lie.bin"))
        upstream.faults.clear()
        assert get(here, resolve("lie.bin")).content == content[::-1]  # nothing of the lie was kept
        upstream.faults["odd.bin"] = {"elsewhere": "http://127.0.0.1:9/odd.bin"}
        answer = get(here, resolve("odd.bin"))
        assert answer.status_code in (403, 502), answer.text


def test_what_is_closed_there_is_not_passed_on_and_what_closes_is_let_go(here: Here, mirror: Any) -> None:
    clock = here.foundation.kernel.clock
    with serving(far(w_bin=random.randbytes(MEGABYTES))) as upstream:
        source = mirror(upstream.url)
        assert get(here, resolve("w.bin")).status_code == 200
        upstream.private = True
        clock.ahead += mirroring.FRESH_SECONDS + 1
        for path in (
            resolve("w.bin"),
            resolve("README.md"),
            "/api/datasets/far/thing",
            "/api/datasets/far/thing/tree/main",
        ):
            assert get(here, path).status_code == 404
        assert not here.foundation.kernel.look(
            lambda ctx: mirroring.has_anything(ctx, source["id"], "datasets/far/thing")
        )
        upstream.private, upstream.gated = False, "manual"
        assert get(here, resolve("w.bin")).status_code == 404
        upstream.gated = False
        assert get(here, resolve("w.bin")).status_code == 200


def test_names_at_home_are_never_passed_on_and_absence_is_absence(here: Here, mirror: Any) -> None:
    with serving(Upstream({"README.md": CARD}, repo="north/elsewhere")) as upstream:
        mirror(upstream.url)
        assert get(here, "/datasets/north/elsewhere/resolve/main/README.md").status_code == 404
        assert not upstream.asked
        assert get(here, "/api/datasets/far/none").headers["x-error-code"] == "RepoNotFound"
    with serving(far()) as upstream:
        here.foundation.operator.verb(
            "hub:source:mirror",
            source=here.foundation.operator.read("hub:source:list")["items"][0]["id"],
            limit_bytes=0,
        )
        mirror(upstream.url)
        absent = get(here, resolve("nothing.txt"))
        assert (absent.status_code, absent.headers["x-error-code"]) == (404, "EntryNotFound")
        assert absent.headers["x-repo-commit"] == upstream.sha
        assert get(here, "/api/datasets/far/thing/refs").json()["branches"][0]["name"] == "main"
        assert get(here, "/api/datasets/far/thing/user-access-request/pending").status_code == 404
        posted = httpx.post(f"{here.foundation.url}/api/datasets/far/thing/branch/x", json={}, trust_env=False)
        assert posted.status_code == 404
        upstream.alive = False
        assert get(here, "/api/datasets/far/thing/refs").status_code == 200  # as it was last said
        assert get(here, "/api/datasets/far/other").status_code == 503


def test_what_was_used_longest_ago_goes_first_and_nothing_that_else_is_reached(here: Here, mirror: Any) -> None:
    one, two = random.randbytes(MEGABYTES), random.randbytes(MEGABYTES)
    here.foundation.bring(here.donor, here.north, "one.bin", one)
    with serving(far(one_bin=one, two_bin=two, big_bin=random.randbytes(2 * MEGABYTES))) as upstream:
        source = mirror(upstream.url, limit_bytes=2 * MEGABYTES + 10_000)
        kernel = here.foundation.kernel

        def kept() -> set[str]:
            return {
                path
                for path in upstream.files
                if kernel.look(
                    lambda ctx, path=path: mirroring.file_kept(
                        ctx, source["id"], "datasets/far/thing", upstream.sha, path
                    )
                )
            }

        for path in ("one.bin", "two.bin"):
            assert get(here, resolve(path)).status_code == 200
            kernel.clock.ahead += 1
        assert kept() == {"one.bin", "two.bin"}
        assert get(here, resolve("big.bin")).status_code == 200
        assert kept() == {"big.bin"}

        def is_here(content: bytes) -> bool:
            return kernel.look(lambda ctx: ctx.session.get(Blob, sha256(content).hexdigest())) is not None

        assert is_here(one) and not is_here(two)  # the north holds the first
        kernel.clock.ahead += mirroring.USED_SECONDS + 1
        assert get(here, resolve("big.bin")).status_code == 200


def test_there_is_one_mirror_and_so_many_fetches(here: Here, mirror: Any, monkeypatch: Any) -> None:
    with serving(far()) as upstream:
        mirror(upstream.url)
        with pytest.raises(Problem, match=r"^hub.mirror-taken\("):
            mirror(upstream.url)
    monkeypatch.setattr(shared, "MAX_FETCHES", 0)
    fetch = Fetch(here.foundation.kernel, Outside("http://127.0.0.1:9"), "/x", "x", 1, "sha256:", lambda *_: None)
    with pytest.raises(Unavailable, match=r"^hub.mirror-busy\("):
        Fetches().join(fetch)
