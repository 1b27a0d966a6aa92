"""The bundle: every byte of it matters, and the check says which claim a changed byte breaks."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import rfc8785

from gongqi.books.evidence.keys import ECDSA_P256, KeySet, SigningKeys
from gongqi.books.evidence.notes import Checkpoint, sign_checkpoint
from gongqi.books.evidence.rules import Frontier, inclusion_proof, leaf_hash
from gongqi.books.evidence.signing import sign_statement, statement
from gongqi.kernel.errors import Refused
from gongqi.kernel.words import LANGUAGES, Words
from gongqi.resources.hub import bundle as bundles
from gongqi.resources.hub import container, verify
from gongqi.resources.hub.bundle import Bundle, write_bundle
from gongqi.resources.hub.signatures import pem, sign_files
from gongqi.resources.hub.verify import verify_bundle

KEYS, STRANGER = SigningKeys.generate(), SigningKeys.generate()
ORIGIN = "gongqi/test"
CONTENT = {"README.md": "# 样例\n".encode(), "data/a.csv": b"a,b\n1,2\n", "data/b.bin": bytes(range(256)) * 9}


class Shelf:
    """Bytes by digest, as the blob store gives them."""

    def __init__(self, *contents: bytes) -> None:
        self.held = {sha256(each).hexdigest(): each for each in contents}

    def chunks(self, digest: str) -> Iterator[bytes]:
        yield self.held[digest]


SHELF = Shelf(*CONTENT.values())


def signed(release: str, digest: str, lineage: list[dict[str, Any]], keys: SigningKeys = KEYS) -> dict[str, Any]:
    predicate = {
        "foundation": "Test", "release": {"id": release, "name": "1.0.0"},
        "asset": {"id": "ast_1", "org": "org_1", "kind": "dataset", "slug": "s"},
        "revision": {"id": "rev_1", "number": 1, "digest": digest, "card_sha256": "0" * 64},
        "files": [{"path": p, "size": len(c), "component": None, "license": None} for p, c in CONTENT.items()],
        "gates": {"gate": "hub:release:publish", "allowed": True, "answers": [
            {"source": "hub.artefact", "decision": "allow", "reason": "r", "params": {}, "cites": [], "evidence": None}
        ]},
        "lineage": lineage, "published_at": "2026-01-01T00:00:00.000000+00:00",
    }  # fmt: skip
    subjects = {path: sha256(content).hexdigest() for path, content in CONTENT.items()}
    return orjson.loads(sign_statement(statement(subjects, "urn:gongqi:release:v1", predicate), keys))


def digest_of(envelope: dict[str, Any]) -> str:
    return sha256(b64decode(envelope["payload"])).hexdigest()


def logged(envelope: dict[str, Any], keys: SigningKeys = KEYS) -> dict[str, Any]:
    """The envelope's entry as number 2 of a log of 5, with its proof."""
    facts = {"statement_digest": digest_of(envelope), "allowed": True}
    entry = rfc8785.dumps({"v": 1, "id": "ev_1", "kind": "hub.release-published", "subject": "rel_2", "facts": facts})
    leaves = [leaf_hash(entry if number == 2 else b"%d" % number) for number in range(5)]

    def read(level: int, index: int) -> bytes:
        return Frontier().append(leaves[index << level : (index + 1) << level]).root

    checkpoint = Checkpoint(ORIGIN, 5, Frontier().append(leaves).root)
    return {
        "entry": entry, "index": 2, "size": 5, "inclusion": [h.hex() for h in inclusion_proof(2, 5, read)],
        "checkpoint": sign_checkpoint(checkpoint, keys),
    }  # fmt: skip


def described(envelope: dict[str, Any], keys: SigningKeys = KEYS, **more: bytes) -> dict[str, bytes]:
    """Documents about the release of this envelope, with the statement over them."""
    digests = {path: sha256(content).hexdigest() for path, content in CONTENT.items()}
    signature = sign_files(digests, name="s", key=keys[ECDSA_P256])
    documents = {"mlbom.json": b'{"bomFormat":"CycloneDX"}', "model.sig": signature, **more}
    predicate = {"release": {"id": "rel_2", "name": "1.0.0"}, "statement": digest_of(envelope)}
    subjects = {name: sha256(content).hexdigest() for name, content in documents.items()}
    return {
        **documents,
        "documents.dsse.json": sign_statement(statement(subjects, bundles.DOCUMENTS_TYPE, predicate), keys),
    }


