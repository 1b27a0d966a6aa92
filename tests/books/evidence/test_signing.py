"""Keys on disk, key sets, and statements that must not verify."""

import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gongqi.books.evidence.keys import (
    ALGORITHMS,
    ECDSA_P256,
    ED25519,
    HYBRID,
    ML_DSA_65,
    KeySet,
    PublicKey,
    SigningKey,
    SigningKeys,
)
from gongqi.books.evidence.signing import (
    MAX_ENVELOPE_BYTES,
    PAYLOAD_TYPE,
    STATEMENT_TYPE,
    pre_authentication_encoding,
    sign_statement,
    statement,
    verify_envelope,
)
from gongqi.kernel.errors import Refused

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
MADE = statement({"model.onnx": DIGEST, "card.md": DIGEST}, "https://example.com/release/v1", {"名称": "甲", "size": 2})


@pytest.fixture(scope="module")
def keys() -> SigningKeys:
    return SigningKeys.generate()


@pytest.fixture(scope="module")
def envelope(keys: SigningKeys) -> bytes:
    return sign_statement(MADE, keys)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refusal:
        call()
    return refusal.value.code


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signature_holds_for_its_message_and_no_other(algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    signature = key.sign(b"message")
    assert key.public.holds(signature, b"message")
    assert not key.public.holds(signature, b"massage")
    assert not key.public.holds(signature[:-1], b"message")
    assert not key.public.holds(b"", b"message")
    assert not SigningKey.generate(algorithm).public.holds(signature, b"message")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_survives_its_encodings_and_its_repr_tells_nothing(algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    assert SigningKey.from_pem(key.pem).public == key.public == PublicKey.from_spki(key.public.spki)
    assert b64decode(key.pem.split(b"\n")[1]) not in repr(key).encode()
    assert "_key" not in repr(key)


def test_keys_are_saved_for_the_owner_only_and_read_back(keys: SigningKeys, tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "keys"
    keys.save(directory)
    assert SigningKeys.load(directory).public == keys.public
    assert sorted(path.name for path in directory.iterdir()) == sorted(f"{name}.pem" for name in ALGORITHMS)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert list(directory.parent.iterdir()) == [directory]


def test_keys_are_never_overwritten(keys: SigningKeys, tmp_path: Path) -> None:
    keys.save(tmp_path / "keys")
    assert code_of(lambda: SigningKeys.generate().save(tmp_path / "keys")) == "evidence.keys-exist"
    assert SigningKeys.load(tmp_path / "keys").public == keys.public
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_an_empty_directory_is_filled(keys: SigningKeys, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    keys.save(tmp_path / "keys")
    assert SigningKeys.load(tmp_path / "keys").public == keys.public


def test_a_file_in_the_way_is_refused(keys: SigningKeys, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("not a directory")
    assert code_of(lambda: keys.save(tmp_path / "keys")) == "evidence.keys-exist"


def test_a_missing_key_file_is_refused(keys: SigningKeys, tmp_path: Path) -> None:
    keys.save(tmp_path / "keys")
    (tmp_path / "keys" / "ml-dsa-65.pem").unlink()
    assert code_of(lambda: SigningKeys.load(tmp_path / "keys")) == "evidence.key-file-missing"


def test_a_key_file_that_others_may_read_is_refused(keys: SigningKeys, tmp_path: Path) -> None:
    keys.save(tmp_path / "keys")
    os.chmod(tmp_path / "keys" / "ed25519.pem", 0o640)
    assert code_of(lambda: SigningKeys.load(tmp_path / "keys")) == "evidence.key-file-exposed"


def test_a_key_file_of_another_algorithm_or_of_none_is_refused(keys: SigningKeys, tmp_path: Path) -> None:
    keys.save(tmp_path / "keys")
    for content in (keys[ECDSA_P256].pem, b"", b"not a key", keys[ED25519].pem[:-40]):
        (tmp_path / "keys" / "ed25519.pem").write_bytes(content)
        assert code_of(lambda: SigningKeys.load(tmp_path / "keys")) == "evidence.key-malformed"


def test_keys_of_other_algorithms_are_refused() -> None:
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert code_of(lambda spki=spki: PublicKey.from_spki(spki)) == "evidence.key-malformed"


def test_another_writing_of_the_same_key_is_refused_lest_it_have_two_ids(keys: SigningKeys) -> None:
    """P-256 points may be written compressed; such a key would load, under another SHA-256."""
    point = keys[ECDSA_P256].public.raw
    compressed = bytes([2 + point[64] % 2]) + point[1:33]
    spki = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + compressed
    assert serialization.load_der_public_key(spki)
    assert code_of(lambda: PublicKey.from_spki(spki)) == "evidence.key-malformed"


def test_a_key_set_survives_being_written_down(keys: SigningKeys) -> None:
    assert KeySet.parse(keys.public.encode()) == keys.public


def wrong_key_sets(keys: SigningKeys) -> list[object]:
    rows = orjson.loads(keys.public.encode())["keys"]
    return [
        [],
        {},
        {"keys": []},
        {"keys": {}},
        {"keys": [1]},
        {"keys": rows * 2},
        {"keys": rows * 40},
        {"keys": [rows[0] | {"keyid": rows[1]["keyid"]}]},
        {"keys": [rows[0] | {"algorithm": ML_DSA_65}]},
    ]


def test_a_key_set_that_claims_a_wrong_id_or_algorithm_is_refused(keys: SigningKeys) -> None:
    for value in wrong_key_sets(keys):
        assert code_of(lambda value=value: KeySet.parse(orjson.dumps(value))) == "evidence.key-set-malformed"
    for raw in (b"", b"{", b" " * 2**20):
        assert code_of(lambda raw=raw: KeySet.parse(raw)) == "evidence.key-set-malformed"
    row = orjson.loads(keys.public.encode())["keys"][0]
    for public in (None, "", "!", row["public"][:-4]):
        raw = orjson.dumps({"keys": [row | {"public": public}]})
        assert code_of(lambda raw=raw: KeySet.parse(raw)) == "evidence.key-malformed"


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    """secure-systems-lab/dsse protocol.md, section "Test Vectors": ECDSA P-256, with r and s side by side."""
    covered = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert covered == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    point = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    )
    sig = b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    signature = encode_dss_signature(int.from_bytes(sig[:32], "big"), int.from_bytes(sig[32:], "big"))
    assert PublicKey.of(point.public_key()).holds(signature, covered)


def test_length_is_counted_in_bytes_so_that_type_and_payload_cannot_run_over() -> None:
    assert pre_authentication_encoding("公", b"a b") == b"DSSEv1 3 \xe5\x85\xac 3 a b"
    assert pre_authentication_encoding("a", b" 1 b") != pre_authentication_encoding("a 4", b"1 b")


def test_a_signed_statement_comes_back_whole(keys: SigningKeys, envelope: bytes) -> None:
    assert verify_envelope(envelope, keys.public) == MADE
    assert MADE["_type"] == STATEMENT_TYPE
    assert [subject["name"] for subject in MADE["subject"]] == ["card.md", "model.onnx"]
    assert orjson.loads(envelope)["payloadType"] == PAYLOAD_TYPE


def test_a_statement_has_one_encoding_whatever_the_order_of_its_keys(keys: SigningKeys) -> None:
    turned = dict(reversed(MADE.items()))
    payloads = {orjson.loads(sign_statement(made, keys))["payload"] for made in (MADE, turned)}
    assert len(payloads) == 1


def test_p256_can_be_asked_for_by_name(keys: SigningKeys) -> None:
    signed = sign_statement(MADE, keys, algorithms=[ECDSA_P256])
    assert verify_envelope(signed, keys.public, algorithms=[ECDSA_P256]) == MADE
    assert code_of(lambda: verify_envelope(signed, keys.public)) == "evidence.signature-missing"


@pytest.mark.parametrize("algorithm", HYBRID)
def test_one_signature_alone_is_not_enough(algorithm: str, keys: SigningKeys) -> None:
    alone = sign_statement(MADE, keys, algorithms=[algorithm])
    with pytest.raises(Refused) as refusal:
        verify_envelope(alone, keys.public)
    assert refusal.value.code == "evidence.signature-missing"
    assert {algorithm, refusal.value.params["algorithm"]} == set(HYBRID)


@pytest.mark.parametrize("algorithm", HYBRID)
def test_a_false_signature_is_named(algorithm: str, keys: SigningKeys, envelope: bytes) -> None:
    value = orjson.loads(envelope)
    other = orjson.loads(sign_statement(MADE | {"predicateType": "other"}, keys))
    place = HYBRID.index(algorithm)
    value["signatures"][place]["sig"] = other["signatures"][place]["sig"]
    with pytest.raises(Refused) as refusal:
        verify_envelope(orjson.dumps(value), keys.public)
    assert refusal.value.code == "evidence.signature-false"
    assert refusal.value.params == {"algorithm": algorithm, "key_id": keys[algorithm].public.key_id}


def test_a_signature_of_one_key_under_the_id_of_another_does_not_hold(keys: SigningKeys, envelope: bytes) -> None:
    value = orjson.loads(envelope)
    first, second = value["signatures"]
    first["keyid"], second["keyid"] = second["keyid"], first["keyid"]
    assert code_of(lambda: verify_envelope(orjson.dumps(value), keys.public)) == "evidence.signature-false"


def test_strangers_may_sign_too_and_count_for_nothing(keys: SigningKeys, envelope: bytes) -> None:
    stranger = orjson.loads(sign_statement(MADE, SigningKeys.generate()))["signatures"]
    value = orjson.loads(envelope)
    value["signatures"] = [*stranger, {"sig": "AAAA"}, {"keyid": [], "sig": 1}, *value["signatures"]]
    assert verify_envelope(orjson.dumps(value), keys.public) == MADE
    value["signatures"] = stranger
    assert code_of(lambda: verify_envelope(orjson.dumps(value), keys.public)) == "evidence.signature-missing"


def test_a_changed_payload_does_not_verify(keys: SigningKeys, envelope: bytes) -> None:
    value = orjson.loads(envelope)
    payload = b64decode(value["payload"]).replace(b"model.onnx", b"modal.onnx")
    changed = orjson.dumps(value | {"payload": b64encode(payload).decode()})
    assert code_of(lambda: verify_envelope(changed, keys.public)) == "evidence.signature-false"


def test_both_alphabets_of_base64_are_read(keys: SigningKeys, envelope: bytes) -> None:
    value = orjson.loads(envelope)
    for entry in value["signatures"]:
        entry["sig"] = entry["sig"].replace("+", "-").replace("/", "_")
    assert verify_envelope(orjson.dumps(value), keys.public) == MADE


@pytest.mark.parametrize(
    "change",
    [
        {"payload": None},
        {"payload": "!"},
        {"payload": "QR=="},  # stray bits: another writing of "A"
        {"signatures": []},
        {"signatures": "x"},
        {"signatures": [1]},
        {"signatures": [{"keyid": "", "sig": ""}] * 33},
    ],
)
def test_what_is_not_an_envelope_is_refused(change: dict[str, Any], keys: SigningKeys, envelope: bytes) -> None:
    raw = orjson.dumps(orjson.loads(envelope) | change)
    assert code_of(lambda: verify_envelope(raw, keys.public)) == "evidence.envelope-malformed"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b" " * (MAX_ENVELOPE_BYTES + 1)])
def test_bytes_that_are_no_envelope_at_all_are_refused(raw: bytes, keys: SigningKeys) -> None:
    assert code_of(lambda: verify_envelope(raw, keys.public)) == "evidence.envelope-malformed"


def test_a_payload_of_another_type_is_refused(keys: SigningKeys, envelope: bytes) -> None:
    raw = orjson.dumps(orjson.loads(envelope) | {"payloadType": "application/json"})
    assert code_of(lambda: verify_envelope(raw, keys.public)) == "evidence.payload-type-unknown"


def sign_payload(payload: bytes, keys: SigningKeys) -> bytes:
    """An envelope whose signatures hold, over any payload at all."""
    covered = pre_authentication_encoding(PAYLOAD_TYPE, payload)
    signers = [keys[name] for name in HYBRID]
    signatures = [{"keyid": key.public.key_id, "sig": b64encode(key.sign(covered)).decode()} for key in signers]
    return orjson.dumps({"payload": b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": signatures})


SUBJECT = {"name": "a", "digest": {"sha256": DIGEST}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "_type"),
        ({"subject": []}, "subject"),
        ({"subject": {}}, "subject"),
        ({"subject": ["a"]}, "subject"),
        ({"subject": [{"name": "a"}]}, "subject"),
        ({"subject": [SUBJECT | {"name": ""}]}, "subject"),
        ({"subject": [SUBJECT | {"digest": {"sha256": DIGEST.upper()}}]}, "subject"),
        ({"subject": [SUBJECT | {"digest": {"sha1": DIGEST}}]}, "subject"),
        ({"subject": [SUBJECT, SUBJECT]}, "subject"),
        ({"predicateType": ""}, "predicateType"),
        ({"predicateType": None}, "predicateType"),
        ({"predicate": []}, "predicate"),
    ],
)
def test_a_signed_payload_that_is_no_statement_is_refused(
    change: dict[str, Any], field: str, keys: SigningKeys
) -> None:
    raw = sign_payload(orjson.dumps(MADE | change), keys)
    with pytest.raises(Refused) as refusal:
        verify_envelope(raw, keys.public)
    assert refusal.value.code == "evidence.statement-malformed"
    assert refusal.value.params == {"field": field}


def test_a_signed_payload_that_is_no_json_is_refused(keys: SigningKeys) -> None:
    for payload in (b"", b"{", b"[]", b"\xff"):
        raw = sign_payload(payload, keys)
        assert code_of(lambda raw=raw: verify_envelope(raw, keys.public)) == "evidence.statement-malformed"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, {1: "a"}, b"bytes", object()])
def test_what_json_cannot_carry_exactly_is_not_signed(value: object, keys: SigningKeys) -> None:
    made = statement({"a": DIGEST}, "t", {"value": value})
    assert code_of(lambda: sign_statement(made, keys)) == "evidence.statement-malformed"


def test_a_wrong_digest_is_refused_before_anything_is_signed() -> None:
    for subjects in ({}, {"a": "sha256:" + DIGEST}, {"a": DIGEST[:-1]}, {"": DIGEST}):
        assert code_of(lambda subjects=subjects: statement(subjects, "t", {})) == "evidence.statement-malformed"
