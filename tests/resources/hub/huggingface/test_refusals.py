"""Bad input from clients: refused in both languages, with nothing lost and nothing half-visible."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from gongqi.resources.hub.huggingface import lines
from gongqi.resources.hub.xet.hashes import text_of
from tests.resources.hub.huggingface.bringing import bringer, held_files
from tests.resources.hub.huggingface.test_protocol import HEADER, batch, inside, line
from tests.sim import xet as sim

pytestmark = pytest.mark.heavy

HAN = re.compile(r"[\u4e00-\u9fff]")
CHUNKS = (b"first" * 1000, b"second!" * 1001)


class Both:
    """A client that says everything twice: once in each language."""

    def __init__(self, hub: Any, repo: str) -> None:
        self.hub, self.repo = hub, repo
        self.http = httpx.Client(
            base_url=hub.foundation.url, headers={"authorization": f"Bearer {hub.donor.secret}"}, trust_env=False,
            timeout=60,
        )  # fmt: skip

    def refused(self, code: str, ask: Callable[[dict[str, str]], httpx.Response]) -> None:
        before = self.standing()
        for language, is_ours in (("zh", True), ("en", False)):
            answer = ask({"accept-language": language})
            assert 400 <= answer.status_code < 500 and answer.json()["code"] == code, answer.text[:500]
            told = answer.json()["error"]
            assert bool(HAN.search(told)) == is_ours and "{" not in told, told
        assert self.standing() == before

    def standing(self) -> Any:
        info = self.http.get(f"/api/models/{self.repo}").json()
        return info["sha"], [each["rfilename"] for each in info["siblings"]], held_files(self.hub)

    def commit(self, *sent: bytes, repo: str = "") -> Callable[[dict[str, str]], httpx.Response]:
        address = f"/api/models/{repo or self.repo}/commit/main"
        return lambda headers: self.http.post(address, content=b"".join((HEADER, *sent)), headers=headers)


@pytest.fixture
def both(hub: Any, repo: str) -> Both:
    made = Both(hub, repo)
    assert made.commit(inside("kept.txt", b"kept\n"), inside("copy.txt", b"c\n"))({}).status_code == 200
    return made


def tarred() -> bytes:
    out, member = io.BytesIO(), tarfile.TarInfo("x")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(member)
    return out.getvalue()


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", b"\0" * (32 << 20))
    return out.getvalue()


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        ("hub.path-twin", lambda: inside("KEPT.txt", b"x")),
        ("hub.path-twin", lambda: inside("\uff4bept.txt", b"x")),  # fullwidth
        ("hub.path-twin", lambda: inside("\u0441\u043ep\u0443.txt", b"x")),  # Cyrillic
        ("hub.path-twin", lambda: inside("c\u03bfpy.txt", b"x")),  # Greek
        ("hub.path-twin", lambda: inside("kept.txt/inner.txt", b"x")),
        ("hub.path-not-nfc", lambda: inside("e\u0301.txt", b"x")),
        ("hub.path-control", lambda: inside("a\u202etxt.exe", b"x")),
        ("hub.path-traversal", lambda: inside("a/../../b", b"x")),
        ("hub.card-too-large", lambda: inside("README.md", b"words " * 500_000)),
        ("hub.archive-link", lambda: inside("links.tar", tarred())),
        ("hub.archive-bomb", lambda: inside("bomb.zip", bomb())),
        ("hub.hf-lines-too-many", lambda: line("deletedFile", path="a") * (lines.LINES + 1)),
    ],
)
def test_what_cannot_be_committed_says_so(both: Both, code: str, sent: Callable[[], bytes]) -> None:
    both.refused(code, both.commit(sent()))


@pytest.mark.parametrize("name", ["Kept", "m\u043edel", "\uff4dodel", "a/b/c", "..", "x--y", "-model", "model.git"])
def test_a_name_that_could_be_taken_for_another_is_refused(both: Both, name: str) -> None:
    given = {"name": name, "organization": "north"}
    both.refused("hub.slug-invalid", lambda headers: both.http.post("/api/repos/create", json=given, headers=headers))


def test_a_commit_to_a_repository_that_moved_is_told_where(both: Both, api: Any) -> None:
    old, new = both.repo, f"{both.repo}-new"
    api.move_repo(from_id=old, to_id=new)
    both.repo = new
    both.refused("hub.asset-moved", both.commit(inside("late.txt", b"late"), repo=old))
    assert both.commit(inside("late.txt", b"late"))({}).status_code == 200


def test_a_race_lost_says_so_and_can_be_run_again(both: Both) -> None:
    base = both.http.get(f"/api/models/{both.repo}").json()["sha"]
    assert both.commit(inside("first.txt", b"1"))({}).status_code == 200
    stale = line("header", summary="late", parentCommit=base)
    both.refused("hub.revision-conflict", both.commit(stale, inside("second.txt", b"2")))
    assert both.commit(inside("second.txt", b"2"))({}).status_code == 200
    assert {"first.txt", "second.txt"} <= set(both.standing()[1])


def test_bytes_that_are_not_those_announced_are_refused(both: Both) -> None:
    content = both.repo.encode() * 100
    href = batch(both.http, both.repo, content)["actions"]["upload"]["href"]

    def put(body: bytes, to: str = href) -> Callable[[dict[str, str]], httpx.Response]:
        return lambda headers: both.http.put(to, content=body, headers=headers)

    both.refused("hub.hf-size-differs", put(content[:-1]))
    both.refused("kernel.digest-mismatch", put(content[::-1]))
    both.refused("hub.ticket-invalid", put(content, href[:-4] + "AAAA"))
    assert not both.hub.kernel.blobs.has(sha256(content).hexdigest())
    assert put(content)({}).status_code == 200


def test_what_lies_about_its_chunks_is_refused(both: Both, hub: Any, api: Any) -> None:
    bring = bringer(hub, both.repo)
    api.create_repo(f"{both.repo}-other")
    other = bringer(hub, f"{both.repo}-other")
    said = {"authorization": f"Bearer {bring.token}"}
    packed = b"".join(map(sim.pack, CHUNKS))

    def post(path: str, content: bytes, **more: str) -> Callable[[dict[str, str]], httpx.Response]:
        return lambda headers: httpx.post(
            bring.address + path, content=content, headers=said | more | headers, trust_env=False
        )

    lie = f"/v1/xorbs/default/{text_of(sim.name_of(CHUNKS[:1]))}"
    both.refused("hub.xet-xorb-differs", post(lie, packed))
    unknown = sim.shard_of([sim.file_records([sim.Piece((b"never" * 100,), 0, 1)])], [])
    both.refused("hub.xet-xorb-unknown", post("/v1/shards", unknown))
    elsewhere = {"authorization": f"Bearer {other.token}"}
    both.refused("hub.xet-token-elsewhere", post("/v1/shards", unknown, **elsewhere))


def test_a_commit_of_a_million_files_is_refused_and_takes_no_memory(both: Both) -> None:
    named = line("lfsFile", path="NAME", algo="sha256", oid="0" * 64, size=1)

    def sent() -> Iterator[bytes]:
        yield HEADER
        for thousand in range(1_000):
            yield b"".join(named.replace(b"NAME", b"%d/%d.bin" % (thousand, number)) for number in range(1_000))

    standing = both.standing()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the highest mark begins anew (proc_pid_clear_refs(5))
    before = highest_memory_mib()
    answer = both.http.post(f"/api/models/{both.repo}/commit/main", content=sent())
    assert (answer.status_code, answer.json()["code"]) == (413, "hub.hf-lines-too-many")
    assert highest_memory_mib() - before < 64
    assert both.standing() == standing


def highest_memory_mib() -> int:
    told = Path("/proc/self/status").read_text("ascii")
    return int(told.partition("VmHWM:")[2].split()[0]) >> 10
