"""Files that are made while they still come in, at the door: what is saved, and that nothing else is to be seen of it."""

from __future__ import annotations

import gc
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gongqi.resources.hub import drafts
from gongqi.resources.hub.drafts import Drafts
from gongqi.resources.hub.known import Known
from tests.resources.hub.huggingface.bringing import Bringer, bringer, fetched, limited, noise, refused, stock, written
from tests.sim import xet as sim

pytestmark = pytest.mark.heavy

_seeds = itertools.count(1000)


class Sent:
    """New bytes, as a client packs them: three xorbs of two chunks."""

    def __init__(self) -> None:
        self.content = noise(300_000, next(_seeds))
        parts = [self.content[at : at + 100_000] for at in range(0, 300_000, 100_000)]
        self.packs = [tuple(sim.cut(part, every=50_000)) for part in parts]
        self.file = [sim.Piece(chunks, 0, 2) for chunks in self.packs]


SIZE = 300_000


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def small_ones_too(hub: Any) -> Iterator[Drafts]:
    """As if these files were large."""
    kept = hub.kernel.parts.pop(Drafts, None)
    hub.kernel.parts[Drafts] = made = Drafts(hub.kernel, least_bytes=0)
    yield made
    made.announced("", "", [1, 1], room_bytes=0)
    hub.kernel.parts.pop(Drafts)
    if kept:
        hub.kernel.parts[Drafts] = kept


@pytest.fixture
def bring(hub: Any, repo: str, small_ones_too: Drafts) -> Bringer:
    return bringer(hub, repo)


