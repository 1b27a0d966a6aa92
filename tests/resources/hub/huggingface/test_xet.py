"""Xet at the door, spoken by a client of one page that says what the stock one never would."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from gongqi.resources.hub import extents, quotas
from gongqi.resources.hub.known import held_xorbs
from gongqi.resources.hub.models import Blob, BlobOwner, ReceivedXorb
from gongqi.resources.hub.tickets import issue
from gongqi.resources.hub.xet.hashes import text_of
from gongqi.resources.hub.xet.shards import SHARD_LIMIT_BYTES
from gongqi.resources.hub.xet.xorbs import LZ4, XORB_LIMIT_BYTES
from tests.resources.hub.huggingface.bringing import (
    Bringer,
    ask_token,
    bringer,
    held_files,
    limited,
    noise,
    refused,
    rows,
    xorbs_of,
)
from tests.sim import xet as sim

pytestmark = pytest.mark.heavy


@pytest.fixture
def bring(hub: Any, repo: str) -> Bringer:
    return bringer(hub, repo)


@pytest.fixture(autouse=True)
def _nothing_is_left_held(hub: Any) -> Iterator[None]:
    """A test begins and ends with no xorb in hand, so that what it counts is its own."""
    yield
    with_none = update(ReceivedXorb).values(held=None)
    hub.kernel.transact(lambda ctx: ctx.session.execute(with_none) and None, reason="test")
    held_xorbs(hub.kernel).drop(held_files(hub))


# --- what a token is for ---------------------------------------------------------------------------------------------


def test_a_token_is_given_to_whoever_may_write_and_no_other(hub, api, repo):
    assert ask_token(hub, repo, hub.donor).status_code == 200
    assert ask_token(hub, repo, None).status_code == 401
    assert refused(ask_token(hub, repo, hub.other)) == "access.forbidden"
    api.update_repo_settings(repo, private=True)
    assert refused(ask_token(hub, repo, hub.other)) == "hub.address-unknown"
    assert refused(ask_token(hub, repo, hub.donor, rev="no-such-branch")) == "hub.ref-unknown"


def test_reads_are_refused_plainly(hub, repo):
    assert refused(ask_token(hub, repo, hub.donor, kind="read")) == "hub.xet-reads-elsewhere"


def test_a_token_of_another_repository_is_refused(hub, api, bring):
    api.create_repo(f"{bring.repo}-other", private=False)
    other = bringer(hub, f"{bring.repo}-other")
    for answer in (bring.xorb([b"x"], token=other.token), bring.shard([], token=other.token)):
        assert refused(answer) == "hub.xet-token-elsewhere"
    assert held_files(hub) == []


def test_an_expired_a_foreign_and_a_missing_token_are_refused(hub, bring):
    facts = {"space": bring.space, "generation": 1, "token": None, "session": None}
    old = issue(hub.kernel, "hub.xet", seconds=-1, **facts)
    assert refused(bring.xorb([b"x"], token=old)) == "hub.ticket-expired"
    assert (
        refused(bring.xorb([b"x"], token=issue(hub.kernel, "hub.upload", seconds=60, **facts))) == "hub.ticket-invalid"
    )
    assert refused(bring.xorb([b"x"], token=hub.donor.secret)) == "hub.ticket-invalid"
    bare = httpx.post(bring.address + "/v1/shards", content=b"", trust_env=False)
    assert refused(bare) == "access.sign-in-needed"


def test_a_token_ends_with_what_it_rests_on(hub, repo):
    person = hub.foundation.back("donor")
    given = ask_token(hub, repo, person).json()
    person.verb("members:session:end", session=person.session)
    bring = Bringer(hub, repo, "", given["casUrl"], given["accessToken"])
    assert refused(bring.xorb([b"x"])) == "members.session-invalid"


def test_an_address_whose_space_was_renewed_is_closed(hub, bring):
    hub.kernel.transact(lambda ctx: extents.lose(ctx, bring.space, []), reason="test")
    for answer in (bring.xorb([b"x"]), bring.shard([])):
        assert refused(answer) == "hub.xet-space-renewed"
    assert bringer(hub, bring.repo).address == bring.address[:-1] + "2"


# --- what is brought -------------------------------------------------------------------------------------------------

CHUNKS = (b"first" * 1000, b"second!" * 1001, bytes(range(256)) * 5)
WHOLE = b"".join(CHUNKS)


@pytest.mark.parametrize("paths", [("/v1/xorbs", "/v1/shards"), ("/xorbs", "/shards")])
@pytest.mark.parametrize("prefix", ["default", "default-merkledb"])
def test_each_version_of_the_client_finds_its_paths(bring, paths, prefix):
    content = b"".join(map(sim.pack, CHUNKS))
    answer = bring.post(f"{paths[0]}/{prefix}/{text_of(sim.name_of(CHUNKS))}", content)
    assert (answer.status_code, answer.json()) == (200, {"was_inserted": True})
    answer = bring.post(paths[1], sim.shard_of([sim.file_records([sim.Piece(CHUNKS, 0, 3)])], []))
    assert (answer.status_code, answer.json()) == (200, {"result": 1})
    assert bring.have(WHOLE)


@pytest.mark.parametrize("path", ["/v2/shards", "/v1/xorb-grants/default/", "/v1/chunks/default/", "/chunks/default/"])
def test_what_is_not_here_is_not_found_so_that_clients_fall_back(bring, path):
    path += "" if path.endswith("shards") else "0" * 64
    method = "GET" if "chunks" in path else "POST"
    assert httpx.request(method, bring.address + path, trust_env=False).status_code == 404


def test_what_was_taken_in_is_told_apart_from_what_was_here(hub, bring):
    assert [bring.xorb(CHUNKS).json() for _ in range(2)] == [{"was_inserted": True}, {"was_inserted": False}]
    assert len(held_files(hub)) == 1
    file = [sim.Piece(CHUNKS, 0, 3)]
    assert [bring.shard(file).json() for _ in range(2)] == [{"result": 1}, {"result": 0}]
    assert held_files(hub) == []
    assert bring.xorb(CHUNKS).json() == {"was_inserted": False}
    assert bring.have(WHOLE)


def test_files_are_made_of_what_only_other_files_hold_by_now(hub, bring):
    """Extents are cut, put together across blobs, and begin in the middle of one."""
    more = (b"third" * 999, b"x")
    for chunks in (CHUNKS, more):
        bring.xorb(chunks)
    one = [sim.Piece(more, 1, 2), sim.Piece(CHUNKS, 0, 2)]
    two = [sim.Piece(CHUNKS, 1, 3), sim.Piece(more, 0, 1)]
    assert bring.shard(one, two).status_code == 200
    assert held_files(hub) == []
    three = [sim.Piece(CHUNKS, 1, 3), sim.Piece(CHUNKS, 0, 3), sim.Piece(more, 0, 2), sim.Piece(CHUNKS, 2, 3)]
    assert bring.shard(three).json() == {"result": 1}
    for file in (one, two, three):
        assert bring.have(b"".join(b"".join(piece.chunks[piece.start : piece.end]) for piece in file))


def test_a_xorb_stays_held_until_files_cover_all_of_it(hub, bring):
    bring.xorb(CHUNKS)
    bring.shard([sim.Piece(CHUNKS, 0, 1)], [sim.Piece(CHUNKS, 2, 3)])
    assert len(held_files(hub)) == 1
    bring.shard([sim.Piece(CHUNKS, 1, 3)])
    assert held_files(hub) == []


def test_a_xorb_with_the_same_chunk_twice_is_let_go_of_when_one_is_named(hub, bring):
    twins = (CHUNKS[0], CHUNKS[1], CHUNKS[0])
    bring.xorb(twins)
    bring.xorb((CHUNKS[1], CHUNKS[2]))
    assert bring.shard([sim.Piece(twins, 0, 1), sim.Piece((CHUNKS[1], CHUNKS[2]), 0, 2)]).status_code == 200
    assert held_files(hub) == []
    assert bring.shard([sim.Piece(twins, 1, 3)]).json() == {"result": 1}
    assert bring.have(CHUNKS[1] + CHUNKS[0])


def test_a_shard_without_files_and_a_file_without_chunks_are_taken(bring):
    assert bring.shard().json() == {"result": 0}
    assert bring.shard([]).status_code == 200
    assert bring.have(b"")


# --- lies, cuts and limits -------------------------------------------------------------------------------------------


def test_a_xorb_that_lies_is_refused_and_leaves_nothing(hub, bring):
    before = rows(hub)
    assert refused(bring.xorb(CHUNKS, name=sim.name_of(CHUNKS[:2]))) == "hub.xet-xorb-differs"
    swapped = b"".join(map(sim.pack, (CHUNKS[0], b"another" * 1001, CHUNKS[2])))
    path = f"/v1/xorbs/default/{text_of(sim.name_of(CHUNKS))}"
    assert refused(bring.post(path, swapped)) == "hub.xet-xorb-differs"
    assert refused(bring.post(path, b"not a xorb")) == "hub.xet-xorb-malformed"
    assert refused(bring.post("/v1/xorbs/default/zero", b"")) == "hub.xet-hash-malformed"
    assert (rows(hub), held_files(hub)) == (before, [])


def test_a_shard_that_names_unknown_xorbs_or_lies_makes_nothing(hub, bring):
    unknown = (b"never" * 100, b"sent" * 100)
    assert refused(bring.shard([sim.Piece(unknown, 0, 2)])) == "hub.xet-xorb-unknown"
    bring.xorb(CHUNKS)
    true = sim.shard_of([sim.file_records([sim.Piece(CHUNKS, 0, 2)])], [])
    for at, code in (
        (48, "hub.xet-file-differs"),
        (48 * 3, "hub.xet-file-differs"),
        (48 * 4, "kernel.digest-mismatch"),
    ):
        lie = bytearray(true)
        lie[at] ^= 1
        assert refused(bring.post("/v1/shards", bytes(lie))) == code
    assert refused(bring.post("/v1/shards", true[:-1])) == "hub.xet-shard-malformed"
    assert not bring.have(b"".join(CHUNKS[:2]))
    assert bring.post("/v1/shards", true).json() == {"result": 1}


def test_a_xorb_of_one_repository_is_unknown_in_another(hub, api, bring):
    api.create_repo(f"{bring.repo}-other", private=False)
    other = bringer(hub, f"{bring.repo}-other")
    bring.xorb(CHUNKS)
    bring.shard([sim.Piece(CHUNKS, 0, 3)])
    assert refused(other.shard([sim.Piece(CHUNKS, 0, 3)])) == "hub.xet-xorb-unknown"


def test_bodies_over_the_limits_are_refused_while_they_come(hub, bring):
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    name = text_of(sim.name_of(CHUNKS))
    for path, code in (
        (f"/v1/xorbs/default/{name}", "hub.xet-xorb-too-large"),
        ("/v1/shards", "hub.xet-shard-too-large"),
    ):
        assert code in talk(bring, path, endless(), most=max(XORB_LIMIT_BYTES, SHARD_LIMIT_BYTES) + (8 << 20))
    declared = {"authorization": f"Bearer {bring.token}", "content-length": str(XORB_LIMIT_BYTES + 1)}
    with socket.create_connection(("127.0.0.1", hub.foundation.port)) as line:
        path = bring.address.partition(f":{hub.foundation.port}")[2] + f"/v1/xorbs/default/{name}"
        head = "".join(f"{key}: {value}\r\n" for key, value in declared.items())
        line.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
        assert "hub.xet-xorb-too-large" in heard(line)
    assert held_files(hub) == []


def talk(bring: Bringer, path: str, chunks: Iterator[bytes], *, most: int) -> str:
    """Send a chunked body until the server answers."""
    port = bring.hub.foundation.port
    prefix = bring.address.partition(f":{port}")[2]
    with socket.create_connection(("127.0.0.1", port)) as line:
        head = f"POST {prefix}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bring.token}\r\n"
        line.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent = 0
        try:
            while sent < most:
                chunk = next(chunks)
                line.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                sent += len(chunk)
        except OSError:
            pass
        return heard(line)


def heard(line: socket.socket) -> str:
    """An answer, up to the end of its body."""
    told = b""
    while b"request_id" not in told and (more := line.recv(1 << 16)):
        told += more
    return told.decode()


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_cut_at_any_tenth_leaves_nothing_and_can_be_mended(hub, bring, tenth):
    content = b"".join(map(sim.pack, sim.cut(noise(500_000, 7), every=50_000)))
    name = text_of(sim.name_of(sim.cut(noise(500_000, 7), every=50_000)))
    prefix = bring.address.partition(f":{hub.foundation.port}")[2]
    with socket.create_connection(("127.0.0.1", hub.foundation.port)) as line:
        head = f"POST {prefix}/v1/xorbs/default/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bring.token}\r\n"
        line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode())
        line.sendall(content[: len(content) * tenth // 10])
    until(lambda: held_files(hub) == [])
    assert bring.post(f"/v1/xorbs/default/{name}", content).json() == {"was_inserted": True}


def until(is_so: Any) -> None:
    give_up_at = time.monotonic() + 20
    time.sleep(0.05)
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def test_what_is_over_the_quota_is_refused_and_leaves_nothing(hub, bring):
    chunks = sim.cut(noise(300_000, 8), every=60_000)
    packed = sum(len(sim.pack(raw, LZ4)) for raw in chunks)
    with limited(hub, packed - 1):
        assert refused(bring.xorb(chunks)) == "hub.quota-exceeded"
        assert held_files(hub) == []
    with limited(hub, packed + 1000):
        assert bring.xorb(chunks).status_code == 200
        assert refused(bring.xorb(sim.cut(noise(2_000, 9), every=1_000))) == "hub.quota-exceeded", "what is held counts"
        twice = [sim.Piece(tuple(chunks), 0, 5), sim.Piece(tuple(chunks), 0, 5)]
        assert refused(bring.shard(twice)) == "hub.quota-exceeded"
        assert bring.shard([sim.Piece(tuple(chunks), 0, 5)]).json() == {"result": 1}, "what is held goes"
    assert not bring.have(b"".join(chunks) * 2)


# --- losses ----------------------------------------------------------------------------------------------------------


def generation(hub: Any, bring: Bringer) -> int:
    return hub.kernel.look(lambda ctx: extents.generation_of(ctx, bring.space))


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_held_xorb_that_was_damaged_is_lost_and_can_be_sent_again(hub, bring, how):
    bring.xorb(CHUNKS)
    [name] = held_files(hub)
    path = held_xorbs(hub.kernel).folder / name
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3] + b"abc")
    file = [sim.Piece(CHUNKS, 0, 3)]
    assert refused(bring.shard(file)) == "hub.xet-space-renewed"
    again = bringer(hub, bring.repo)
    assert again.address != bring.address
    assert again.xorb(CHUNKS).json() == {"was_inserted": True}
    assert again.shard(file).json() == {"result": 1}
    assert bring.have(WHOLE)


def test_xorbs_that_nobody_made_files_of_go_after_some_days(hub, bring):
    bring.xorb(CHUNKS)
    bring.shard([sim.Piece(CHUNKS, 0, 1)])
    hub.kernel.transact(lambda ctx: extents.expire(ctx, now=ctx.now), reason="test")
    assert generation(hub, bring) == 1, "it is too early"
    hub.kernel.transact(lambda ctx: age(ctx, ReceivedXorb.at, ReceivedXorb.space == bring.space), reason="test")
    sweep(hub)
    assert (xorbs_of(hub, bring.space), held_files(hub), generation(hub, bring)) == ([], [], 2)
    assert bring.have(CHUNKS[0]), "a file that was made stays"


def test_when_an_uncommitted_file_goes_what_only_it_held_is_lost(hub, bring):
    for chunks in (CHUNKS, (b"kept",)):
        bring.xorb(chunks)
    bring.shard([sim.Piece(CHUNKS, 0, 3)], [sim.Piece((b"kept",), 0, 1)])
    digest = hashlib.sha256(WHOLE).hexdigest()
    hub.kernel.transact(lambda ctx: age(ctx, BlobOwner.at, BlobOwner.sha256 == digest), reason="test")
    sweep(hub)
    assert rows(hub, Blob.sha256 == digest, of=Blob) == 0
    assert xorbs_of(hub, bring.space) == [text_of(sim.name_of([b"kept"]))]
    assert generation(hub, bring) == 2


def test_a_xorb_that_another_file_covers_outlives_a_file(hub, bring):
    bring.xorb(CHUNKS)
    bring.shard([sim.Piece(CHUNKS, 0, 3)], [sim.Piece(CHUNKS, 0, 3), sim.Piece(CHUNKS, 0, 1)])
    digest = hashlib.sha256(WHOLE).hexdigest()
    hub.kernel.transact(lambda ctx: age(ctx, BlobOwner.at, BlobOwner.sha256 == digest), reason="test")
    sweep(hub)
    assert generation(hub, bring) == 1
    assert bring.shard([sim.Piece(CHUNKS, 1, 3)]).json() == {"result": 1}
    assert bring.have(b"".join(CHUNKS[1:]))


def test_held_files_that_nothing_names_are_swept_and_others_are_not(hub, bring):
    bring.xorb(CHUNKS)
    [kept] = held_files(hub)
    held = held_xorbs(hub.kernel)
    under_way, dead = held.begin(), held.begin()
    dead.pause()
    held.sweep_unknown(hub.kernel)
    assert held_files(hub) == sorted([kept, under_way.token])
    under_way.abandon()


def age(ctx: Any, column: Any, condition: Any) -> None:
    ctx.session.execute(update(column.class_).where(condition).values({column: ctx.now - timedelta(days=30)}))


def sweep(hub: Any) -> None:
    found = hub.kernel.look(lambda ctx: quotas.uncommitted(ctx, now=ctx.now))
    hub.kernel.transact(lambda ctx: quotas.let_go(ctx, found), reason="test")
    hub.kernel.transact(lambda ctx: extents.expire(ctx, now=ctx.now), reason="test")
    held_xorbs(hub.kernel).sweep_unknown(hub.kernel)
