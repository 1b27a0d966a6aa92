"""A published release is described, for whoever may see it, in forms that the tools of others read."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import rfc8785
from starlette.testclient import TestClient

from gongqi.books.evidence.keys import ECDSA_P256, SigningKeys
from gongqi.books.evidence.signing import verify_envelope
from gongqi.chain.standards import flows
from gongqi.chain.standards.documents import describe, keep
from gongqi.chain.standards.proofs import OneProof, show_proof
from gongqi.doors.web.server import build as build_app
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.flows import FlowRow
from gongqi.kernel.verbs import Caller, query
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.bundle import write_bundle
from gongqi.resources.hub.models import ReleaseDocument
from gongqi.resources.hub.verify import verify_bundle

pytestmark = pytest.mark.heavy

NAMES = {"mlbom.json", "spdx.json", "findings.json", "model.sig", "model-signing.pem", "documents.dsse.json"}


@pytest.fixture
def release(market: Any) -> str:
    """A released dataset."""
    asset, revision = market.dataset()
    return market.release("hospital", asset, revision)


def proof_of(market: Any, release: str, actor: Any = ANONYMOUS) -> Any:
    return query(market.kernel, show_proof, Caller(actor), OneProof(release=release))


def test_a_published_release_is_described_by_itself(market, release, described) -> None:
    with pytest.raises(Unavailable) as early:
        proof_of(market, release)
    assert early.value.code == "standards.not-described-yet"
    documents = described(release)
    assert documents.keys() == NAMES | {"croissant.json"}
    bom = json.loads(documents["mlbom.json"])
    assert bom["metadata"]["component"]["supplier"] == {"name": "Hospital"}
    assert bom["metadata"]["component"]["description"] == "Numbers in two columns"
    (evidence,) = market.evidence("hub.release-documented")
    listed = {name: sha256(content).hexdigest() for name, content in documents.items() if name != "documents.dsse.json"}
    assert evidence.facts["documents"] == listed


def test_the_documents_are_signed_together_as_those_of_this_release(market, release, described) -> None:
    documents = described(release)
    keys = market.kernel.part(SigningKeys).public
    said = verify_envelope(documents.pop("documents.dsse.json"), keys)
    assert {row["name"]: row["digest"]["sha256"] for row in said["subject"]} == {
        name: sha256(content).hexdigest() for name, content in documents.items()
    }
    facts = market.kernel.look(lambda ctx: hub.release_facts(ctx, release))
    assert said["predicate"]["statement"] == facts.statement_digest


def test_the_same_release_is_described_in_the_same_bytes(market, release, described) -> None:
    kept = described(release)
    again = {each.name: each.content for each in describe(market.kernel, release)}
    differing = {name for name in again if again[name] != kept[name]}
    assert differing == {"model.sig"}, "ECDSA signs anew each time; what it signs is the same"
    payloads = {json.loads(each["model.sig"])["dsseEnvelope"]["payload"] for each in (kept, again)}
    assert len(payloads) == 1


def test_documents_are_kept_once_however_often_they_are_written(market, release, described) -> None:
    before = described(release)
    made = describe(market.kernel, release)
    assert market.kernel.transact(lambda ctx: keep(ctx, release, made), reason="test") is None
    assert described(release) == before
    assert len(market.evidence("hub.release-documented")) == 1


def test_what_was_published_before_there_were_documents_is_caught_up_with(market, release, described) -> None:
    described(release)

    def forget(ctx: Any) -> None:
        for each in ctx.session.query(ReleaseDocument).all():
            ctx.session.delete(each)
        for flow in ctx.session.query(FlowRow).filter(FlowRow.kind == "standards.describe").all():
            ctx.session.delete(flow)

    market.kernel.transact(forget, reason="test")
    with pytest.raises(Unavailable):
        proof_of(market, release)
    market.kernel.transact(lambda ctx: ctx.start_flow(flows.CATCH_UP, key="now"), reason="test")
    assert described(release).keys() == NAMES | {"croissant.json"}


def test_a_release_that_is_not_published_has_no_documents(market) -> None:
    asset, revision = market.dataset()
    draft = market.do(market.owner("hospital"), "hub:release:draft", asset=asset, revision=revision, name="1.0.0")
    with pytest.raises(Refused) as refused:
        proof_of(market, draft.id, market.owner("hospital"))
    assert refused.value.code == "hub.release-not-published"
    with pytest.raises(Refused) as refused:
        describe(market.kernel, draft.id)
    assert refused.value.code == "hub.release-not-published"


def test_only_who_may_see_a_release_may_have_its_documents(market) -> None:
    asset = market.asset("hospital", "secret", "dataset", visibility="private")
    revision = market.revision("hospital", asset, [market.bring("hospital", "data.csv", b"a,b\n1,2\n", "datasets")])
    release = market.release("hospital", asset, revision)
    market.work()
    client = TestClient(build_app(market.kernel, ()), raise_server_exceptions=False)
    for name in ("mlbom.json", "documents.dsse.json", "nothing.json"):
        answer = client.get(f"/api/v1/standards/release/{release}/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "access.not-found")
    with pytest.raises(Refused, match=r"access\.not-found"):
        proof_of(market, release)
    assert proof_of(market, release, market.owner("hospital")).documents


def test_a_document_is_given_under_its_own_media_type_and_digest(market, release, described) -> None:
    documents = described(release)
    client = TestClient(build_app(market.kernel, ()))
    proof = proof_of(market, release)
    for each in proof.documents:
        answer = client.get(each.url)
        assert answer.content == documents[each.name]
        assert answer.headers["content-type"] == each.media_type
        assert answer.headers["x-gongqi-sha256"] == each.sha256 == sha256(answer.content).hexdigest()
    missing = client.get(f"/api/v1/standards/release/{release}/nothing.json")
    assert (missing.status_code, missing.json()["code"]) == (404, "access.not-found")
    assert client.get(f"/api/v1/standards/release/{release}/a%00b").status_code == 404


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_of_a_release_leads_to_its_documents(market, release, described, language: str) -> None:
    client = TestClient(build_app(market.kernel, ()), headers={"accept-language": language})
    page = client.get(f"/hub/release/{release}").text
    coming = {"zh": "文书正在编写", "en": "The documents are being written"}
    assert coming[language] in page
    described(release)
    page = client.get(f"/hub/release/{release}").text
    assert coming[language] not in page
    for name in (*NAMES, "croissant.json"):
        assert f'href="/api/v1/standards/release/{release}/{name}"' in page
    assert {"zh": "完整程度：100 %", "en": "100 % complete"}[language] in page
    assert "standards." not in page.replace("/standards", ""), "every text has words"


def test_the_bundle_takes_the_documents_along_and_a_mirror_cannot_change_them(
    market, release, described, tmp_path: Path
) -> None:
    documents = described(release)
    bundle = market.kernel.look(lambda ctx: hub.bundle_of(ctx, release))
    path = tmp_path / "release.zip"
    write_bundle(bundle, market.kernel.blobs, path)
    trusted = {key.key_id for key in market.kernel.part(SigningKeys).public.keys}
    report = verify_bundle(path, trusted_key_ids=trusted)
    assert report.holds, [claim for claim in report.claims if not claim.holds]
    assert report["documents"].params == {"count": 6}
    raw = path.read_bytes()
    at = raw.index(documents["mlbom.json"]) + 100
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    (false,) = (claim for claim in verify_bundle(path).claims if not claim.holds)
    assert (false.name, false.params) == ("documents", {"member": "documents/mlbom.json"})


@pytest.mark.long
def test_the_official_tool_verifies_what_a_stranger_downloads(
    market, release, described, served: str, tmp_path
) -> None:
    described(release)
    facts = market.kernel.look(lambda ctx: hub.release_facts(ctx, release))
    for file in facts.files:
        place = tmp_path / "release" / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(httpx.get(f"{served}/api/v1/hub/revision/{facts.revision}/file/{file.path}").content)
    for name in ("model.sig", "model-signing.pem"):
        (tmp_path / name).write_bytes(httpx.get(f"{served}/api/v1/standards/release/{release}/{name}").content)
    command = [
        sys.executable, "-m", "model_signing", "verify", "key", str(tmp_path / "release"), "--signature",
        str(tmp_path / "model.sig"), "--public_key", str(tmp_path / "model-signing.pem"),
    ]  # fmt: skip
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    (tmp_path / "release" / "data.csv").write_bytes(b"record,a\nr-1,0\n")
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode != 0


def test_the_key_beside_the_signature_is_the_foundations(market, release, described) -> None:
    key = market.kernel.part(SigningKeys)[ECDSA_P256].public
    assert described(release)["model-signing.pem"] == hub.pem(key.spki)
    payload = json.loads(b64decode(json.loads(described(release)["model.sig"])["dsseEnvelope"]["payload"]))
    assert payload["subject"][0]["name"] == "records"
    assert rfc8785.dumps(payload)


def test_a_model_is_described_with_its_sources(market, described) -> None:
    _, data = market.dataset()
    secret = market.asset("hospital", "secret", "dataset", visibility="private")
    hidden = market.revision("hospital", secret, [market.bring("hospital", "more.csv", b"a,b\n1,2\n", "datasets")])
    asset = market.asset("hospital", "diagnosis", "model")
    files = [market.bring("hospital", "train.py", b"print()\n", "training-code")]
    revision = market.revision("hospital", asset, files, [(data, "trained-on"), (hidden, "trained-on")])
    documents = described(market.release("hospital", asset, revision))
    assert documents.keys() == NAMES
    sources = {
        each["bom-ref"]: each
        for each in json.loads(documents["mlbom.json"])["components"]
        if "file" not in each["type"]
    }
    assert sources[f"source:{data}"]["name"] == "records"
    assert sources[f"source:{hidden}"]["name"] == hidden
    assert b"secret" not in documents["mlbom.json"] + documents["spdx.json"]
