"""Keys: who may speak for the foundation, under which algorithms, and how keys lie on disk.

Idea: everything of ours is signed twice, with Ed25519 and with ML-DSA-65, and both signatures must hold. Whoever breaks
one family, with a quantum computer or with new mathematics, still forges nothing. A P-256 key stands beside them for
tools that know only NIST curves.

Invariants
- An algorithm is a name in ALGORITHMS; a key knows its algorithm, and no signature is checked under another one.
- A key's id is the SHA-256 of its SubjectPublicKeyInfo, so an id cannot be claimed for another key.
- A key set belongs to one signer; a claim holds if, for each algorithm asked for, one of the signer's keys signed it.
- Private keys appear on disk all together or not at all, mode 0600, and are never overwritten.

The same keys sign statements (signing.py) and notes (notes.py). No signed text can be both: DSSE text begins with
"DSSEv1 ", and the first line of a checkpoint, its origin, has no space.

Source: FIPS 204 (pure ML-DSA, empty context), RFC 8032, FIPS 186-5 with DER signatures, RFC 8785 (canonical JSON),
RFC 8410 and RFC 9881 (key encodings).
"""

import errno
import os
import tempfile
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import orjson
import rfc8785
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from gongqi.kernel.errors import Refused

ED25519 = "ed25519"
ML_DSA_65 = "ml-dsa-65"
ECDSA_P256 = "ecdsa-p256-sha256"
HYBRID = (ED25519, ML_DSA_65)
"""What every envelope and every checkpoint of ours carries."""

MAX_KEYS = 64
MAX_KEY_SET_BYTES = 2**18  # 64 ML-DSA-65 keys are 170 kB

