"""The OCI door, request by request, as the distribution specification has it."""

from __future__ import annotations

import base64
import json
import socket
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import delete, update

from gongqi.kernel.blobs import CHUNK_BYTES
from gongqi.resources.hub.documents import Document, attach
from gongqi.resources.hub.models import Release, Shelved
from tests.house.conftest import wait_for
from tests.resources.hub.oci.conftest import CARD, MANIFEST, Registry, code_of, digest_of

FILES = {"README.md": CARD, "weights/model.safetensors": b"", "config.json": b'{"hidden_size": 8}'}
FILES["weights/model.safetensors"] = (2).to_bytes(8, "little") + b"{}"


@pytest.mark.heavy
def test_what_is_pushed_is_a_revision_and_is_pulled_as_it_was(registry: Registry) -> None:
    name = registry.name()
    content = registry.push(name, FILES, "v1")
    asset = registry.asset(registry.donor, name)
    assert (asset["kind"], asset["visibility"]) == ("model", "private")
    [revision] = registry.donor.read("hub:revision:list", asset=asset["id"])["items"]
    detail = registry.read("hub/revision", revision["id"])
    assert {file["path"]: f"sha256:{file['sha256']}" for file in detail["files"]} == {
        path: digest_of(each) for path, each in FILES.items()
    }
    for reference in ("v1", "latest", digest_of(content)):
        answer = registry.get(f"/v2/{name}/manifests/{reference}", registry.donor)
        assert (answer.content, answer.headers["content-type"]) == (content, MANIFEST)
        assert answer.headers["docker-content-digest"] == digest_of(content)
    for each in FILES.values():
        assert registry.get(f"/v2/{name}/blobs/{digest_of(each)}", registry.donor).content == each


def test_any_revision_is_pulled_and_its_manifest_is_the_same_whenever_it_is_made(registry: Registry) -> None:
    asset = registry.foundation.asset(registry.donor, registry.north, "plain", kind="model", visibility="public")
    files = [registry.foundation.bring(registry.donor, registry.north, path, each) for path, each in FILES.items()]
    made = registry.donor.verb("hub:revision:commit", asset=asset, message="m", files=files)
    first = registry.get("/v2/north/plain/manifests/latest")
    registry.foundation.kernel.db.write(lambda session: session.execute(delete(Shelved)))
    second = registry.get("/v2/north/plain/manifests/main")
    assert first.content == second.content
    manifest = first.json()
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    kinds = {
        each["annotations"]["org.cncf.model.filepath"]: each["mediaType"].split(".model.")[1]
        for each in manifest["layers"]
    }
    assert kinds == {
        "README.md": "doc.v1.raw", "config.json": "weight.config.v1.raw", "weights/model.safetensors": "weight.v1.raw"
    }  # fmt: skip
    config = registry.get(f"/v2/north/plain/blobs/{manifest['config']['digest']}")
    assert digest_of(config.content) == manifest["config"]["digest"]
    told = config.json()
    assert told["descriptor"]["licenses"] == ["Apache-2.0"] and told["descriptor"]["revision"] == made["digest"]
    assert told["modelfs"]["diffIds"] == [each["digest"] for each in manifest["layers"]]


def test_bytes_are_kept_once_however_they_come(registry: Registry) -> None:
    before = registry.read("hub/quota", registry.north)
    content = b"the same bytes by two doors\n"
    registry.foundation.bring(registry.donor, registry.north, "a.txt", content)
    registry.push(registry.name(), {"a.txt": content})
    after = registry.read("hub/quota", registry.north)
    config = len(b'{"config": {}}')
    assert after["used_bytes"] - before["used_bytes"] in (len(content), len(content) + config)


# --- who may ---------------------------------------------------------------------------------------------------------


def test_a_client_without_a_token_is_told_where_to_get_one(registry: Registry) -> None:
    name = registry.name()
    registry.push(name, FILES)
    for path, scope in (("/v2/", ""), (f"/v2/{name}/manifests/latest", f"repository:{name}:pull")):
        answer = registry.get(path)
        assert answer.status_code == 401
        said = answer.headers["www-authenticate"]
        assert said.startswith(f'Bearer realm="{registry.url}/v2/token",service="gongqi"') and scope in said
    password = base64.b64encode(f"donor:{registry.donor.secret}".encode()).decode()
    token = registry.get("/v2/token", authorization=f"Basic {password}").json()["token"]
    for header in (f"Bearer {token}", f"Basic {password}"):
        assert registry.get("/v2/", authorization=header).status_code == 200
        assert registry.get(f"/v2/{name}/manifests/latest", authorization=header).status_code == 200