def announce(bring: Bringer, *sizes: int) -> None:
    files = [{"path": f"{number}.bin", "size": size, "sample": "AAAA"} for number, size in enumerate(sizes)]
    answer = httpx.post(
        f"{bring.hub.foundation.url}/api/models/{bring.repo}/preupload/main",
        json={"files": files}, headers={"authorization": f"Bearer {bring.hub.donor.secret}"}, trust_env=False,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert [each["uploadMode"] for each in answer.json()["files"]] == ["lfs"] * len(sizes)


def drafted(bring: Bringer) -> list[int]:
    return drafted_in(bring.hub)


def drafted_in(hub: Any) -> list[int]:
    """The lengths of what is being made."""
    folder = hub.kernel.blobs.incoming.folder
    return [os.stat(folder / name).st_size for name in os.listdir(folder)]


def wait_for(bring: Bringer, *sizes: int) -> None:
    give_up_at = time.monotonic() + 20
    while drafted(bring) != list(sizes):
        assert time.monotonic() < give_up_at, drafted(bring)
        time.sleep(0.02)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The xorbs that are read, each time one is."""
    names, before = list[bytes](), Known.read

    def noted(self: Known, xorb: bytes, start: int, end: int) -> Iterator[bytes]:
        names.append(xorb)
        return before(self, xorb, start, end)

    monkeypatch.setattr(Known, "read", noted)
    return names


def test_what_came_in_order_is_there_when_the_shard_comes(bring, sent, read):
    announce(bring, SIZE)
    for chunks in sent.packs:
        bring.xorb(chunks)
    wait_for(bring, SIZE)
    assert read == [sim.name_of(chunks) for chunks in sent.packs]
    assert bring.shard(sent.file).json() == {"result": 1}
    assert len(read) == len(sent.packs), "it was made again"
    assert bring.have(sent.content)
    assert drafted(bring) == []


def test_what_came_in_another_order_is_made_when_the_shard_comes(bring, sent, read):
    announce(bring, SIZE)
    for chunks in (sent.packs[0], sent.packs[2], sent.packs[1]):
        bring.xorb(chunks)
    wait_for(bring, SIZE)
    assert bring.shard(sent.file).json() == {"result": 1}
    assert read[3:] == [sim.name_of(chunks) for chunks in sent.packs[1:]], "the first is kept"
    assert bring.have(sent.content)
    assert drafted(bring) == []


def test_a_xorb_that_is_known_has_its_place_too(bring, sent, read):
    bring.xorb(sent.packs[0])
    announce(bring, SIZE)
    for chunks in sent.packs:
        bring.xorb(chunks)
    wait_for(bring, SIZE)
    assert bring.shard(sent.file).json() == {"result": 1}
    assert len(read) == len(sent.packs)
    assert bring.have(sent.content)


def test_a_lie_about_a_drafted_file_is_found_and_the_file_can_still_be_made(bring, sent):
    announce(bring, SIZE)
    for chunks in sent.packs:
        bring.xorb(chunks)
    wait_for(bring, SIZE)
    true = sim.shard_of([sim.file_records(sent.file)], [])
    lie = bytearray(true)
    lie[48 * (2 + 2 * len(sent.file))] ^= 1
    assert refused(bring.post("/v1/shards", bytes(lie))) == "kernel.digest-mismatch"
    assert drafted(bring) == []
    assert not bring.have(sent.content)
    assert bring.post("/v1/shards", true).json() == {"result": 1}
    assert bring.have(sent.content)


@pytest.mark.parametrize("sizes", [(SIZE, 5), (SIZE * 10**9,), (99_999,)])
def test_several_files_and_those_that_are_too_large_are_not_drafted(bring, sent, sizes):
    announce(bring, *sizes)
    for chunks in sent.packs:
        bring.xorb(chunks)
    time.sleep(0.2)
    assert drafted(bring) == []
    assert bring.shard(sent.file).json() == {"result": 1}
    assert bring.have(sent.content)


def test_what_there_is_no_room_for_is_not_drafted(hub, bring, sent):
    with limited(hub, SIZE - 1):
        announce(bring, SIZE)
        bring.xorb(sent.packs[0])
        time.sleep(0.2)
        assert drafted(bring) == []


def test_a_new_announcement_ends_the_draft_before_it(bring, sent):
    announce(bring, SIZE)
    bring.xorb(sent.packs[0])
    wait_for(bring, 100_000)
    announce(bring, SIZE, SIZE)
    assert drafted(bring) == []


def test_a_draft_whose_client_has_left_is_dropped(hub, bring, sent, monkeypatch):
    announce(bring, SIZE)
    bring.xorb(sent.packs[0])
    wait_for(bring, 100_000)
    drafts.drop_idle(hub.kernel)
    assert drafted(bring) == [100_000], "it is too early"
    monkeypatch.setattr(drafts, "IDLE_SECONDS", 0.0)
    drafts.drop_idle(hub.kernel)
    assert drafted(bring) == []
    for chunks in sent.packs:
        bring.xorb(chunks)
    assert bring.shard(sent.file).json() == {"result": 1}
    assert bring.have(sent.content)


def test_drafts_go_with_what_keeps_them(hub, bring, sent):
    """As they do when the process ends."""
    made, name = Drafts(hub.kernel, least_bytes=0), sim.name_of(sent.packs[0])
    bring.xorb(sent.packs[0])
    made.announced(bring.space, "per_else", [SIZE], room_bytes=SIZE)
    made.expect(bring.space, "per_else", name)
    made.arrived(bring.space, "per_else", name)
    wait_for(bring, 100_000)
    del made
    gc.collect()
    assert drafted(bring) == []


@pytest.mark.long
def test_what_the_stock_client_sends_is_made_ahead_and_read_twice_at_most(hub, repo, read, tmp_path):
    """In the order of the file as far as its uploads begin in it, which on a busy machine is not always all of it."""
    content = noise(240 << 20, 12)
    done = stock(hub, "file", repo, written(tmp_path, {"weights.bin": content}) / "weights.bin")
    assert done.returncode == 0, done.stderr
    assert len(set(read)) > 3
    assert max(Counter(read).values()) <= 2
    assert fetched(hub, repo, "weights.bin") == content
    assert drafted_in(hub) == []
