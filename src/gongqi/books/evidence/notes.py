"""Signed notes and checkpoints: the one page that commits to the whole log.

Idea: a note is text with signature lines under it. A checkpoint is a note of three lines: the log's origin, its size,
its root. Ours are signed by the log with Ed25519, which every witness and monitor reads, and with ML-DSA-65; our
reader accepts a note only if both signatures hold.

Invariants
- A note has one encoding: what parses encodes to the same bytes, so a changed byte of ours never goes unnoticed.
- Signatures of unknown keys (a witness, a coming key) are ignored; a false signature of a known key is refused.
- `open_note` gives no text before its signatures hold.

Signature types: Ed25519 is 0x01. The specification assigns none to ML-DSA-65 (0x06 is the ML-DSA-44 *cosignature*,
which has a timestamp and another message), so ours is 0xff, "reserved for signature types without an identifier
byte", and a longer name, as it recommends. The signature is pure ML-DSA-65 (FIPS 204, empty context) over the note
text, the public key its 1,952 FIPS 204 bytes. A reader that does not know the type ignores the line.

Source: c2sp.org/signed-note, c2sp.org/tlog-checkpoint.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from gongqi.books.evidence.keys import ED25519, HYBRID, ML_DSA_65, KeySet, PublicKey, SigningKeys
from gongqi.books.evidence.rules import HASH_BYTES, MAX_TREE_SIZE
from gongqi.kernel.errors import Refused

SIGNATURE_TYPES = {ED25519: b"\x01", ML_DSA_65: b"\xffgongqi/note/ml-dsa-65/v1"}
_FROM_RAW = {
    ED25519: ed25519.Ed25519PublicKey.from_public_bytes,
    ML_DSA_65: mldsa.MLDSA65PublicKey.from_public_bytes,
}

MAX_NOTE_BYTES = 2**18  # room for 32 post-quantum signatures of 5 kB and a long text
MAX_SIGNATURES = 32  # the specification asks for at least 16
MAX_KEY_NAME_CHARACTERS = 255
KEY_ID_BYTES = 4

_DASH = "\N{EM DASH} "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A key that may sign notes, under a name; name and id together single it out."""

    name: str
    public: PublicKey

    def __post_init__(self) -> None:
        if not _is_key_name(self.name) or self.public.algorithm not in SIGNATURE_TYPES:
            raise Refused("evidence.note-key-malformed")

    @property
    def key_id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + self._material).digest()[:KEY_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The verifier key as text: name+hex(id)+base64(type and public key)."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(self._material).decode()}"

    @property
    def _material(self) -> bytes:
        return SIGNATURE_TYPES[self.public.algorithm] + self.public.raw

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """The key in a verifier key; raises Refused unless that is exactly how the key is written."""
        name, _, rest = vkey.partition("+")
        material = _exact_base64(rest.partition("+")[2]) or b""
        for algorithm, kind in SIGNATURE_TYPES.items():
            if not material.startswith(kind):
                continue
            try:
                key = cls(name, PublicKey.of(_FROM_RAW[algorithm](material[len(kind) :])))
            except ValueError as error:
                raise Refused("evidence.note-key-malformed", detail=str(error)) from error
            if key.vkey == vkey:
                return key
        raise Refused("evidence.note-key-malformed")


def note_keys(name: str, keys: KeySet) -> tuple[NoteKey, ...]:
    """Those keys of a signer that can sign notes, under `name`."""
    return tuple(NoteKey(name, key) for key in keys.keys if key.algorithm in SIGNATURE_TYPES)


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, whoever made it."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        return f"{_DASH}{self.name} {b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note whose signatures nobody has checked: `open_note` is the way to trusted text."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        return (self.text + "\n" + "".join(signature.line() for signature in self.signatures)).encode()

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises Refused for anything that is not a note, and for a note beyond the limits of this module."""
        if len(raw) > MAX_NOTE_BYTES:
            raise Refused("evidence.note-too-large", size_bytes=len(raw), limit_bytes=MAX_NOTE_BYTES)
        try:
            whole = raw.decode()
        except UnicodeDecodeError as error:
            raise Refused("evidence.note-malformed", detail=str(error)) from error
        text, blank, lines = whole.rpartition("\n\n")
        if not blank or not lines.endswith("\n") or _CONTROL.search(whole):
            raise Refused("evidence.note-malformed")
        signatures = lines[:-1].split("\n")
        if len(signatures) > MAX_SIGNATURES:
            raise Refused("evidence.note-malformed", detail=f"{len(signatures)} signatures, limit {MAX_SIGNATURES}")
        return cls(text + "\n", tuple(map(_parse_signature, signatures)))


def _parse_signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    blob = _exact_base64(encoded)
    if not line.startswith(_DASH) or not _is_key_name(name) or blob is None or len(blob) <= KEY_ID_BYTES:
        raise Refused("evidence.note-malformed", detail="a signature line")
    return NoteSignature(name, blob[:KEY_ID_BYTES], blob[KEY_ID_BYTES:])


def sign_note(text: str, name: str, keys: SigningKeys, *, algorithms: Sequence[str] = HYBRID) -> bytes:
    """A note of `text` with one signature line per algorithm; raises Refused for text that a note cannot carry."""
    if not text.endswith("\n") or _CONTROL.search(text):
        raise Refused("evidence.note-malformed")
    signatures = []
    for algorithm in algorithms:
        key = keys[algorithm]
        signatures.append(NoteSignature(name, NoteKey(name, key.public).key_id, key.sign(text.encode())))
    return Note(text, tuple(signatures)).encode()


def open_note(raw: bytes, known: Iterable[NoteKey], *, algorithms: Sequence[str] = HYBRID) -> str:
    """The text of a note, once one of the `known` keys has signed it under every one of `algorithms`.

    Raises Refused: `evidence.note-malformed` or `evidence.note-too-large`, then `evidence.signature-false` for a
    known key whose line does not hold, and `evidence.signature-missing` for an algorithm under which no known key
    signed.
    """
    note = Note.parse(raw)
    keys = {(key.name, key.key_id): key.public for key in known}
    signed = set()
    for line in note.signatures:
        key = keys.get((line.name, line.key_id))
        if key is None:
            continue
        if not key.holds(line.signature, note.text.encode()):
            raise Refused("evidence.signature-false", algorithm=key.algorithm, key_id=key.key_id)
        signed.add(key.algorithm)
    for algorithm in algorithms:
        if algorithm not in signed:
            raise Refused("evidence.signature-missing", algorithm=algorithm)
    return note.text


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's claim: the first `size` entries of `origin` have the Merkle root `root`. It may carry extension lines."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # The origin is also the name in our signature lines, so it has no space; that keeps it apart from DSSE texts.
        if not _is_key_name(self.origin) or not 0 <= self.size <= MAX_TREE_SIZE or len(self.root) != HASH_BYTES:
            raise Refused("evidence.checkpoint-malformed")
        if not all(line and "\n" not in line for line in self.extensions):
            raise Refused("evidence.checkpoint-malformed")

    @property
    def text(self) -> str:
        return "\n".join((self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions, ""))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Refused unless `text` is a checkpoint, to the letter."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not _SIZE.fullmatch(lines[1]):
            raise Refused("evidence.checkpoint-malformed")
        return cls(lines[0], int(lines[1]), _exact_base64(lines[2]) or b"", tuple(lines[3:-1]))


def sign_checkpoint(checkpoint: Checkpoint, keys: SigningKeys) -> bytes:
    """The checkpoint as a note, signed by the log under its origin with Ed25519 and ML-DSA-65."""
    return sign_note(checkpoint.text, checkpoint.origin, keys)


def open_checkpoint(raw: bytes, origin: str, known: Iterable[NoteKey]) -> Checkpoint:
    """The checkpoint of the log `origin`, once its signatures hold as `open_note` asks; raises Refused."""
    checkpoint = Checkpoint.parse(open_note(raw, known))
    if checkpoint.origin != origin:
        raise Refused("evidence.checkpoint-of-another-log", got=checkpoint.origin, want=origin)
    return checkpoint


def _is_key_name(name: str) -> bool:
    fits = 0 < len(name) <= MAX_KEY_NAME_CHARACTERS
    return fits and not any(character.isspace() or character == "+" or character < " " for character in name)


def _exact_base64(text: str) -> bytes | None:
    """Bytes in standard base64 if `text` is their one exact writing: Python's decoder lets stray bits pass."""
    try:
        value = b64decode(text, validate=True)
    except ValueError:
        return None
    return value if b64encode(value).decode() == text else None