@pytest.mark.heavy
def test_with_the_token_of_nobody_what_is_not_public_does_not_exist(registry: Registry) -> None:
    name = registry.name()
    registry.push(name, FILES)
    nobody = f"Bearer {registry.get('/v2/token').json()['token']}"
    assert registry.get("/v2/", authorization=nobody).status_code == 200
    for path in (name, "north/nothing", "nowhere/nothing"):
        for tail in ("manifests/latest", f"blobs/{digest_of(CARD)}", "tags/list", f"referrers/{digest_of(CARD)}"):
            assert code_of(registry.get(f"/v2/{path}/{tail}", authorization=nobody)) == (
                404, "NAME_UNKNOWN", "hub.address-unknown"
            )  # fmt: skip
    answer = registry.get("/v2/token", authorization=f"Bearer gqt_{'x' * 43}")
    assert code_of(answer) == (401, "UNAUTHORIZED", "members.token-invalid")
    assert registry.get("/v2/", authorization="Basic !!!").status_code == 401


def test_the_neighbour_can_neither_push_nor_go_on_with_an_upload(registry: Registry) -> None:
    name = registry.name()
    with registry.http(registry.donor) as http:
        where = http.post(f"/v2/{name}/blobs/uploads/").headers["location"]
    with registry.http(registry.other) as http:
        assert code_of(http.post(f"/v2/{name}/blobs/uploads/"))[:2] == (403, "DENIED")
        assert code_of(http.patch(where, content=b"x"))[1:] == ("BLOB_UPLOAD_UNKNOWN", "hub.ticket-invalid")
    assert code_of(registry.put(name, "latest", b"{}", registry.other))[:2] == (403, "DENIED")
    assert code_of(registry.put("nowhere/x", "latest", b"{}"))[:2] == (404, "NAME_UNKNOWN")


def test_a_digest_alone_opens_nothing(registry: Registry) -> None:
    secret = b"only the south may have these bytes\n"
    registry.foundation.bring(registry.other, registry.south, "secret.txt", secret)
    name = registry.name()
    registry.push(name, FILES)
    for person in (registry.donor, registry.other):
        answer = registry.get(f"/v2/{name}/blobs/{digest_of(secret)}", person)
        assert answer.status_code == 404, answer.text
    layers = [
        {"mediaType": "x/y", "digest": digest_of(secret), "size": 1, "annotations": {"org.cncf.model.filepath": "a"}}
    ]
    config = {"mediaType": "x/y", **registry.upload(name, b"{}")}
    manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
    assert code_of(registry.put(name, "v9", manifest))[1:] == ("MANIFEST_BLOB_UNKNOWN", "hub.blob-unknown")


def test_the_files_of_a_gated_asset_are_for_whoever_was_let_in(registry: Registry) -> None:
    name = registry.name()
    registry.push(name, FILES)
    asset = registry.asset(registry.donor, name)["id"]
    registry.donor.verb("hub:asset:open", asset=asset, visibility="public")
    registry.donor.verb("hub:asset:gate", asset=asset, gated="manual")
    blob = f"/v2/{name}/blobs/{digest_of(CARD)}"
    assert registry.get(f"/v2/{name}/manifests/latest").status_code == 200
    assert registry.get(blob).status_code == 401
    assert code_of(registry.get(blob, registry.other)) == (403, "DENIED", "hub.asset-gated")
    registry.donor.verb("hub:access:grant", asset=asset, party=registry.other.party)
    assert registry.get(blob, registry.other).content == CARD


# --- uploads ---------------------------------------------------------------------------------------------------------


