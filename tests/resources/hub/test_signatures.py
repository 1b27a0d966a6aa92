"""Signatures in the form of the model-signing tool: the tool checks ours, and we check the tool's."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gongqi.books.evidence.keys import ECDSA_P256, SigningKey
from gongqi.kernel.errors import Refused
from gongqi.kernel.words import LANGUAGES, Words
from gongqi.resources.hub import signatures
from gongqi.resources.hub.service import check, get_release
from gongqi.resources.hub.signatures import check_files, check_presigned, pem, public_key, sign_files

KEY = SigningKey.generate(ECDSA_P256)
CONTENT = {
    "README.md": b"# card\n", "a/b.bin": bytes(1000), "a.b/c": b"\n", ".gitattributes": b"*.bin lfs\n", "说明.txt": b"x",
}  # fmt: skip
FILES = {path: sha256(content).hexdigest() for path, content in CONTENT.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files, as somebody has fetched them."""
    for path, content in CONTENT.items():
        place = tmp_path / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return tmp_path / "model"


@pytest.fixture
def tool(tmp_path: Path, folder: Path) -> Callable[..., int]:
    """The official tool on that folder; its exit code."""

    def run(*arguments: str) -> int:
        command = [sys.executable, "-m", "model_signing", *arguments, str(folder)]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    return run


def written(folder: Path, signature: bytes, key: bytes) -> tuple[str, ...]:
    (folder.parent / "model.sig").write_bytes(signature)
    (folder.parent / "key.pem").write_bytes(key)
    places = ("--signature", str(folder.parent / "model.sig"), "--public_key", str(folder.parent / "key.pem"))
    return ("verify", "key", *places)


