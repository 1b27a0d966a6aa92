"""Uploads by the tus protocol, spoken by hand: in parts, after cuts, by somebody else, and against what was announced."""

from __future__ import annotations

import pickle
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.room import ROOM as EVIDENCE
from gongqi.doors.web.server import build as build_app
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.room import House, Kernel
from gongqi.members import VOCABULARY
from gongqi.members.bootstrap import bootstrap_operator
from gongqi.members.room import ROOM as MEMBERS
from gongqi.resources.hub import tus
from gongqi.resources.hub.models import BlobOwner
from gongqi.resources.hub.room import ROOM as HUB

WEB = Path(build_app.__code__.co_filename).parent
WORDS = (WEB.parent / "words.toml", WEB / "words.toml")
ORG, TUS = "org_hospital", {"tus-resumable": "1.0.0"}
PART = TUS | {"content-type": tus.PART_TYPE}
CONTENT = bytes(range(256)) * 400


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


def announced(content: bytes, path: str = "data/records.bin", **more: str) -> dict[str, str]:
    told = {"org": ORG, "path": path, "sha256": sha256(content).hexdigest()} | more
    metadata = ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in told.items())
    return {"upload-length": str(len(content)), "upload-metadata": metadata}


def begin(client: TestClient, content: bytes = CONTENT, **more: str) -> str:
    answer = client.post(tus.PLACE, headers=TUS | announced(content, **more))
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def send(client: TestClient, where: str, part: bytes, at: int) -> Any:
    return client.patch(where, content=part, headers=PART | {"upload-offset": str(at)})


def stands(client: TestClient, where: str) -> int:
    answer = client.head(where, headers=TUS)
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def holds(kernel: Kernel, content: bytes) -> bool:
    return kernel.look(lambda ctx: ctx.session.get(BlobOwner, (sha256(content).hexdigest(), ORG))) is not None


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_file_comes_in_parts_and_is_taken_in_with_the_last(client, kernel):
    where = begin(client)
    for at in range(0, len(CONTENT), 30_000):
        assert stands(client, where) == at
        answer = send(client, where, CONTENT[at : at + 30_000], at)
        assert answer.status_code == 204 and "GMT" in answer.headers["upload-expires"]
    assert holds(kernel, CONTENT) and kernel.blobs.read(sha256(CONTENT).hexdigest(), limit_bytes=1 << 20) == CONTENT
    assert stands(client, where) == len(CONTENT), "whoever did not hear the last answer finds it done"


def test_a_part_may_come_with_the_announcement_and_an_empty_file_is_done_with_it(client, kernel):
    answer = client.post(tus.PLACE, headers=PART | announced(CONTENT), content=CONTENT[:1000])
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "1000")
    assert send(client, answer.headers["location"], CONTENT[1000:], 1000).status_code == 204
    assert client.post(tus.PLACE, headers=TUS | announced(b"", path="empty.txt")).status_code == 201
    assert holds(kernel, CONTENT) and holds(kernel, b"")


def test_what_has_come_outlives_the_server(client, kernel):
    where = begin(client)
    send(client, where, CONTENT[:50_000], 0)
    again = TestClient(build_app(kernel), headers=dict(client.headers))
    assert stands(again, where) == 50_000
    assert send(again, where, CONTENT[50_000:], 50_000).status_code == 204 and holds(kernel, CONTENT)


def test_a_part_in_the_wrong_place_is_told_where_the_upload_stands(client):
    where = begin(client)
    send(client, where, CONTENT[:100], 0)
    answer = send(client, where, CONTENT[50:200], 50)
    assert refused(answer) == (409, "hub.tus-offset-differs") and answer.json()["params"]["size_bytes"] == 100
    assert stands(client, where) == 100


def test_two_who_send_at_once_are_told_to_wait(client, kernel):
    where = begin(client)
    ticket = where.rpartition("/")[2]
    upload = kernel.blobs.upload(resume=tus.accept(kernel, tus.PURPOSE, ticket)["upload"])
    assert refused(send(client, where, CONTENT, 0)) == (423, "hub.tus-locked")
    assert client.head(where, headers=TUS).status_code == 423, "on other answers clients begin anew"
    upload.pause()
    assert send(client, where, CONTENT, 0).status_code == 204