def test_a_blob_in_pieces_goes_on_where_it_stands(registry: Registry) -> None:
    name, content = registry.name(), b"0123456789" * 1000
    with registry.http(registry.donor) as http:
        begun = http.post(f"/v2/{name}/blobs/uploads/")
        where = begun.headers["location"]
        assert begun.status_code == 202
        sent = http.patch(where, content=content[:4000], headers={"content-range": "0-3999"})
        assert (sent.status_code, sent.headers["range"]) == (202, "0-3999")
        wrong = http.patch(sent.headers["location"], content=b"x", headers={"content-range": "5000-5000"})
        assert (wrong.status_code, wrong.headers["range"]) == (416, "0-3999")
        assert code_of(wrong)[1:] == ("BLOB_UPLOAD_INVALID", "hub.oci-range-invalid")
        stands = http.get(where)
        assert (stands.status_code, stands.headers["range"]) == (204, "0-3999")
        http.patch(where, content=content[4000:9000], headers={"content-range": "4000-8999"})
        ended = http.put(where, params={"digest": digest_of(content)}, content=content[9000:])
        assert (ended.status_code, ended.headers["docker-content-digest"]) == (201, digest_of(content))
        assert http.get(f"/v2/{name}/tags/list").status_code == 404  # no manifest yet, so no repository
    assert registry.put(name, "v1", registry.manifest(name, {"a.txt": content})).status_code == 201
    assert registry.get(f"/v2/{name}/blobs/{digest_of(content)}", registry.donor).content == content


@pytest.mark.heavy
@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_blob_cut_at_any_tenth_goes_on_from_there_or_is_sent_again(registry: Registry, tenth: int) -> None:
    name, content = registry.name(), f"{tenth}".encode() * 3_000_000
    with registry.http(registry.donor) as http:
        where = http.post(f"/v2/{name}/blobs/uploads/").headers["location"]
        path = where.removeprefix(registry.url)
        with socket.create_connection(("127.0.0.1", registry.foundation.port)) as line:
            head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {registry.donor.secret}\r\n"
            head += f"Content-Range: 0-{len(content) - 1}\r\nContent-Length: {len(content)}\r\n\r\n"
            cut = len(content) * tenth // 10
            line.sendall(head.encode() + content[:cut])
        assert registry.get(f"/v2/{name}/blobs/{digest_of(content)}", registry.donor).status_code == 404
        start = wait_for(lambda: goes_on(http, where, content))
        assert cut - CHUNK_BYTES <= start <= cut, "what had come in was kept"
        ended = http.put(where, params={"digest": digest_of(content)})
        assert (ended.status_code, ended.headers["docker-content-digest"]) == (201, digest_of(content))
    assert registry.upload(name, content)["digest"] == digest_of(content), "and sent again it is the same"


def goes_on(http: httpx.Client, where: str, content: bytes) -> int | None:
    """Send what is missing, from where the upload stands, which is told; None while what was cut still holds it."""
    stands = http.get(where)
    if stands.status_code != 204:
        return None
    last = int(stands.headers["range"].partition("-")[2])
    start = last + 1 if last else 0
    sent = http.patch(where, content=content[start:], headers={"content-range": f"{start}-{len(content) - 1}"})
    return start if sent.status_code == 202 else None


def test_what_is_not_what_was_declared_is_gone(registry: Registry) -> None:
    name = registry.name()
    with registry.http(registry.donor) as http:
        where = http.post(f"/v2/{name}/blobs/uploads/").headers["location"]
        answer = http.put(where, params={"digest": digest_of(b"else")}, content=b"this")
        assert code_of(answer)[1:] == ("DIGEST_INVALID", "kernel.digest-mismatch")
        assert code_of(http.get(where)) == (404, "BLOB_UPLOAD_UNKNOWN", "kernel.upload-unknown")
        where = http.post(f"/v2/{name}/blobs/uploads/").headers["location"]
        assert http.delete(where).status_code == 204
        assert code_of(http.patch(where, content=b"x"))[1] == "BLOB_UPLOAD_UNKNOWN"
        assert code_of(http.put(where, params={"digest": "md5:1"}))[1:] == ("DIGEST_INVALID", "hub.oci-digest-invalid")
        assert code_of(http.patch(f"/v2/{name}/blobs/uploads/made-up", content=b"x"))[1] == "BLOB_UPLOAD_UNKNOWN"


