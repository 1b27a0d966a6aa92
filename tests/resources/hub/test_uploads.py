"""Bytes that come in are bounded, kept apart and looked into outside the server before they are anybody's."""

from __future__ import annotations

import dataclasses
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.testclient import TestClient

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.room import ROOM as EVIDENCE
from gongqi.doors.web.server import build as build_app
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.sandbox import Spawner
from gongqi.members import VOCABULARY
from gongqi.members.bootstrap import bootstrap_operator
from gongqi.members.room import ROOM as MEMBERS
from gongqi.resources.hub import inspection, intake, service, uploads
from gongqi.resources.hub.intake import Intake, Pace
from gongqi.resources.hub.models import Blob, BlobOwner
from gongqi.resources.hub.room import ROOM as HUB

WEB = Path(build_app.__code__.co_filename).parent
WORDS = (WEB.parent / "words.toml", WEB / "words.toml")
HOSTILE = Path(__file__).parents[2] / "sim" / "hostile.py"
ORG = "org_hospital"


@pytest.fixture
def kernel(build: Callable[..., Kernel]) -> Kernel:
    made = build(House.build((EVIDENCE, MEMBERS, HUB), VOCABULARY, *WORDS), record=evidence.append)
    made.parts[SigningKeys] = SigningKeys.generate()
    made.transact(evidence.ensure, reason="start")
    return made


@pytest.fixture
def client(kernel: Kernel) -> Iterator[TestClient]:
    token = bootstrap_operator(kernel).token
    with TestClient(build_app(kernel), headers={"authorization": f"Bearer {token}"}) as made:
        yield made


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In place of the inspector, one that has been taken over; the file's name says what it tries."""
    spawner = Spawner(HOSTILE)
    monkeypatch.setattr(inspection, "INSPECTOR", spawner)
    monkeypatch.setattr(inspection, "SECONDS", 1)
    yield
    spawner.close()


def put(client: TestClient, path: str, content: Any, *, digest: str = "", org: str = ORG, **more: Any) -> Any:
    name = digest or sha256(content).hexdigest()
    return client.put(f"/api/v1/hub/blob/{name}", params={"org": org, "path": path}, content=content, **more)


def nothing_is_left(kernel: Kernel, content: bytes) -> bool:
    digest = sha256(content).hexdigest()
    known = kernel.look(lambda ctx: ctx.session.get(Blob, digest))
    return not kernel.blobs.has(digest) and known is None and not list(kernel.blobs.incoming.folder.iterdir())


# ---- the child that looks


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "code", "status"),
    [
        ("crash.bin", "hub.inspection-crash", 422),
        ("eat.bin", "hub.inspection-memory", 422),
        ("spin.bin", "hub.inspection-time", 422),
        ("babble.bin", "hub.inspection-crash", 422),
        ("wait.bin", "hub.inspection-late", 503),
        ("fail.bin", "kernel.sandbox-broken", 500),
    ],
)
def test_a_file_that_ends_its_inspector_is_refused_and_the_server_goes_on(
    client, kernel, hostile, monkeypatch, name, code, status
):
    monkeypatch.setattr(inspection, "PATIENCE", 1 if name == "wait.bin" else 30)
    answer = put(client, name, b"bytes")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert all("{" not in said["detail"] + said["remedy"] for said in answer.json()["localized"].values())
    assert nothing_is_left(kernel, b"bytes")
    assert client.get("/health").status_code == 200


def test_a_real_file_is_judged_in_the_child_as_it_is_here(client, kernel):
    answer = put(client, "a.bin", pickle.dumps({1: 2}))
    assert (answer.status_code, answer.json()["code"]) == (422, "hub.pickle")
    assert nothing_is_left(kernel, pickle.dumps({1: 2}))


def test_a_flaw_is_said_in_both_languages(client):
    answer = put(client, "m.safetensors", b"\x00" * 20)
    said = answer.json()["localized"]
    assert answer.json()["params"]["flaw"] == "header-no-brace"
    assert "文件头不以花括号开头" in said["zh"]["detail"] and "does not begin with a brace" in said["en"]["detail"]


def test_refused_bytes_stay_when_another_name_for_them_was_accepted(client, kernel):
    """A name may condemn what it names; the bytes under another name are somebody's all the same."""
    assert put(client, "notes.txt", b"hello").status_code == 201
    assert put(client, "notes.pkl", b"hello").json()["code"] == "hub.pickle"
    assert kernel.blobs.has(sha256(b"hello").hexdigest())