def flaw(work: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as refused:
        work()
    assert refused.value.code == "hub.model-signature-unsound"
    return str(refused.value.params["flaw"])


# ---- ours, and the tool ----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_official_tool_verifies_ours_and_finds_every_change(folder: Path, tool) -> None:
    arguments = written(folder, sign_files(FILES, name="model", key=KEY), pem(KEY.public.spki))
    assert tool(*arguments) == 0
    (folder / "added").write_bytes(b"")
    assert tool(*arguments) != 0, "a file more"
    (folder / "added").unlink()
    (folder / "a/b.bin").write_bytes(bytes(999) + b"\x01")
    assert tool(*arguments) != 0, "a byte changed"


@pytest.mark.long
def test_the_official_tool_does_not_take_ours_under_another_key(folder: Path, tool) -> None:
    stranger = SigningKey.generate(ECDSA_P256)
    assert tool(*written(folder, sign_files(FILES, name="model", key=KEY), pem(stranger.public.spki))) != 0


@pytest.mark.long
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_the_official_tool_signs_on_any_of_its_curves_holds_here(
    tmp_path: Path, folder: Path, tool, curve
) -> None:
    key = ec.generate_private_key(curve)
    (tmp_path / "private.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    place = tmp_path / "donor.sig"
    assert tool("sign", "key", "--private_key", str(tmp_path / "private.pem"), "--signature", str(place)) == 0
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert check_files(place.read_bytes(), FILES, [spki]) == spki
    assert public_key(pem(spki)) == spki


@pytest.mark.heavy
def test_ours_and_the_tools_list_the_same_files_in_the_same_order(tmp_path: Path, folder: Path, tool) -> None:
    (tmp_path / "private.pem").write_bytes(KEY.pem)
    place = tmp_path / "theirs.sig"
    assert tool("sign", "key", "--private_key", str(tmp_path / "private.pem"), "--signature", str(place)) == 0
    theirs, ours = said(place.read_bytes()), said(sign_files(FILES, name="model", key=KEY))
    theirs["predicate"]["serialization"]["ignore_paths"].sort()  # the tool keeps them in a set
    assert theirs == ours


# ---- what does not hold ----------------------------------------------------------------------------------------------


def said(signature: bytes) -> dict[str, Any]:
    return orjson.loads(b64decode(orjson.loads(signature)["dsseEnvelope"]["payload"]))


def signed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Our signature over a payload that was changed before it was signed."""
    bundle = orjson.loads(sign_files(FILES, name="model", key=KEY))
    payload = said(orjson.dumps(bundle))
    change(payload)
    raw = orjson.dumps(payload)
    covered = signatures.pre_authentication_encoding("application/vnd.in-toto+json", raw)
    bundle["dsseEnvelope"]["payload"] = b64encode(raw).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = b64encode(KEY.sign(covered)).decode()
    return orjson.dumps(bundle)


SPKI = KEY.public.spki
WHOLE = sign_files(FILES, name="model", key=KEY)


@pytest.mark.parametrize(
    ("signature", "files", "keys", "expected"),
    [
        (b"no json", FILES, [SPKI], "malformed"),
        (b"[]", FILES, [SPKI], "malformed"),
        (b'{"dsseEnvelope": {}}', FILES, [SPKI], "form"),
        (b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": {}}', FILES, [SPKI], "form"),
        (WHOLE.replace(b'"signatures":[', b'"signatures":[{},'), FILES, [SPKI], "malformed"),
        (WHOLE, FILES, [], "key-unknown"),
        (WHOLE, FILES, [SigningKey.generate(ECDSA_P256).public.spki], "key-unknown"),
        (WHOLE.replace(b'"sig":"M', b'"sig":"N'), FILES, [SPKI], "false"),
        (WHOLE, {**FILES, "a/b.bin": "0" * 64}, [SPKI], "changed"),
        (WHOLE, {path: FILES[path] for path in FILES if path != "README.md"}, [SPKI], "lacks"),
        (WHOLE, {**FILES, "more": "0" * 64}, [SPKI], "extra"),
        (signed(lambda p: p["predicate"]["serialization"].update(method="shards")), FILES, [SPKI], "form"),
        (signed(lambda p: p["predicate"]["serialization"].update(hash_type="blake2b")), FILES, [SPKI], "form"),
        (signed(lambda p: p.update(predicateType="https://model_signing/Digests/v0.1")), FILES, [SPKI], "form"),
        (signed(lambda p: p["predicate"]["resources"][0].update(algorithm="blake2b")), FILES, [SPKI], "form"),
        (signed(lambda p: p["subject"][0]["digest"].update(sha256="0" * 64)), FILES, [SPKI], "malformed"),
        (signed(lambda p: p.update(predicate=[])), FILES, [SPKI], "malformed"),
        (signed(lambda p: p["predicate"]["resources"].append(p["predicate"]["resources"][0])), FILES, [SPKI], "malformed"),
    ],
)  # fmt: skip
def test_a_signature_that_does_not_hold_says_why(signature: bytes, files: Any, keys: Any, expected: str) -> None:
    assert flaw(lambda: check_files(signature, files, keys)) == expected


def test_a_signature_beyond_every_measure_is_not_read(monkeypatch) -> None:
    monkeypatch.setattr(signatures, "SIGNATURE_LIMIT_BYTES", len(WHOLE) - 1)
    assert flaw(lambda: check_files(WHOLE, FILES, [SPKI])) == "malformed"
    files = {"model.sig": ("0" * 64, len(WHOLE))}
    assert flaw(lambda: check_presigned(files, lambda _path, _limit: b"")) == "malformed"


def test_a_key_that_the_form_does_not_know_is_none() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    koblitz = ec.generate_private_key(ec.SECP256K1()).public_key()
    for key in (edwards, koblitz):
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert public_key(key.public_bytes(*form)) is None
    assert public_key(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n") is None


def test_every_flaw_has_words_in_both_languages() -> None:
    words = Words()
    words.load(Path(signatures.__file__).with_name("words.toml"))
    for flaw_ in ("malformed", "form", "key-unknown", "false", "lacks", "changed", "extra"):
        assert words.has(f"hub.model-signature-unsound.flaw.{flaw_}")
        texts = {words.error(Refused("hub.model-signature-unsound", flaw=flaw_), each)[1] for each in LANGUAGES}
        assert len(texts) == 2 and not any(flaw_ in text for text in texts if flaw_ not in ("form", "extra"))


# ---- brought by a donor ----------------------------------------------------------------------------------------------


def presigned(hub: Any, content: dict[str, bytes], name: str, **change: bytes) -> Any:
    """A release of files that their donor has signed; `change`: what is uploaded in place of what was signed."""
    signature = sign_files({path: sha256(each).hexdigest() for path, each in content.items()}, name=name, key=KEY)
    held = {
        **content,
        "model.sig": signature,
        "donor.pem": pem(SPKI),
        **{k.replace("_", "."): v for k, v in change.items()},
    }
    asset = hub.asset(slug=name)
    files = [hub.bring(asset.org, path, each) for path, each in held.items() if path != "README.md"]
    return hub.published(asset, hub.revision(asset, files))


def test_a_donors_signature_is_checked_at_the_gate_and_shown(hub) -> None:
    release = presigned(hub, {"README.md": hub.card, "data.csv": b"a\n1\n"}, "sound")
    answers = hub.ask(get_release, hub.donor, release=release.id).verdict["answers"]
    (answer,) = (each for each in answers if each["source"] == "hub.presigned")
    assert (answer["decision"], answer["reason"]) == ("allow", "hub.gate.presigned-holds")
    assert answer["params"] == {"key_id": KEY.public.key_id}


def test_a_donors_signature_that_does_not_hold_is_a_finding_and_stops_nothing(hub) -> None:
    release = presigned(hub, {"README.md": hub.card, "data.csv": b"a\n1\n"}, "unsound", data_csv=b"a\n2\n")
    found = hub.ask(check, hub.donor, release=release.id)
    (answer,) = (each for each in found.answers if each.source == "hub.presigned")
    assert found.allowed and answer.decision == "require"
    assert "data.csv is not as it was signed." in answer.en and "data.csv 与签名之时不同。" in answer.zh


def test_without_a_signature_brought_along_nothing_is_said(hub) -> None:
    asset = hub.asset()
    release = hub.published(asset, hub.revision(asset))
    verdict = hub.ask(get_release, hub.donor, release=release.id).verdict
    assert "hub.presigned" not in {each["source"] for each in verdict["answers"]}