def test_an_upload_beyond_the_quota_ends_at_once(registry: Registry) -> None:
    name = registry.name()
    used = registry.read("hub/quota", registry.north)["used_bytes"]
    registry.foundation.operator.verb("hub:quota:set", org=registry.north, limit_bytes=used + 100)
    try:
        with registry.http(registry.donor) as http:
            where = http.post(f"/v2/{name}/blobs/uploads/").headers["location"]
            assert http.patch(where, content=bytes(90)).status_code == 202
            assert code_of(http.patch(where, content=bytes(20)))[2] == "hub.quota-exceeded"
            assert code_of(http.get(where))[1] == "BLOB_UPLOAD_UNKNOWN"
    finally:
        registry.foundation.operator.verb("hub:quota:set", org=registry.north)


def test_a_blob_is_mounted_from_where_one_may_have_it(registry: Registry) -> None:
    public, private, content = registry.name(), registry.name(), b"to be mounted\n"
    registry.push(public, {"a.txt": content})
    registry.push(private, {"a.txt": content + b"!"})
    registry.donor.verb("hub:asset:open", asset=registry.asset(registry.donor, public)["id"], visibility="public")
    with registry.http(registry.other) as http:
        ask = {"mount": digest_of(content), "from": public}
        assert http.post("/v2/south/copy/blobs/uploads/", params=ask).status_code == 201
        ask = {"mount": digest_of(content + b"!"), "from": private}
        assert http.post("/v2/south/copy/blobs/uploads/", params=ask).status_code == 202


# --- tags ------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_tag_stays_and_latest_and_branches_move(registry: Registry) -> None:
    name = registry.name()
    first, second = registry.manifest(name, {"a.txt": b"1\n"}), registry.manifest(name, {"a.txt": b"2\n"})
    assert registry.put(name, "v1", first).status_code == registry.put(name, "v1", first).status_code == 201
    assert code_of(registry.put(name, "v1", second))[2] == "hub.ref-taken"
    asset = registry.asset(registry.donor, name)["id"]
    registry.donor.verb("hub:ref:create", asset=asset, kind="branch", name="dev")
    assert registry.put(name, "dev", second).status_code == 201
    told = {tag: registry.get(f"/v2/{name}/manifests/{tag}", registry.donor).content for tag in ("v1", "latest", "dev")}
    assert told == {"v1": first, "latest": first, "dev": second}
    assert registry.put(name, "latest", second).status_code == 201
    assert registry.get(f"/v2/{name}/manifests/main", registry.donor).content == second
    with registry.http(registry.donor) as http:
        assert http.delete(f"/v2/{name}/manifests/v1").status_code == 202
        assert code_of(http.delete(f"/v2/{name}/manifests/v1"))[1:] == ("MANIFEST_UNKNOWN", "hub.ref-unknown")
        assert code_of(http.delete(f"/v2/{name}/manifests/{digest_of(first)}"))[1] == "UNSUPPORTED"
    assert registry.put(name, digest_of(first), first).status_code == 201  # it is here, whatever names it


@pytest.mark.heavy
def test_what_a_push_does_not_change_keeps_what_was_said_of_it(registry: Registry) -> None:
    asset = registry.foundation.asset(registry.donor, registry.north, "said", kind="model")
    file = registry.foundation.bring(registry.donor, registry.north, "train.py", b"pass\n", component="training-code")
    registry.donor.verb("hub:revision:commit", asset=asset, message="m", files=[file | {"license": "MIT"}])
    registry.push("north/said", {"train.py": b"pass\n", "b.txt": b"b\n"})
    registry.push("north/said", {"train.py": b"pass\n"})
    newest = registry.donor.read("hub:revision:list", asset=asset)["items"][0]
    [kept] = registry.read("hub/revision", newest["id"])["files"]
    assert (newest["number"], kept["component"], kept["license"]) == (3, "training-code", "MIT")


@pytest.mark.heavy
def test_tags_are_listed_in_order_page_by_page(registry: Registry) -> None:
    name = registry.name()
    content = registry.manifest(name, FILES)
    for tag in ("b", "a", "c"):
        assert registry.put(name, tag, content).status_code == 201
    whole = registry.get(f"/v2/{name}/tags/list", registry.donor).json()
    assert whole == {"name": name, "tags": ["a", "b", "c", "latest", "main"]}
    got, path = [], f"/v2/{name}/tags/list?n=2"
    while path:
        answer = registry.get(path, registry.donor)
        got += answer.json()["tags"]
        path = answer.headers.get("link", "<>").partition("<")[2].partition(">")[0]
    assert got == whole["tags"]
    assert registry.get(f"/v2/{name}/tags/list?n=0", registry.donor).json()["tags"] == []
    assert code_of(registry.get(f"/v2/{name}/tags/list?n=-1", registry.donor))[2] == "hub.oci-page-invalid"


