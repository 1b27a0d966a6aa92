"""The hub over HTTP: bytes in, bytes out, the bundle; through the real door, with a real token and the real log."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
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
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.worker import Worker
from gongqi.members import VOCABULARY
from gongqi.members.bootstrap import bootstrap_operator
from gongqi.members.room import ROOM as MEMBERS
from gongqi.resources.hub.room import ROOM as HUB
from gongqi.resources.hub.verify import verify_bundle

WEB = Path(build_app.__code__.co_filename).parent
WORDS = (WEB.parent / "words.toml", WEB / "words.toml")
CARD = b"---\nlicense: CC-BY-4.0\n---\n# Card\n"
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
def stranger(kernel: Kernel) -> TestClient:
    return TestClient(build_app(kernel))


def put(client: TestClient, path: str, content: bytes, *, digest: str | None = None, **more: Any) -> Any:
    name = digest or sha256(content).hexdigest()
    return client.put(f"/api/v1/hub/blob/{name}", params={"org": ORG, "path": path}, content=content, **more)


def commit(client: TestClient, files: dict[str, bytes], *, visibility: str = "public") -> tuple[str, str]:
    """(asset, revision) with these files and a card."""
    given = {"org": ORG, "slug": "wdbc", "kind": "dataset", "title_zh": "样例", "title_en": "Sample"}
    asset = client.post("/api/v1/hub/asset/create", json=given | {"visibility": visibility}).json()["id"]
    contents = {**files, "README.md": CARD}
    for path, content in contents.items():
        assert put(client, path, content).status_code == 201
    listed = [{"path": path, "sha256": sha256(content).hexdigest()} for path, content in contents.items()]
    made = client.post("/api/v1/hub/revision/commit", json={"asset": asset, "message": "m", "files": listed})
    assert made.status_code in (200, 201), made.text
    return asset, made.json()["id"]


def test_a_file_goes_in_and_comes_out_the_same(client, stranger):
    content = b"a,b\n" + b"1,2\n" * 1_000_000  # some megabytes, so that it arrives in many chunks
    _, revision = commit(client, {"data/a b.csv": content})
    got = stranger.get(f"/api/v1/hub/revision/{revision}/file/data/a b.csv")
    assert got.status_code == 200 and got.content == content
    assert got.headers["etag"] == f'"{sha256(content).hexdigest()}"'
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.csv"
    assert "sandbox" in got.headers["content-security-policy"]


def test_a_file_is_read_in_ranges_and_not_sent_twice(client, stranger):
    _, revision = commit(client, {"data.csv": b"0123456789"})
    address = f"/api/v1/hub/revision/{revision}/file/data.csv"
    part = stranger.get(address, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    etag = part.headers["etag"]
    assert stranger.get(address, headers={"if-none-match": etag}).status_code == 304
    assert stranger.get(address, headers={"if-none-match": '"other"'}).status_code == 200
    stale = stranger.get(address, headers={"range": "bytes=2-4", "if-range": '"other"'})
    assert (stale.status_code, len(stale.content)) == (200, 10)
    assert stranger.get(address, headers={"range": "bytes=50-60"}).status_code == 416
    assert stranger.head(address).headers["content-length"] == "10"


def test_a_private_file_is_not_there_for_strangers(client, stranger):
    _, revision = commit(client, {"data.csv": b"x"}, visibility="private")
    address = f"/api/v1/hub/revision/{revision}/file/data.csv"
    assert client.get(address).status_code == 200
    assert (stranger.get(address).status_code, stranger.get(address).json()["code"]) == (404, "access.not-found")


def test_a_file_that_a_revision_lacks_is_not_found(client):
    _, revision = commit(client, {})
    answer = client.get(f"/api/v1/hub/revision/{revision}/file/nothing.csv")
    assert (answer.status_code, answer.json()["code"]) == (404, "hub.file-absent")
    assert client.get(f"/api/v1/hub/revision/{revision}/file/a%00b").status_code == 404


@pytest.mark.parametrize(
    ("path", "content", "digest", "headers", "code"),
    [
        ("a.csv", b"abc", "0" * 64, {}, "kernel.digest-mismatch"),
        ("a.csv", b"abc", "xyz", {}, "kernel.digest-invalid"),
        ("a.csv", b"abc", None, {"content-length": "9"}, "kernel.blob-truncated"),
        ("a.csv", b"abc", None, {"content-length": "-3"}, "hub.length-invalid"),
        ("a.csv", b"abc", None, {"content-length": "9" * 18}, "kernel.blob-too-large"),
        ("../a.csv", b"abc", None, {}, "hub.path-traversal"),
        ("", b"abc", None, {}, "hub.upload-query-missing"),
        ("a.bin", pickle.dumps({1: 2}), None, {}, "hub.pickle"),
    ],
)
def test_a_bad_upload_is_refused_in_both_languages_and_keeps_nothing(
    client, kernel, path, content, digest, headers, code
):
    said = {}
    for language in ("zh", "en"):
        answer = put(client, path, content, digest=digest, headers=headers | {"accept-language": language})
        assert answer.json()["code"] == code
        assert 400 <= answer.status_code < 500
        said[language] = answer.json()["detail"]
    assert said["zh"] != said["en"] and "{" not in said["zh"] + said["en"]
    assert list(kernel.blobs.incoming.folder.iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing_behind(client, kernel):
    digest = sha256(b"abcdef").hexdigest()
    arriving = [{"type": "http.request", "body": b"abc", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return arriving.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "PUT", "path": f"/api/v1/hub/blob/{digest}", "raw_path": b"", "root_path": "",
        "query_string": b"org=org_hospital&path=a.csv", "http_version": "1.1", "scheme": "http", "client": None,
        "headers": [(b"authorization", client.headers["authorization"].encode()), (b"content-length", b"6")],
    }  # fmt: skip
    anyio.run(build_app(kernel), scope, receive, send)
    assert sent[0]["status"] == 400 and b"kernel.blob-truncated" in sent[1]["body"]
    assert list(kernel.blobs.incoming.folder.iterdir()) == [] and not kernel.blobs.has(digest)


def test_an_upload_needs_the_right_to_bring_bytes(client, stranger):
    answer = put(stranger, "a.csv", b"abc")
    assert (answer.status_code, answer.json()["code"]) == (401, "access.sign-in-needed")


def test_an_upload_tells_what_a_reviewer_should_look_at(client):
    answer = put(client, "a.bin", b"\x01\x02\xff\x00" * 9)
    assert answer.status_code == 201
    assert [finding["code"] for finding in answer.json()["findings"]] == ["hub.content-unrecognised"]


def test_the_inspectors_findings_cannot_be_made_up_by_a_caller(client):
    given = {"org": ORG, "sha256": "0" * 64, "name": "a", "size": 1, "findings": [], "external": []}
    assert client.post("/api/v1/hub/blob/add", json=given).status_code == 404


def test_a_published_release_leaves_as_a_bundle_that_holds_offline(client, stranger, kernel, tmp_path):
    asset, revision = commit(client, {"data.csv": b"a\n1\n"})
    draft = client.post("/api/v1/hub/release/draft", json={"asset": asset, "revision": revision, "name": "1.0.0"})
    release = draft.json()["id"]
    address = f"/api/v1/hub/release/{release}/bundle"
    assert client.get(address).json()["code"] == "hub.release-not-published"
    assert client.post("/api/v1/hub/release/submit", json={"release": release}).status_code == 200
    assert client.post("/api/v1/hub/release/publish", json={"release": release}).status_code == 200
    early = client.get(address)
    assert (early.status_code, early.json()["code"]) == (503, "evidence.not-sequenced-yet")
    Worker(kernel).run_until_idle()
    path = tmp_path / "bundle.zip"
    path.write_bytes(stranger.get(address).content)
    keys = kernel.part(SigningKeys).public.keys
    report = verify_bundle(path, trusted_key_ids={key.key_id for key in keys})
    assert report.holds, [claim for claim in report.claims if not claim.holds]
    assert report.release == release


def test_a_bundle_carries_the_statements_of_its_sources(client, kernel, tmp_path):
    asset, revision = commit(client, {"data.csv": b"a\n1\n"})
    releases = []
    given = {"org": ORG, "slug": "net", "kind": "model", "title_zh": "模型", "title_en": "Net", "visibility": "public"}
    model = client.post("/api/v1/hub/asset/create", json=given).json()["id"]
    files = [{"path": "README.md", "sha256": sha256(CARD).hexdigest()}]
    for home, source in ((asset, None), (model, revision)):
        if source:
            lineage = [{"revision": source, "relation": "trained-on"}]
            body = {"asset": home, "message": "m", "files": files, "lineage": lineage}
            revision = client.post("/api/v1/hub/revision/commit", json=body).json()["id"]
        body = {"asset": home, "revision": revision, "name": "1.0.0"}
        releases.append(client.post("/api/v1/hub/release/draft", json=body).json()["id"])
        client.post("/api/v1/hub/release/submit", json={"release": releases[-1]})
        assert client.post("/api/v1/hub/release/publish", json={"release": releases[-1]}).status_code == 200
    Worker(kernel).run_until_idle()
    path = tmp_path / "bundle.zip"
    path.write_bytes(client.get(f"/api/v1/hub/release/{releases[-1]}/bundle").content)
    report = verify_bundle(path)
    assert report.holds
    assert report["lineage"].params == {"count": 1, "signed": 1, "withheld": 0}