def make(keys: SigningKeys = KEYS, **change: Any) -> Bundle:
    source = signed("rel_1", "a" * 64, [], keys)
    lineage = [
        {"relation": relation, "revision": revision, "digest": digest * 64, "asset": "ast_0", "statement": said}
        for relation, revision, digest, said in (
            ("trained-on", "rev_0", "a", digest_of(source)), ("evaluated-on", "rev_9", "b", None),
        )
    ]  # fmt: skip
    envelope = signed("rel_2", "c" * 64, lineage, keys)
    files = [(path, sha256(content).hexdigest(), len(content)) for path, content in CONTENT.items()]
    made = Bundle(
        envelope=envelope, keys=keys.public.encode(), envelopes={digest_of(source): source}, files=files,
        documents=described(envelope, keys), **logged(envelope, keys),
    )  # fmt: skip
    return replace(made, **change)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "release.gongqi.zip"


@pytest.fixture
def whole(path: Path) -> bytes:
    write_bundle(make(), SHELF, path)
    return path.read_bytes()


def false_claims(path: Path) -> dict[str, str]:
    return {claim.name: claim.reason for claim in verify_bundle(path).claims if not claim.holds}


def rezipped(whole: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The bundle with other members, well framed: what someone with our own software could make."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    return b"".join(container.encode((name, len(content), [content]) for name, content in members.items()))


def test_a_sound_bundle_holds_in_every_claim(path, whole):
    report = verify_bundle(path, trusted_key_ids={key.key_id for key in KEYS.public.keys})
    assert report.holds
    names = ["files", "signature", "log", "gates", "lineage", "documents", "model-signing"]
    assert [claim.name for claim in report.claims] == names
    assert (report.release, report.asset, report.foundation) == ("rel_2", "ast_1", "Test")
    assert report["lineage"].params == {"count": 2, "signed": 1, "withheld": 0}
    assert report["log"].params == {"index": 2, "size": 5, "origin": ORIGIN}


def test_the_same_release_makes_the_same_bytes(path, whole):
    write_bundle(make(envelope=make().envelope), SHELF, path)
    first = make()
    streams = [b"".join(bundles.stream_bundle(first, SHELF)) for _ in range(2)]
    assert streams[0] == streams[1]


def test_any_zip_tool_reads_a_bundle(path, whole):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("files/data/a.csv") == CONTENT["data/a.csv"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_changed_byte_in_any_member_breaks_the_claim_that_rests_on_it(path, whole):
    members = container.decode(io.BytesIO(whole))
    for member in members:
        claim = verify.claim_of(member.name)
        for at in {0, member.size // 3, member.size // 2, member.size - 2, member.size - 1}:
            bad = bytearray(whole)
            bad[member.starts + at] ^= 0x01
            path.write_bytes(bad)
            broken = false_claims(path)
            assert claim in broken, (member.name, at)
            if claim in ("gates", "lineage") or member.name.startswith(("files/", "evidence/", "manifest")):
                assert broken.keys() == {claim}, (member.name, at, broken)
            if member.name == "documents/mlbom.json":
                assert broken == {"documents": "hub.verify.document-changed"}, at


@pytest.mark.heavy
def test_a_changed_byte_anywhere_is_found(path, whole):
    for at in range(0, len(whole), 97):
        bad = bytearray(whole)
        bad[at] ^= 0x40
        path.write_bytes(bad)
        try:
            assert not verify_bundle(path).holds, at
        except Refused as refused:
            assert refused.code == "hub.bundle-malformed"


def test_a_changed_file_is_named(path, whole):
    path.write_bytes(rezipped(whole, lambda m: m.update({"files/data/a.csv": b"a,b\n1,3\n"})))
    claim = verify_bundle(path)["files"]
    assert (claim.reason, claim.params) == ("hub.verify.file-changed", {"path": "data/a.csv"})


@pytest.mark.parametrize(
    ("change", "claim", "reason"),
    [
        (lambda m: m.pop("files/README.md"), "files", "hub.verify.file-missing"),
        (lambda m: m.update({"files/extra": b"x"}), "files", "hub.verify.file-extra"),
        (lambda m: m.update({"manifest.json": b"{}"}), "files", "hub.verify.document-changed"),
        (lambda m: m.pop("statement.dsse.json"), "signature", "hub.verify.member-missing"),
        (lambda m: m.pop("keyset.json"), "signature", "hub.verify.member-missing"),
        (lambda m: m.update({"keyset.json": STRANGER.public.encode()}), "signature", "evidence.signature-missing"),
        (lambda m: m.pop("evidence/entry.json"), "log", "hub.verify.member-missing"),
        (lambda m: m.update({"evidence/entry.json": b"{}"}), "log", "evidence.inclusion-false"),
        (lambda m: m.update({"gates.json": b'{"allowed":true}'}), "gates", "hub.verify.document-changed"),
        (lambda m: m.update({"lineage.json": b'{"sources":[]}'}), "lineage", "hub.verify.document-changed"),
        (lambda m: m.update({"lineage.json": b"[1]"}), "lineage", "hub.verify.document-malformed"),
        (lambda m: m.update({"gates.json": b" " + m["gates.json"]}), "gates", "hub.verify.document-changed"),
        (lambda m: m.update({"documents/mlbom.json": b"{}"}), "documents", "hub.verify.document-changed"),
        (lambda m: m.pop("documents/mlbom.json"), "documents", "hub.verify.member-missing"),
        (lambda m: m.pop("documents/documents.dsse.json"), "documents", "hub.verify.member-missing"),
        (lambda m: m.update({"documents/more.json": b"{}"}), "documents", "hub.verify.document-extra"),
        (lambda m: m.update({"documents/documents.dsse.json": m["statement.dsse.json"]}), "documents",
         "hub.verify.documents-of-another-statement"),
        (lambda m: m.update({"documents/model.sig": b"{}"}), "model-signing", "hub.model-signature-unsound"),
    ],
)  # fmt: skip
def test_a_well_framed_forgery_is_found_for_what_it_is(path, whole, change, claim, reason):
    path.write_bytes(rezipped(whole, change))
    assert false_claims(path)[claim] == reason


def test_documents_of_another_release_prove_nothing(path):
    other = signed("rel_3", "d" * 64, [])
    write_bundle(make(documents=described(other)), SHELF, path)
    assert false_claims(path) == {"documents": "hub.verify.documents-of-another-statement"}


def test_documents_signed_by_a_stranger_are_not_the_foundations(path):
    made = make()
    write_bundle(replace(made, documents=described(dict(made.envelope), STRANGER)), SHELF, path)
    assert false_claims(path).keys() == {"documents", "model-signing"}


def test_a_model_signature_over_other_files_is_found_although_the_foundation_made_it(path):
    made = make()
    digests = {each: sha256(content).hexdigest() for each, content in CONTENT.items() if each != "README.md"}
    documents = described(dict(made.envelope), **{"model.sig": sign_files(digests, name="s", key=KEYS[ECDSA_P256])})
    write_bundle(replace(made, documents=documents), SHELF, path)
    claim = verify_bundle(path)["model-signing"]
    assert (claim.holds, claim.params) == (False, {"flaw": "extra", "path": "README.md"})


def test_a_bundle_from_before_there_were_documents_still_holds(path):
    write_bundle(make(documents={}), SHELF, path)
    report = verify_bundle(path)
    assert report.holds
    assert report["documents"].reason == "hub.verify.documents-none"
    assert report["model-signing"].reason == "hub.verify.model-signing-none"


@pytest.mark.parametrize(("given", "holds"), [(b"a,b\n1,2\n", True), (b"a,b\n1,3\n", False)])
def test_a_donors_own_signature_is_judged_too(path, monkeypatch, given, holds):
    donor = SigningKeys.generate()[ECDSA_P256]
    signature = sign_files({"data/a.csv": sha256(given).hexdigest()}, name="s", key=donor)
    content = {"data/a.csv": CONTENT["data/a.csv"], "model.sig": signature, "key.pub": pem(donor.public.spki)}
    monkeypatch.setitem(globals(), "CONTENT", content)
    made = make()
    write_bundle(made, Shelf(*content.values()), path)
    report = verify_bundle(path)
    assert report["presigned"].holds is holds and report["model-signing"].holds
    if holds:
        assert report["presigned"].params == {"key_id": donor.public.key_id}
        path.write_bytes(rezipped(path.read_bytes(), lambda m: m.update({"files/model.sig": b"{}"})))
        assert verify_bundle(path)["presigned"].reason == "hub.verify.file-changed"


def test_a_bundle_signed_by_a_stranger_is_not_trusted(path):
    write_bundle(make(SigningKeys.generate()), SHELF, path)
    assert verify_bundle(path).holds
    report = verify_bundle(path, trusted_key_ids={key.key_id for key in KEYS.public.keys})
    assert (report["signature"].holds, report["signature"].reason) == (False, "hub.verify.keys-unknown")
    assert not report["log"].holds


def test_both_signatures_are_needed(path):
    made = make()
    half = {**made.envelope, "signatures": made.envelope["signatures"][:1]}
    write_bundle(replace(made, envelope=half), SHELF, path)
    assert false_claims(path) == {"signature": "evidence.signature-missing"}


def test_a_verdict_that_denied_does_not_hold_even_when_signed(path):
    made = make()
    said = orjson.loads(b64decode(made.envelope["payload"]))
    said["predicate"]["gates"]["answers"][0]["decision"] = "deny"
    envelope = orjson.loads(sign_statement(said, KEYS))
    changed = replace(made, envelope=envelope, documents=described(envelope), **logged(envelope))
    write_bundle(changed, SHELF, path)
    assert false_claims(path) == {"gates": "hub.verify.gates-denied"}


def test_an_entry_about_another_statement_proves_nothing(path):
    other = signed("rel_3", "d" * 64, [])
    write_bundle(make(**logged(other)), SHELF, path)
    assert false_claims(path) == {"log": "hub.verify.entry-of-another-statement"}


def test_a_source_with_another_statement_is_found(path):
    made = make()
    (name,) = made.envelopes
    write_bundle(replace(made, envelopes={name: signed("rel_1", "f" * 64, [])}), SHELF, path)
    claim = verify_bundle(path)["lineage"]
    assert (claim.reason, claim.params) == ("hub.verify.source-changed", {"revision": "rev_0"})


def test_a_withheld_statement_is_counted_and_stays_bound(path):
    write_bundle(make(envelopes={}), SHELF, path)
    assert verify_bundle(path)["lineage"].params == {"count": 2, "signed": 0, "withheld": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06" + bytes(17),
        b"not a zip at all, but long enough to hold an end record",
        b"".join(container.encode([("../evil", 1, [b"x"])])),
        b"".join(container.encode([("a", 1, [b"x"]), ("a", 1, [b"y"])])),
        b"".join(container.encode([("other.json", 1, [b"x"])])),
        b"".join(container.encode([(f"documents/{number}", 1, [b"x"]) for number in range(60)])),
        b"prefix" + b"".join(container.encode([("manifest.json", 1, [b"x"])])),
    ],
)
def test_what_is_no_bundle_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(Refused) as refused:
        verify_bundle(path)
    assert refused.value.code == "hub.bundle-malformed"


@pytest.mark.heavy
def test_a_compressed_member_is_refused_without_being_unpacked(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(200 << 20))
    with pytest.raises(Refused, match="bundle-malformed"):
        verify_bundle(path)


def test_a_member_beyond_four_gigabytes_is_written_as_zip64_says():
    size = 5 << 30
    member = container.Member("files/weights", size, offset=6 << 30)
    assert len(member.header) == 30 + len(member.name) + 20
    assert member.entry.endswith(size.to_bytes(8, "little") * 2 + (6 << 30).to_bytes(8, "little"))
    assert len(member.descriptor) == 24


def test_every_reason_has_words_in_both_languages(path, whole):
    words = Words()
    words.load(Path(verify.__file__).with_name("words.toml"))
    used = set()
    for reason in (Path(verify.__file__)).read_text("utf-8").split('"'):
        if reason.startswith("hub.verify."):
            used.add(reason)
            assert words.has(reason), reason
    assert len(used) >= 15
    for language in LANGUAGES:
        for claim in verify_bundle(path).claims:
            assert "{" not in claim.text(words, language)


def test_verifying_needs_neither_database_nor_web_framework(path, whole):
    """`gongqi verify` runs where nothing else of ours does."""
    code = (
        "import sys; from pathlib import Path; from gongqi.resources.hub.verify import verify_bundle;"
        f"assert verify_bundle(Path({str(path)!r})).holds;"
        "print([name for name in ('sqlalchemy', 'starlette', 'fastapi', 'onnx', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_keys_in_a_bundle_are_the_foundations_public_ones(whole):
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert KeySet.parse(archive.read("keyset.json")) == KEYS.public