def test_a_blob_may_be_asked_for_in_part_and_a_head_has_no_body(registry: Registry) -> None:
    name = registry.name()
    content = registry.push(name, FILES)
    part = registry.get(f"/v2/{name}/blobs/{digest_of(CARD)}", registry.donor, range="bytes=4-9")
    assert (part.status_code, part.content) == (206, CARD[4:10])
    with registry.http(registry.donor) as http:
        blob, manifest = http.head(f"/v2/{name}/blobs/{digest_of(CARD)}"), http.head(f"/v2/{name}/manifests/latest")
        assert http.head(f"/v2/{name}/blobs/{digest_of(b'nothing')}").status_code == 404
    assert (blob.status_code, blob.headers["content-length"], blob.content) == (200, str(len(CARD)), b"")
    assert (manifest.status_code, manifest.headers["content-length"]) == (200, str(len(content)))


# --- what is not taken -----------------------------------------------------------------------------------------------


def changed(content: bytes, **more: object) -> bytes:
    return json.dumps(json.loads(content) | more).encode()


@pytest.mark.heavy
def test_a_manifest_that_cannot_be_a_revision_is_refused_with_the_reason(registry: Registry) -> None:
    name = registry.name()
    good = registry.manifest(name, FILES)
    layers = json.loads(good)["layers"]
    packed = [layers[0] | {"mediaType": "application/vnd.cncf.model.weight.v1.tar+gzip"}]
    nameless = [layers[0] | {"annotations": {}}]
    outside = [layers[0] | {"annotations": {"org.cncf.model.filepath": "../../etc/passwd"}}]
    cases = {
        b"{": ("MANIFEST_INVALID", "hub.oci-manifest-invalid"),
        b"[]": ("MANIFEST_INVALID", "hub.oci-manifest-invalid"),
        changed(good, layers=[]): ("MANIFEST_INVALID", "hub.oci-manifest-invalid"),
        changed(good, schemaVersion=1): ("MANIFEST_INVALID", "hub.oci-manifest-invalid"),
        changed(good, layers=nameless): ("MANIFEST_INVALID", "hub.oci-manifest-invalid"),
        changed(good, layers=packed): ("MANIFEST_INVALID", "hub.oci-layer-packed"),
        changed(good, layers=layers[:1] * 2): ("DENIED", "hub.path-twin"),
        changed(good, layers=outside): ("DENIED", "hub.path-traversal"),
        changed(good, subject=layers[0]): ("UNSUPPORTED", "hub.oci-unsupported"),
        changed(good, config=layers[0] | {"digest": digest_of(b"never brought")}): (
            "MANIFEST_BLOB_UNKNOWN", "hub.blob-unknown"
        ),
        b'{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}': ("UNSUPPORTED", "hub.oci-unsupported"),
        b" " * (4 << 20) + b"{}": ("DENIED", "hub.oci-manifest-too-large"),
    }  # fmt: skip
    for content, wanted in cases.items():
        answer = registry.put(name, "v1", content)
        assert 400 <= answer.status_code < 500 and code_of(answer)[1:] == wanted, content[:200]
    assert code_of(registry.put(name, "-x", good))[2] == "hub.ref-invalid"
    assert code_of(registry.put(name, digest_of(good), good))[2] == "hub.oci-unsupported"
    assert code_of(registry.put(name, digest_of(b""), good))[2] == "kernel.digest-mismatch"
    assert registry.get(f"/v2/{name}/tags/list", registry.donor).status_code == 404  # nothing half-made


def test_bytes_that_are_dangerous_under_their_name_are_refused_with_the_manifest(registry: Registry) -> None:
    name = registry.name()
    content = registry.manifest(name, {"notes.onnx": b"this is no graph\n"})
    answer = registry.put(name, "v1", content)
    assert answer.status_code == 422 and answer.json()["code"].startswith("hub."), answer.text