_P256 = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way of signing, over key objects of `cryptography`; `verify` raises InvalidSignature."""

    name: str
    generate: Callable[[], Any]
    sign: Callable[[Any, bytes], bytes]
    verify: Callable[[Any, bytes, bytes], None]
    owns: Callable[[Any], bool]


ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(
            ED25519,
            generate=ed25519.Ed25519PrivateKey.generate,
            sign=lambda key, message: key.sign(message),
            verify=lambda key, signature, message: key.verify(signature, message),
            owns=lambda key: isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey),
        ),
        Algorithm(
            ML_DSA_65,
            generate=mldsa.MLDSA65PrivateKey.generate,
            sign=lambda key, message: key.sign(message),
            verify=lambda key, signature, message: key.verify(signature, message),
            owns=lambda key: isinstance(key, mldsa.MLDSA65PrivateKey | mldsa.MLDSA65PublicKey),
        ),
        Algorithm(
            ECDSA_P256,
            generate=lambda: ec.generate_private_key(ec.SECP256R1()),
            sign=lambda key, message: key.sign(message, _P256),
            verify=lambda key, signature, message: key.verify(signature, message, _P256),
            owns=lambda key: (
                isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey)
                and isinstance(key.curve, ec.SECP256R1)
            ),
        ),
    )
}


def _algorithm_of(key: object) -> Algorithm | None:
    return next((algorithm for algorithm in ALGORITHMS.values() if algorithm.owns(key)), None)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key with the name of its algorithm; equal keys have equal ids."""

    algorithm: str
    spki: bytes
    _key: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: Any) -> Self:
        """Wrap a public key of `cryptography`; raises Refused for an algorithm that is not ours."""
        algorithm = _algorithm_of(key)
        if algorithm is None:
            raise Refused("evidence.key-malformed")
        spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(algorithm.name, spki, key)

    @classmethod
    def from_spki(cls, spki: bytes) -> Self:
        """Parse a DER SubjectPublicKeyInfo; raises Refused."""
        try:
            key = cls.of(serialization.load_der_public_key(spki))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Refused("evidence.key-malformed", detail=str(error)) from error
        if key.spki != spki:  # one key, one encoding, one id
            raise Refused("evidence.key-malformed", detail="not the canonical encoding")
        return key

    @property
    def key_id(self) -> str:
        return sha256(self.spki).hexdigest()

    @property
    def raw(self) -> bytes:
        """The bare key: RFC 8032 and FIPS 204 bytes, or the uncompressed point of P-256."""
        if self.algorithm == ECDSA_P256:
            return self._key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        return self._key.public_bytes_raw()

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` over `message` was made by this key."""
        try:
            ALGORITHMS[self.algorithm].verify(self._key, signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the name of its algorithm; its repr shows the public side only."""

    public: PublicKey
    _key: Any = field(repr=False, compare=False)

    @classmethod
    def generate(cls, algorithm: str) -> Self:
        return cls._of(ALGORITHMS[algorithm].generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Parse an unencrypted PKCS #8 key; raises Refused."""
        try:
            return cls._of(serialization.load_pem_private_key(pem, password=None))
        except (ValueError, TypeError, UnsupportedAlgorithm):  # the error's text might quote the key: keep none of it
            raise Refused("evidence.key-malformed") from None

    @classmethod
    def _of(cls, key: Any) -> Self:
        return cls(PublicKey.of(key.public_key()), key)

    @property
    def algorithm(self) -> str:
        return self.public.algorithm

    @property
    def pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, message: bytes) -> bytes:
        return ALGORITHMS[self.algorithm].sign(self._key, message)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The public keys of one signer."""

    keys: tuple[PublicKey, ...]

    def encode(self) -> bytes:
        """Canonical JSON: {"keys": [{"algorithm", "keyid", "public": base64 of the SubjectPublicKeyInfo}]}."""
        rows = [
            {"algorithm": key.algorithm, "keyid": key.key_id, "public": b64encode(key.spki).decode()}
            for key in self.keys
        ]
        return rfc8785.dumps({"keys": rows})

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse what `encode` writes; raises Refused unless every key has the id and the algorithm it claims."""
        rows = members(parse_json(raw, MAX_KEY_SET_BYTES, "evidence.key-set-malformed"), "keys")
        if not rows or len(rows) > MAX_KEYS:
            raise Refused("evidence.key-set-malformed")
        keys = tuple(cls._key(row) for row in rows)
        if len({key.key_id for key in keys}) != len(keys):
            raise Refused("evidence.key-set-malformed", detail="a key appears twice")
        return cls(keys)

    @staticmethod
    def _key(row: Mapping[str, Any]) -> PublicKey:
        key = PublicKey.from_spki(base64_bytes(row.get("public")) or b"")
        if (row.get("keyid"), row.get("algorithm")) != (key.key_id, key.algorithm):
            raise Refused("evidence.key-set-malformed", detail=f"not the id or algorithm of {key.key_id}")
        return key

    def of(self, algorithm: str) -> tuple[PublicKey, ...]:
        return tuple(key for key in self.keys if key.algorithm == algorithm)


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The private keys of one signer, one for each algorithm in ALGORITHMS."""

    keys: tuple[SigningKey, ...]

    def __getitem__(self, algorithm: str) -> SigningKey:
        return next(key for key in self.keys if key.algorithm == algorithm)

    @property
    def public(self) -> KeySet:
        return KeySet(tuple(key.public for key in self.keys))

    @classmethod
    def generate(cls) -> Self:
        return cls(tuple(SigningKey.generate(name) for name in ALGORITHMS))

    def save(self, directory: Path) -> None:
        """Write each key as <algorithm>.pem into a new (or empty) `directory`; raises Refused if it holds anything.

        The files are made in a neighbouring directory, mode 0700, and one rename puts them in place: a crash leaves all
        keys or none, and of two writers the second is refused, because a directory is never renamed over a full one.
        """
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            for key in self.keys:
                _write_private(staging / f"{key.algorithm}.pem", key.pem)
            _sync_directory(staging)
            os.rename(staging, directory)
        except OSError as error:
            for path in staging.iterdir():
                path.unlink()
            staging.rmdir()
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise Refused("evidence.keys-exist", directory=str(directory)) from error
            raise
        _sync_directory(directory.parent)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote; raises Refused for a file that is missing, wrong, or readable by others."""
        return cls(tuple(_read_private(directory / f"{name}.pem", name) for name in ALGORITHMS))

    @classmethod
    def load_or_generate(cls, directory: Path) -> Self:
        """Read the keys; at the first start, when there is no `directory` yet, make them."""
        if not directory.exists():
            with suppress(Refused):  # another process was first: its keys are ours too
                cls.generate().save(directory)
        return cls.load(directory)


def _write_private(path: Path, pem: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path, algorithm: str) -> SigningKey:
    if not path.is_file():
        raise Refused("evidence.key-file-missing", path=str(path))
    if path.stat().st_mode & 0o077:
        raise Refused("evidence.key-file-exposed", path=str(path))
    key = SigningKey.from_pem(path.read_bytes())
    if key.algorithm != algorithm:
        raise Refused("evidence.key-malformed", detail=f"{path.name} holds a key for {key.algorithm}")
    return key


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse_json(raw: bytes, limit_bytes: int, code: str) -> dict[str, Any]:
    if len(raw) > limit_bytes:
        raise Refused(code, detail=f"{len(raw)} bytes, limit {limit_bytes}")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refused(code, detail=str(error)) from error
    if not isinstance(value, dict):
        raise Refused(code, detail="not an object")
    return value


def members(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in the list `name`; none if it is not a list of objects."""
    rows = value.get(name)
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else []


def base64_bytes(text: Any) -> bytes | None:
    """Bytes in standard or URL-safe base64 (DSSE allows both), if that is their one exact writing."""
    if not isinstance(text, str) or not text.isascii():
        return None
    decode, encode = (urlsafe_b64decode, urlsafe_b64encode) if "-" in text or "_" in text else (b64decode, b64encode)
    try:
        value = decode(text)
    except ValueError:
        return None
    return value if encode(value).decode() == text else None