@pytest.mark.long
def test_inspection_gives_way_to_nobody_and_nobody_to_it(client, kernel, hostile, monkeypatch):
    """A slow file does not keep the next one from being judged, nor the pages from loading."""
    monkeypatch.setattr(inspection, "PATIENCE", 10)
    slow = threading.Thread(target=lambda: put(client, "wait.bin", b"slow"))
    slow.start()
    while not list(kernel.blobs.incoming.folder.iterdir()):
        time.sleep(0.01)
    assert put(client, "crash.bin", b"quick").status_code == 422
    assert client.get("/health").status_code == 200
    assert slow.is_alive()
    slow.join()


# ---- how fast, how many


def slowly(pieces: list[tuple[float, bytes]]) -> Callable[[], Any]:
    """An ASGI `receive` that sends each piece after so many seconds."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if not left:
            await anyio.sleep(60)
        seconds, piece = left.pop(0)
        await anyio.sleep(seconds)
        return {"type": "http.request", "body": piece, "more_body": bool(left) or piece == b"..."}

    return receive


def upload_slowly(client: TestClient, kernel: Kernel, pieces: list[tuple[float, bytes]]) -> tuple[int, dict, dict]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    digest = sha256(b"".join(piece for _, piece in pieces)).hexdigest()
    scope = {
        "type": "http", "method": "PUT", "path": f"/api/v1/hub/blob/{digest}", "raw_path": b"", "root_path": "",
        "query_string": f"org={ORG}&path=a.csv".encode(), "http_version": "1.1", "scheme": "http", "client": None,
        "headers": [(b"authorization", client.headers["authorization"].encode())],
    }  # fmt: skip
    anyio.run(build_app(kernel), scope, slowly(pieces), send)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


@pytest.mark.parametrize("pieces", [[(0.05, b"x")] * 20, [(0, b"x"), (5, b"...")]], ids=["a trickle", "silence"])
def test_a_sender_that_is_too_slow_is_told_so_and_loses_its_place(client, kernel, monkeypatch, pieces):
    for module in (intake, uploads):
        monkeypatch.setattr(module, "PACE_SECONDS", 0.3)
    status, headers, problem = upload_slowly(client, kernel, pieces)
    assert (status, problem["code"], headers[b"connection"]) == (408, "hub.upload-too-slow", b"close")
    assert list(kernel.blobs.incoming.folder.iterdir()) == []
    assert not kernel.part(Intake)._under_way


def test_a_sender_that_stalls_and_goes_on_is_waited_for(client, kernel, monkeypatch):
    for module in (intake, uploads):
        monkeypatch.setattr(module, "PACE_SECONDS", 0.5)
    status, _, out = upload_slowly(client, kernel, [(0, b"a,b\n"), (0.3, b"1,2\n")])
    assert (status, out["size"]) == (201, 8)


def test_the_pace_is_judged_anew_in_each_stretch():
    pace = Pace(0.0)
    for number in range(1, 10):
        pace.arrived(intake.PACE_BYTES_PER_SECOND * 15, now=15.0 * number)
    with pytest.raises(Refused, match="upload-too-slow"):
        pace.arrived(1, now=15.0 * 9 + 31)


def test_one_organisation_has_so_many_places_and_the_next_has_its_own():
    place = Intake()
    held = [place.admit(ORG, size=1, room_bytes=100) for _ in range(intake.UPLOADS_AT_ONCE)]
    for each in held:
        each.__enter__()
    with pytest.raises(Unavailable) as caught, place.admit(ORG, size=1, room_bytes=100):
        pass
    assert caught.value.code == "hub.uploads-too-many" and caught.value.retry_after_seconds
    with place.admit("org_other", size=1, room_bytes=100):
        pass
    held[0].__exit__(None, None, None)
    with place.admit(ORG, size=1, room_bytes=100):
        pass


# ---- how much


def with_limit(kernel: Kernel, limit: int) -> None:
    kernel.settings = dataclasses.replace(kernel.settings, quota_bytes=limit)


def used(kernel: Kernel, org: str = ORG) -> tuple[int, int]:
    quota = kernel.look(lambda ctx: service.quota_of(ctx, org))
    return quota.used_bytes, quota.blobs


def test_what_does_not_fit_is_refused_before_it_travels(client, kernel):
    with_limit(kernel, 10)
    asked = []

    def body() -> Iterator[bytes]:
        asked.append(True)
        yield b"x" * 11

    headers = {"content-length": "11"}
    answer = put(client, "a.txt", body(), digest=sha256(b"x" * 11).hexdigest(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "hub.quota-exceeded")
    assert answer.json()["params"] == {"room_bytes": 10, "size_bytes": 11}
    assert nothing_is_left(kernel, b"x" * 11)


def test_what_turns_out_not_to_fit_is_cut_off(client, kernel):
    with_limit(kernel, 1 << 20)
    content = b"x" * (3 << 20)
    answer = put(client, "a.txt", iter([content]), digest=sha256(content).hexdigest())
    assert (answer.status_code, answer.json()["code"]) == (413, "hub.quota-exceeded")
    assert nothing_is_left(kernel, content)


def test_an_operator_sets_one_organisations_limit_and_takes_it_back(client, kernel):
    given = {"handle": "hospital", "name": "Hospital"}
    org = client.post("/api/v1/members/organisation/create", json=given).json()["id"]

    def limit(size: int | None) -> dict[str, Any]:
        return client.post("/api/v1/hub/quota/set", json={"org": org, "limit_bytes": size}).json()

    assert put(client, "a.txt", b"hello", org=org).status_code == 201
    assert limit(5) == {"org": org, "used_bytes": 5, "blobs": 1, "limit_bytes": 5, "is_own_limit": True}
    answer = put(client, "b.txt", b"!", org=org)
    assert answer.json()["params"] == {"room_bytes": 0, "size_bytes": 1}
    assert limit(1)["used_bytes"] == 5, "a limit below what is held takes nothing away"
    assert not limit(None)["is_own_limit"]
    assert put(client, "b.txt", b"!", org=org).status_code == 201


def test_uploads_under_way_count_together():
    place = Intake()
    with place.admit(ORG, size=6, room_bytes=10), place.admit(ORG, size=None, room_bytes=10) as other:
        other.arrived(4)
        with pytest.raises(Refused) as caught:
            other.arrived(1)
        assert caught.value.params == {"room_bytes": 4, "size_bytes": 5}
        with pytest.raises(Refused, match="quota-exceeded"), place.admit(ORG, size=1, room_bytes=10):
            pass
    with place.admit(ORG, size=10, room_bytes=10):
        pass
    assert not place._under_way


def test_the_room_is_asked_again_when_the_bytes_are_taken_in(client, kernel):
    """Another server process may have taken it meanwhile."""
    with_limit(kernel, 10)
    seen = inspection.Inspected("a.txt", 11, (), ())
    with pytest.raises(Refused, match="quota-exceeded"):
        kernel.transact(lambda ctx: service.receive_blob(ctx, org=ORG, sha256="0" * 64, inspected=seen), reason="t")
    assert used(kernel) == (0, 0)


def test_each_content_counts_once_for_each_who_brings_it(client, kernel):
    for path in ("a.txt", "b.txt", "a.txt"):
        assert put(client, path, b"hello").status_code == 201
    assert put(client, "a.txt", b"hello", org="org_other").status_code == 201
    assert used(kernel) == used(kernel, "org_other") == (5, 1)


def test_what_one_holds_already_comes_in_again_though_the_room_is_full(client, kernel):
    assert put(client, "a.txt", b"hello").status_code == 201
    with_limit(kernel, 5)
    assert put(client, "renamed.txt", b"hello").status_code == 201
    assert put(client, "b.txt", b"!").json()["code"] == "hub.quota-exceeded"


def test_many_uploads_at_once_do_not_pass_the_limit(client, kernel):
    with_limit(kernel, 50)

    def bring(number: int) -> int:
        return put(client, f"{number}.txt", f"{number:010}".encode()).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(bring, range(12)))
    assert used(kernel) == (10 * statuses.count(201), statuses.count(201))
    assert set(statuses) <= {201, 413} and 1 <= statuses.count(201) <= 5
    with kernel.db.reading() as session:
        assert session.query(BlobOwner).count() == statuses.count(201)


def test_a_file_of_ours_that_is_gone_is_our_bug(kernel):
    with pytest.raises(Broken, match="blob-missing"):
        service.inspect_blob(kernel.blobs, "0" * 64, "a.txt")