def test_a_manifest_beyond_what_clients_take_is_not_made(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gongqi.resources.hub.oci.manifests.LIMIT_BYTES", 500)
    asset = registry.foundation.asset(registry.donor, registry.north, "many", kind="model")
    files = [registry.foundation.bring(registry.donor, registry.north, f"{n}.txt", b"x") for n in range(5)]
    registry.donor.verb("hub:revision:commit", asset=asset, message="m", files=files)
    answer = registry.get("/v2/north/many/manifests/latest", registry.donor)
    assert code_of(answer)[2] == "hub.oci-manifest-too-large"


def test_a_manifest_nobody_asked_for_by_name_is_not_known_by_digest(registry: Registry) -> None:
    name = registry.name()
    registry.push(name, FILES)
    answer = registry.get(f"/v2/{name}/manifests/{digest_of(b'nobody has this')}", registry.donor)
    assert code_of(answer) == (404, "MANIFEST_UNKNOWN", "hub.oci-manifest-unknown")
    assert code_of(registry.get(f"/v2/{name}/manifests/v7", registry.donor))[1:] == (
        "MANIFEST_UNKNOWN",
        "hub.ref-unknown",
    )
    blob = registry.get(f"/v2/{name}/blobs/{digest_of(b'nobody has this')}", registry.donor)
    assert code_of(blob) == (404, "BLOB_UNKNOWN", "hub.oci-blob-unknown")


# --- what goes with it -----------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_the_documents_of_a_release_refer_to_its_manifest(registry: Registry) -> None:
    name = registry.name()
    manifest = registry.push(name, FILES)
    asset = registry.asset(registry.donor, name)["id"]
    revision = registry.donor.read("hub:revision:list", asset=asset)["items"][0]["id"]
    release = registry.donor.verb("hub:release:draft", asset=asset, revision=revision, name="1.0.0")["id"]
    kernel, document = (
        registry.foundation.kernel,
        Document("mlbom.json", "application/vnd.cyclonedx+json", b'{"bom": 1}'),
    )

    def published(ctx: object) -> None:
        values = {"state": "published", "published_at": datetime.now(UTC), "statement_digest": "0" * 64}
        ctx.session.execute(update(Release).where(Release.id == release).values(**values))  # type: ignore[attr-defined]
        attach(ctx, release, [document])  # type: ignore[arg-type]

    kernel.transact(published, reason="test")
    for _ in range(2):
        index = registry.get(f"/v2/{name}/referrers/{digest_of(manifest)}", registry.donor).json()
        types = [each["artifactType"] for each in index["manifests"]]
        assert types == ["application/vnd.in-toto+json", "application/vnd.cyclonedx+json"]
    wanted = {"artifactType": document.media_type}
    with registry.http(registry.donor) as http:
        filtered = http.get(f"/v2/{name}/referrers/{digest_of(manifest)}", params=wanted)
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    [listed] = filtered.json()["manifests"]
    about = registry.get(f"/v2/{name}/manifests/{listed['digest']}", registry.donor).json()
    assert about["subject"]["digest"] == digest_of(manifest)
    for part in (about["config"], *about["layers"]):
        assert digest_of(registry.get(f"/v2/{name}/blobs/{part['digest']}", registry.donor).content) == part["digest"]
    assert registry.get(f"/v2/{name}/manifests/1.0.0", registry.donor).content == manifest
    nothing = registry.get(f"/v2/{name}/referrers/{digest_of(b'nobody has this')}", registry.donor).json()
    assert nothing["manifests"] == []


def test_both_protocols_have_their_addresses_on_one_port(registry: Registry) -> None:
    org = registry.foundation.organisation("models")
    person = registry.foundation.person("keeper", org, "owner")
    registry.upload("models/infer", CARD, person)
    assert registry.get("/v2").json()["name"] == "gongqi"
    assert registry.get("/v2/health/ready").json() == {"ready": True}
    assert registry.get("/v2/models/infer").json()["error"]
    assert registry.get("/v2/", person).json() == {}
    assert code_of(registry.get("/v2/models/infer/tags/list", person))[1] == "NAME_UNKNOWN"
