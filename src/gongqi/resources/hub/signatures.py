"""OpenSSF model signing: a signature over the files of a model, in the form that the project's own tool checks.

We write one over every release, because many people have that tool and nothing of ours; and we read those that a donor
brings, because a signature made before the bytes came to us says more than any of ours can. The form knows only NIST
curves, so this is no substitute for the two signatures of the statement (statements.py), which stand beside it.

A signature file is a Sigstore bundle without transparency log: a DSSE envelope around an in-toto Statement that lists
path and SHA-256 of each file. It covers a folder: a file changed, missing or added makes it false. What the tool leaves
out by default (IGNORED) is left out here, and the release's own statement covers it all the same.

Source: OpenSSF Model Signing specification 1.0 (predicate https://model_signing/signature/v1.0), Sigstore bundle 0.3,
DSSE 1.0.2.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

import orjson
import rfc8785
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gongqi.books.evidence.keys import SigningKey, base64_bytes
from gongqi.books.evidence.signing import PAYLOAD_TYPE, STATEMENT_TYPE, pre_authentication_encoding
from gongqi.kernel.errors import Refused

SIGNATURE_PATH = "model.sig"  # where the tool puts it, and where we look for a donor's
KEY_SUFFIXES = (".pem", ".pub")  # of the public key that a donor puts beside it
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
SIGNATURE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLE_FAMILY = "application/vnd.dev.sigstore.bundle"
IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
SIGNATURE_LIMIT_BYTES = 32 << 20  # 100,000 files, in base64
KEY_LIMIT_BYTES = 8 << 10
MAX_KEYS = 16  # files that are looked into for a donor's key

# Each curve with the hash that the specification pairs it with.
_HASHES = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}


def sign_files(files: Mapping[str, str], *, name: str, key: SigningKey) -> bytes:
    """The signature file over `files` (path -> SHA-256 in hex), by a P-256 key; `name` is what the files are called."""
    covered = {path: digest for path, digest in files.items() if not _is_beneath(path, IGNORED)}
    listed = [
        {"algorithm": "sha256", "digest": covered[path], "name": path} for path in sorted(covered, key=PurePosixPath)
    ]
    predicate = {
        "resources": listed,
        "serialization": {
            "allow_symlinks": False, "hash_type": "sha256", "ignore_paths": list(IGNORED), "method": "files",
        },
    }  # fmt: skip
    payload = rfc8785.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": _digest_of_all(listed)}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )
    signature = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    envelope = {
        "payload": b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": "", "sig": b64encode(signature).decode()}],
    }
    material = {"publicKey": {"hint": _hint(key.public.spki)}, "tlogEntries": []}
    return rfc8785.dumps(
        {"mediaType": SIGNATURE_MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
    )


def check_files(raw: bytes, files: Mapping[str, str], keys: Iterable[bytes], *, beside: Collection[str] = ()) -> bytes:
    """The key (a DER SubjectPublicKeyInfo, one of `keys`) whose signature file `raw` holds over exactly `files`.

    `beside` names files that are there but need not be signed: the signature itself, and the key.
    Raises Refused hub.model-signature-unsound, with the flaw.
    """
    envelope, hint = _opened(raw)
    payload, signatures = base64_bytes(envelope.get("payload")), envelope.get("signatures")
    if (
        payload is None
        or not isinstance(signatures, list)
        or len(signatures) != 1
        or not isinstance(signatures[0], dict)
    ):
        raise _unsound("malformed")
    known = {_hint(spki): spki for spki in keys}
    spki = known.get(hint)
    if spki is None:
        raise _unsound("key-unknown", key_id=hint[:64])
    signature = base64_bytes(signatures[0].get("sig")) or b""
    if not _holds(spki, signature, pre_authentication_encoding(str(envelope.get("payloadType")), payload)):
        raise _unsound("false", key_id=hint)
    listed, ignored = _listed(payload)
    left_out = {*beside} | {path for path in files if _is_beneath(path, ignored)}
    for path, digest in listed.items():
        if path not in files:
            raise _unsound("lacks", path=path[:200])
        if files[path] != digest:
            raise _unsound("changed", path=path[:200])
    for path in sorted(files):
        if path not in listed and path not in left_out:
            raise _unsound("extra", path=path[:200])
    return spki


def check_presigned(files: Mapping[str, tuple[str, int]], read: Callable[[str, int], bytes]) -> str:
    """The id of the key that signed `files` (path -> SHA-256, size), where a signature came with them and holds.

    `read(path, limit in bytes)`. The id is the SHA-256 of the key's SubjectPublicKeyInfo. Raises Refused as
    `check_files`: a signature proves no more than that whoever has that key signed exactly these files.
    """
    if files[SIGNATURE_PATH][1] > SIGNATURE_LIMIT_BYTES:
        raise _unsound("malformed", detail="too large")
    likely = sorted(path for path, (_, size) in files.items() if is_key(path) and size <= KEY_LIMIT_BYTES)
    found = {path: public_key(read(path, KEY_LIMIT_BYTES)) for path in likely[:MAX_KEYS]}
    keys = {path: spki for path, spki in found.items() if spki is not None}
    digests = {path: digest for path, (digest, _) in files.items()}
    raw = read(SIGNATURE_PATH, SIGNATURE_LIMIT_BYTES)
    return sha256(check_files(raw, digests, keys.values(), beside={SIGNATURE_PATH, *keys})).hexdigest()


def public_key(content: bytes) -> bytes | None:
    """The DER SubjectPublicKeyInfo in a PEM file, if that is a public key on a curve the form knows."""
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        return None
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(spki: bytes) -> bytes:
    """A public key as the tool wants it."""
    key = serialization.load_der_public_key(spki)
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def is_key(path: str) -> bool:
    """Whether a donor's public key may be here: beside the signature, under a key's name."""
    return "/" not in path and path.endswith(KEY_SUFFIXES)


def _opened(raw: bytes) -> tuple[dict[str, Any], str]:
    """The envelope and the name of the key that is said to have signed it."""
    if len(raw) > SIGNATURE_LIMIT_BYTES:
        raise _unsound("malformed", detail=f"{len(raw)} bytes")
    try:
        bundle = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _unsound("malformed", detail=str(error)) from error
    if not isinstance(bundle, dict) or not isinstance(bundle.get("dsseEnvelope"), dict):
        raise _unsound("malformed")
    if not str(bundle.get("mediaType")).startswith(BUNDLE_FAMILY):
        raise _unsound("form", form=str(bundle.get("mediaType"))[:100])
    material = bundle.get("verificationMaterial")
    key = material.get("publicKey") if isinstance(material, dict) else None
    if not isinstance(key, dict) or not isinstance(key.get("hint"), str):
        raise _unsound("form", form="certificate")
    return bundle["dsseEnvelope"], key["hint"]


def _listed(payload: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """The files that a signed payload lists, and the paths it leaves out."""
    try:
        said = orjson.loads(payload)
        if said["_type"] != STATEMENT_TYPE or said["predicateType"] != PREDICATE_TYPE:
            raise _unsound("form", form=str(said["predicateType"])[:100])
        way, rows = said["predicate"]["serialization"], said["predicate"]["resources"]
        if (way["method"], way["hash_type"]) != ("files", "sha256"):
            raise _unsound("form", form=f"{way['method']} {way['hash_type']}"[:100])
        if any(row["algorithm"] != "sha256" for row in rows):
            raise _unsound("form", form="sha256")
        (subject,) = said["subject"]
        if subject["digest"]["sha256"] != _digest_of_all(rows):
            raise _unsound("malformed", detail="the digests do not add up")
        listed = {str(row["name"]): str(row["digest"]) for row in rows}
        ignored = tuple(str(path) for path in way.get("ignore_paths", ()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unsound("malformed", detail=str(error)) from error
    if len(listed) != len(rows):
        raise _unsound("malformed", detail="a path appears twice")
    return listed, ignored


def _digest_of_all(listed: Iterable[Mapping[str, Any]]) -> str:
    return sha256(b"".join(bytes.fromhex(row["digest"]) for row in listed)).hexdigest()


def _holds(spki: bytes, signature: bytes, message: bytes) -> bool:
    key = serialization.load_der_public_key(spki)
    assert isinstance(key, ec.EllipticCurvePublicKey), "public_key lets no other through"
    try:
        key.verify(signature, message, ec.ECDSA(_HASHES[key.curve.name]()))
    except InvalidSignature:
        return False
    return True


def _hint(spki: bytes) -> str:
    """How a signature file names its key: by the SHA-256 of the key's PEM form."""
    return sha256(pem(spki)).hexdigest()


def _is_beneath(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _unsound(flaw: str, **params: Any) -> Refused:
    return Refused("hub.model-signature-unsound", flaw=flaw, **params)
