"""Signed statements: who vouches for what, in a form that others can check with their own tools.

Idea: a claim is an in-toto Statement (these files, by digest; this predicate), wrapped in a DSSE envelope and signed
under every algorithm of HYBRID (keys.py says why there are two).

Invariants
- Every algorithm asked for must have signed; a signature of an unknown key counts for nothing, a false one refuses.
- What is verified is what is returned: the payload is parsed once, after its signatures hold.

Source: DSSE protocol 1.0.2 (secure-systems-lab/dsse), in-toto attestation Statement v1, RFC 8785 (canonical JSON).
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import rfc8785

from gongqi.books.evidence.keys import HYBRID, KeySet, SigningKeys, base64_bytes, members, parse_json
from gongqi.kernel.errors import Refused

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

MAX_ENVELOPE_BYTES = 16 * 2**20  # a statement over 50,000 files is about 6 MB, and base64 adds a third
MAX_SIGNATURES = 32  # two algorithms, a few signers, keys in rotation

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


def statement(subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto Statement v1 about `subjects`: name -> SHA-256 of the content, in lower-case hex."""
    made = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    return _checked_statement(made)


def _checked_statement(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
        raise Refused("evidence.statement-malformed", field="_type")
    subjects = value.get("subject")
    if not isinstance(subjects, list) or not subjects or not all(map(_is_subject, subjects)):
        raise Refused("evidence.statement-malformed", field="subject")
    if len({subject["name"] for subject in subjects}) != len(subjects):
        raise Refused("evidence.statement-malformed", field="subject")
    if not isinstance(value.get("predicateType"), str) or not value["predicateType"]:
        raise Refused("evidence.statement-malformed", field="predicateType")
    if not isinstance(value.get("predicate"), dict):
        raise Refused("evidence.statement-malformed", field="predicate")
    return value


def _is_subject(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("digest"), dict):
        return False
    name, digest = value.get("name"), value["digest"].get("sha256")
    return isinstance(name, str) and bool(name) and isinstance(digest, str) and bool(_SHA256_HEX.fullmatch(digest))


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that a DSSE signature covers: type and payload, each under its length, so that neither can run over."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_statement(made: Mapping[str, Any], keys: SigningKeys, *, algorithms: Sequence[str] = HYBRID) -> bytes:
    """A statement in its DSSE envelope, as canonical JSON, signed once under each of `algorithms`.

    Raises Refused for a statement that JSON cannot carry exactly (a NaN, an integer beyond 2**53).
    """
    try:
        payload = rfc8785.dumps(_checked_statement(dict(made)))
    except rfc8785.CanonicalizationError as error:
        raise Refused("evidence.statement-malformed", field="predicate", detail=str(error)) from error
    covered = pre_authentication_encoding(PAYLOAD_TYPE, payload)
    signers = [keys[algorithm] for algorithm in algorithms]
    signatures = [{"keyid": key.public.key_id, "sig": b64encode(key.sign(covered)).decode()} for key in signers]
    envelope = {"payload": b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    return rfc8785.dumps(envelope)


def verify_envelope(raw: bytes, trusted: KeySet, *, algorithms: Sequence[str] = HYBRID) -> dict[str, Any]:
    """The statement inside an envelope, once the signer's keys vouch for it under every one of `algorithms`.

    Signatures of keys outside `trusted` are ignored, as DSSE asks. Raises Refused: `evidence.envelope-malformed`, then
    `evidence.signature-false` for a known key whose signature does not hold, `evidence.signature-missing` for an
    algorithm under which no known key signed, and `evidence.statement-malformed`.
    """
    envelope = parse_json(raw, MAX_ENVELOPE_BYTES, "evidence.envelope-malformed")
    payload, signatures = base64_bytes(envelope.get("payload")), members(envelope, "signatures")
    if payload is None or not signatures or len(signatures) > MAX_SIGNATURES:
        raise Refused("evidence.envelope-malformed")
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise Refused("evidence.payload-type-unknown", want=PAYLOAD_TYPE)
    signed = set(_algorithms_that_hold(pre_authentication_encoding(PAYLOAD_TYPE, payload), signatures, trusted))
    for algorithm in algorithms:
        if algorithm not in signed:
            raise Refused("evidence.signature-missing", algorithm=algorithm)
    try:
        return _checked_statement(orjson.loads(payload))
    except orjson.JSONDecodeError as error:
        raise Refused("evidence.statement-malformed", field="payload", detail=str(error)) from error


def _algorithms_that_hold(covered: bytes, signatures: list[dict[str, Any]], trusted: KeySet) -> Iterator[str]:
    known = {key.key_id: key for key in trusted.keys}
    for entry in signatures:
        key = known.get(str(entry.get("keyid")))
        if key is None:
            continue
        signature = base64_bytes(entry.get("sig"))
        if signature is None or not key.holds(signature, covered):
            raise Refused("evidence.signature-false", algorithm=key.algorithm, key_id=key.key_id)
        yield key.algorithm