def test_bytes_that_are_not_those_announced_are_gone(client, kernel):
    where = begin(client)
    assert refused(send(client, where, CONTENT[::-1], 0)) == (422, "kernel.digest-mismatch")
    assert client.head(where, headers=TUS).status_code == 404
    assert not list(kernel.blobs.incoming.folder.iterdir()) and not holds(kernel, CONTENT)


def test_more_than_was_announced_does_not_come_in(client, kernel):
    where = begin(client)
    assert refused(send(client, where, CONTENT + b"x", 0)) == (400, "hub.tus-header-invalid")
    pieces = iter([CONTENT, b"x"])
    answer = client.patch(where, content=pieces, headers=PART | {"upload-offset": "0"})  # without a length
    assert refused(answer) == (400, "hub.tus-header-invalid") and not holds(kernel, CONTENT)


def test_a_dangerous_file_is_refused_with_its_finding(client, kernel):
    content = pickle.dumps(print)
    where = begin(client, content, path="weights.pkl")
    answer = send(client, where, content, 0)
    assert refused(answer) == (422, "hub.pickle") and "safetensors" in answer.json()["localized"]["en"]["remedy"]
    assert not holds(kernel, content) and not list(kernel.blobs.incoming.folder.iterdir())


def test_bytes_that_could_not_be_inspected_now_are_kept_and_taken_in_when_asked_again(client, kernel, monkeypatch):
    where, real = begin(client), tus.take_in

    async def busy(*_: Any, **__: Any) -> None:
        raise Unavailable("hub.inspection-late", retry_after_seconds=1, seconds=1)

    monkeypatch.setattr(tus, "take_in", busy)
    assert send(client, where, CONTENT, 0).status_code == 503
    monkeypatch.setattr(tus, "take_in", real)
    assert stands(client, where) == len(CONTENT) and holds(kernel, CONTENT)


def test_an_upload_can_be_given_up(client, kernel):
    where = begin(client)
    assert client.delete(where, headers=TUS).status_code == 204
    assert client.head(where, headers=TUS).status_code == 404
    assert not list(kernel.blobs.incoming.folder.iterdir())


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"tus-resumable": "0.2.2"}, 412, "hub.tus-version-unsupported"),
        ({"upload-length": "many"}, 400, "hub.tus-header-invalid"),
        ({"upload-length": "9" * 18}, 413, "kernel.blob-too-large"),
        ({"upload-metadata": "path ***"}, 400, "hub.tus-header-invalid"),
        ({"upload-metadata": "x " + "QUFB" * 3000}, 400, "hub.tus-header-invalid"),
        ({"upload-metadata": "path QQ=="}, 400, "hub.upload-query-missing"),
    ],
)  # fmt: skip
def test_a_malformed_announcement_is_refused_in_words(client, headers, status, code):
    answer = client.post(tus.PLACE, headers=TUS | announced(CONTENT) | headers)
    assert refused(answer) == (status, code)
    assert all("{" not in said["detail"] + said["remedy"] for said in answer.json()["localized"].values())


def test_a_path_that_leaves_the_asset_is_refused_before_a_byte_travels(client):
    answer = client.post(tus.PLACE, headers=TUS | announced(CONTENT, path="../escape"))
    assert refused(answer) == (422, "hub.path-traversal")


def test_an_address_is_for_whoever_it_was_given_to(client, kernel):
    where = begin(client)
    stranger = TestClient(build_app(kernel))
    assert refused(stranger.patch(where, content=b"x", headers=PART | {"upload-offset": "0"})) == (
        403,
        "hub.ticket-invalid",
    )
    assert refused(client.patch(where + "x", content=b"x", headers=PART | {"upload-offset": "0"}))[0] == 403
    assert refused(stranger.post(tus.PLACE, headers=TUS | announced(CONTENT))) == (401, "access.sign-in-needed")


def test_what_is_held_already_need_not_travel(client):
    digest = sha256(CONTENT).hexdigest()

    def held(path: str) -> bool:
        return client.get(f"/api/v1/hub/blob/{digest}", params={"org": ORG, "path": path}).json()["held"]

    assert not held("data/records.bin")
    send(client, begin(client), CONTENT, 0)
    assert held("elsewhere/records.bin") and not held("data/records.pkl"), "a name can promise a program"


def test_what_the_server_speaks_can_be_asked(client):
    told = client.options(tus.PLACE).headers
    assert told["tus-version"] == "1.0.0" and "creation" in told["tus-extension"].split(",")
