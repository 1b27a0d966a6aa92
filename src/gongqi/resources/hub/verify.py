"""The check of a bundle that needs nobody: no server, no network, no database.

`verify_bundle` reads one file and says of each claim whether it holds:

- files: the bundle holds exactly the files that the statement names, byte for byte
- signature: the statement is signed by the foundation, with Ed25519 and with ML-DSA-65
- log: the publication is an entry of the evidence log, under a signed checkpoint, and names this statement
- gates: the verdict shown is the one that was signed, and it allowed the publication
- lineage: every source named in the statement is there, with the signed statement of its own release if it had one
  and the reader may see it; a statement that is withheld is still bound by its digest, and counted
- documents: each is the one that the foundation signed as a document of this release, and none is left out
- model-signing: the signature for the model-signing tool covers exactly these files, by a key of the foundation
- presigned: so does the signature that the donor brought, if there is one, by the key beside it

Each claim is judged by itself against the statement, so a changed byte makes the claim false that rests on it. Whose
keys they are is not something a file can prove: pass `trusted_key_ids` (as the foundation publishes them), or compare
the ids in the report by eye.

Source: in-toto Statement v1 and DSSE (books.evidence.signing), C2SP checkpoints (notes), RFC 9162 (rules).
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
import rfc8785

from gongqi.books.evidence.keys import ECDSA_P256, KeySet
from gongqi.books.evidence.notes import note_keys, open_checkpoint
from gongqi.books.evidence.rules import leaf_hash, verify_inclusion
from gongqi.books.evidence.signing import verify_envelope
from gongqi.kernel.errors import Param, Refused
from gongqi.kernel.words import Words
from gongqi.resources.hub import container
from gongqi.resources.hub.bundle import (
    CHECKPOINT,
    DOCUMENTS,
    DOCUMENTS_STATEMENT,
    DOCUMENTS_TYPE,
    ENTRY,
    FILES,
    GATES,
    KEYS,
    LINEAGE,
    MANIFEST,
    PROOF,
    STATEMENT,
    manifest_of,
)
from gongqi.resources.hub.signatures import (
    KEY_LIMIT_BYTES,
    SIGNATURE_LIMIT_BYTES,
    SIGNATURE_PATH,
    check_files,
    check_presigned,
    is_key,
)

KIND = "hub.release-published"
JSON_LIMIT_BYTES = 64 << 20  # the largest of ours: the statements of 64 sources
MAX_HELD = 40  # members that are no files, and so are held in memory: ours, and twice as many documents as there may be

Name = Literal["files", "signature", "log", "gates", "lineage", "documents", "model-signing", "presigned"]
CLAIM_OF: Mapping[str, Name] = {
    MANIFEST: "files", STATEMENT: "signature", KEYS: "signature", ENTRY: "log", PROOF: "log", CHECKPOINT: "log",
    LINEAGE: "lineage", GATES: "gates", DOCUMENTS + SIGNATURE_PATH: "model-signing",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """Whether one claim holds; `reason` is a text key, or the code of the error that says why not."""

    name: Name
    holds: bool
    reason: str
    params: Mapping[str, Param] = field(default_factory=dict)

    def text(self, words: Words, language: str) -> str:
        """The reason in one language."""
        if words.has(self.reason):
            return words.text(self.reason, language, **self.params)
        refused = Refused(self.reason)
        refused.params = dict(self.params)
        return words.error(refused, language)[1]


@dataclass(frozen=True, slots=True)
class Report:
    """What a bundle is about, as it says itself, and which of its claims hold. `key_ids` are those in the bundle."""

    claims: tuple[Claim, ...]
    release: str
    asset: str
    foundation: str
    key_ids: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return all(claim.holds for claim in self.claims)

    def __getitem__(self, name: Name) -> Claim:
        return next(claim for claim in self.claims if claim.name == name)


class _False(Exception):
    """A claim does not hold, for this reason."""

    def __init__(self, reason: str, **params: Param) -> None:
        super().__init__(reason)
        self.reason, self.params = reason, params


@dataclass(slots=True)
class _Opened:
    """A bundle read once: documents in memory, digests of files, members whose frame is not as we write it.

    `held`: of the files, those that may be a donor's signature or key, by digest.
    """

    documents: dict[str, bytes]
    digests: dict[str, tuple[str, int]]
    held: dict[str, bytes]
    misframed: dict[Name, str]
    trusted: set[str] | None
    statement: dict[str, Any] = field(default_factory=dict)
    statement_digest: str = ""
    key_set: KeySet | None = None


def verify_bundle(path: Path, *, trusted_key_ids: set[str] | None = None) -> Report:
    """Judge the claims of the bundle at `path`. Raises Refused hub.bundle-malformed when it is no bundle."""
    with path.open("rb") as file:
        opened = _open(file, trusted_key_ids)
    claims = tuple(
        _judge(opened, name, judge) for name, judge in _JUDGES if name != "presigned" or _is_presigned(opened)
    )
    predicate = opened.statement.get("predicate", {})
    return Report(
        claims,
        release=_said(predicate, "release", "id"),
        asset=_said(predicate, "asset", "id"),
        foundation=str(predicate.get("foundation", "")),
        key_ids=tuple(key.key_id for key in opened.key_set.keys) if opened.key_set else (),
    )


def claim_of(member: str) -> Name | None:
    """The claim that rests on a member; None for what has no place in a bundle."""
    if member.startswith(FILES):
        return "files"
    if member in CLAIM_OF:
        return CLAIM_OF[member]
    return "documents" if member.startswith(DOCUMENTS) else None


def _is_for_presigned(path: str, size: int) -> bool:
    limit = SIGNATURE_LIMIT_BYTES if path == SIGNATURE_PATH else KEY_LIMIT_BYTES if is_key(path) else 0
    return size <= limit


def _is_presigned(opened: _Opened) -> bool:
    return any(row["name"] == SIGNATURE_PATH for row in opened.statement.get("subject", ()))


def _said(predicate: Mapping[str, Any], part: str, name: str) -> str:
    value = predicate.get(part)
    return str(value.get(name, "")) if isinstance(value, dict) else ""


def _open(file: BinaryIO, trusted: set[str] | None) -> _Opened:
    members = container.decode(file)
    opened = _Opened({}, {}, {}, {}, trusted)
    for member in members:
        is_file = member.name.startswith(FILES)
        claim = claim_of(member.name)
        if claim is None:
            raise Refused("hub.bundle-malformed", flaw="member-unknown", member=ascii(member.name[:100]))
        if not is_file and (member.size > JSON_LIMIT_BYTES or len(opened.documents) >= MAX_HELD):
            raise Refused("hub.bundle-malformed", flaw="member-too-large", member=member.name)
        path = member.name.removeprefix(FILES)
        is_held = not is_file or _is_for_presigned(path, member.size)
        crc, digest, held = 0, hashlib.sha256(), []
        for chunk in container.read(file, member):
            crc = zlib.crc32(chunk, crc)
            digest.update(chunk)
            if is_held:
                held.append(chunk)
        if not container.is_framed(file, member, crc):
            opened.misframed.setdefault(claim, member.name)
        if not is_file:
            opened.documents[member.name] = b"".join(held)
            continue
        opened.digests[path] = (digest.hexdigest(), member.size)
        if is_held:
            opened.held[digest.hexdigest()] = b"".join(held)
    if not container.is_closed(file, members):
        opened.misframed.setdefault("files", "directory")
    _read_statement(opened)
    return opened


def _read_statement(opened: _Opened) -> None:
    """What the statement says and which keys there are, before anybody vouches for them; the judges decide on that."""
    try:
        raw = orjson.loads(opened.documents.get(STATEMENT, b""))
        payload = b64decode(raw["payload"])
        opened.statement_digest = hashlib.sha256(payload).hexdigest()
        said = orjson.loads(payload)
        manifest_of(said)  # has every part that is looked at below
        opened.statement = said
    except (ValueError, LookupError, TypeError):
        opened.statement = {}
    try:
        opened.key_set = KeySet.parse(opened.documents.get(KEYS, b""))
    except Refused:
        opened.key_set = None


def _judge(opened: _Opened, name: Name, judge: Callable[[_Opened], tuple[str, dict[str, Param]]]) -> Claim:
    try:
        reason, params = judge(opened)
        if name in opened.misframed:
            raise _False("hub.verify.frame-differs", member=opened.misframed[name][:200])
        return Claim(name, True, reason, params)
    except _False as false:
        return Claim(name, False, false.reason, false.params)
    except Refused as refused:
        return Claim(name, False, refused.code, refused.params)
    except (ValueError, LookupError, TypeError, AttributeError):  # a document that is JSON, but not of our shape
        return Claim(name, False, "hub.verify.document-malformed", {"claim": name})


def _document(opened: _Opened, name: str) -> Any:
    """A JSON member in its one canonical form."""
    raw = opened.documents.get(name)
    if raw is None:
        raise _False("hub.verify.member-missing", member=name)
    try:
        value = orjson.loads(raw)
        canonical = rfc8785.dumps(value)
    except (ValueError, rfc8785.CanonicalizationError) as error:
        raise _False("hub.verify.document-changed", member=name) from error
    if canonical != raw:
        raise _False("hub.verify.document-changed", member=name)
    return value


def _keys(opened: _Opened) -> KeySet:
    """The keys that count: those in the bundle, narrowed to the trusted ones when the reader named some."""
    _document(opened, KEYS)
    keys = KeySet.parse(opened.documents[KEYS])
    if keys.encode() != opened.documents[KEYS]:
        raise _False("hub.verify.document-changed", member=KEYS)
    if opened.trusted is None:
        return keys
    known = tuple(key for key in keys.keys if key.key_id in opened.trusted)
    if not known:
        raise _False("hub.verify.keys-unknown")
    return KeySet(known)


def _files_hold(opened: _Opened) -> tuple[str, dict[str, Param]]:
    if not opened.statement:
        raise _False("hub.verify.statement-unreadable")
    wanted = {row["name"]: row["digest"]["sha256"] for row in opened.statement["subject"]}
    for path, sha256 in wanted.items():
        if path not in opened.digests:
            raise _False("hub.verify.file-missing", path=path)
        if opened.digests[path][0] != sha256:
            raise _False("hub.verify.file-changed", path=path)
    if extra := sorted(opened.digests.keys() - wanted.keys()):
        raise _False("hub.verify.file-extra", path=extra[0])
    if _document(opened, MANIFEST) != manifest_of(opened.statement):
        raise _False("hub.verify.document-changed", member=MANIFEST)
    return "hub.verify.files-hold", {"count": len(wanted), "bytes": sum(size for _, size in opened.digests.values())}


def _signature_holds(opened: _Opened) -> tuple[str, dict[str, Param]]:
    _document(opened, STATEMENT)
    verify_envelope(opened.documents[STATEMENT], _keys(opened))
    reason = "hub.verify.signature-holds" if opened.trusted is not None else "hub.verify.signature-holds-by-own-keys"
    return reason, {"statement": opened.statement_digest}


def _log_holds(opened: _Opened) -> tuple[str, dict[str, Param]]:
    proof, entry = _document(opened, PROOF), _document(opened, ENTRY)
    note = opened.documents.get(CHECKPOINT, b"")
    origin = note.split(b"\n", 1)[0].decode()
    checkpoint = open_checkpoint(note, origin, note_keys(origin, _keys(opened)))
    if proof.keys() != {"inclusion", "index", "size"} or proof["size"] != checkpoint.size:
        raise _False("hub.verify.document-changed", member=PROOF)
    verify_inclusion(
        index=proof["index"], size=checkpoint.size, leaf=leaf_hash(opened.documents[ENTRY]), root=checkpoint.root,
        proof=[bytes.fromhex(each) for each in proof["inclusion"]],
    )  # fmt: skip
    if entry["kind"] != KIND or entry["facts"]["statement_digest"] != opened.statement_digest:
        raise _False("hub.verify.entry-of-another-statement")
    return "hub.verify.log-holds", {"index": proof["index"], "size": checkpoint.size, "origin": origin}


def _gates_hold(opened: _Opened) -> tuple[str, dict[str, Param]]:
    shown = _document(opened, GATES)
    if not opened.statement or shown != opened.statement["predicate"]["gates"]:
        raise _False("hub.verify.document-changed", member=GATES)
    denials = [answer["source"] for answer in shown["answers"] if answer["decision"] == "deny"]
    if shown["allowed"] is not True or denials:
        raise _False("hub.verify.gates-denied", source=denials[0] if denials else "")
    return "hub.verify.gates-hold", {"count": len(shown["answers"])}


def _lineage_holds(opened: _Opened) -> tuple[str, dict[str, Param]]:
    shown = _document(opened, LINEAGE)["sources"]
    if not opened.statement:
        raise _False("hub.verify.statement-unreadable")
    named = opened.statement["predicate"]["lineage"]
    if [{key: row[key] for key in row if key != "envelope"} for row in shown] != named:
        raise _False("hub.verify.document-changed", member=LINEAGE)
    signed = [row for row in shown if row["envelope"] is not None]
    for row in signed:
        if hashlib.sha256(b64decode(row["envelope"]["payload"])).hexdigest() != row["statement"]:
            raise _False("hub.verify.source-changed", revision=row["revision"])
        source = verify_envelope(rfc8785.dumps(row["envelope"]), _keys(opened))
        if source["predicate"]["revision"]["digest"] != row["digest"]:
            raise _False("hub.verify.source-changed", revision=row["revision"])
    withheld = sum(row["statement"] is not None for row in shown) - len(signed)
    return "hub.verify.lineage-holds", {"count": len(shown), "signed": len(signed), "withheld": withheld}


def _documents_hold(opened: _Opened) -> tuple[str, dict[str, Param]]:
    brought = {
        name.removeprefix(DOCUMENTS): raw for name, raw in opened.documents.items() if name.startswith(DOCUMENTS)
    }
    if not brought:
        return "hub.verify.documents-none", {}
    signed = brought.pop(DOCUMENTS_STATEMENT, None)
    if signed is None:
        raise _False("hub.verify.member-missing", member=DOCUMENTS + DOCUMENTS_STATEMENT)
    _document(opened, DOCUMENTS + DOCUMENTS_STATEMENT)
    said = verify_envelope(signed, _keys(opened))
    if said["predicateType"] != DOCUMENTS_TYPE or said["predicate"].get("statement") != opened.statement_digest:
        raise _False("hub.verify.documents-of-another-statement")
    wanted = {row["name"]: row["digest"]["sha256"] for row in said["subject"]}
    for name, digest in wanted.items():
        if name not in brought:
            raise _False("hub.verify.member-missing", member=DOCUMENTS + name)
        if hashlib.sha256(brought[name]).hexdigest() != digest:
            raise _False("hub.verify.document-changed", member=DOCUMENTS + name)
    if extra := sorted(brought.keys() - wanted.keys()):
        raise _False("hub.verify.document-extra", member=DOCUMENTS + extra[0])
    return "hub.verify.documents-hold", {"count": len(wanted)}


def _model_signing_holds(opened: _Opened) -> tuple[str, dict[str, Param]]:
    raw = opened.documents.get(DOCUMENTS + SIGNATURE_PATH)
    if raw is None:
        return "hub.verify.model-signing-none", {}
    if not opened.statement:
        raise _False("hub.verify.statement-unreadable")
    keys = [key.spki for key in _keys(opened).of(ECDSA_P256)]
    spki = check_files(raw, {row["name"]: row["digest"]["sha256"] for row in opened.statement["subject"]}, keys)
    return "hub.verify.model-signing-holds", {"key_id": hashlib.sha256(spki).hexdigest()}


def _presigned_holds(opened: _Opened) -> tuple[str, dict[str, Param]]:
    sizes = {row["path"]: row["size"] for row in opened.statement["predicate"]["files"]}
    signed = {row["name"]: row["digest"]["sha256"] for row in opened.statement["subject"]}

    def read(path: str, _limit: int) -> bytes:
        if signed[path] not in opened.held:
            raise _False("hub.verify.file-changed", path=path)
        return opened.held[signed[path]]

    key = check_presigned({path: (digest, sizes[path]) for path, digest in signed.items()}, read)
    return "hub.verify.presigned-holds", {"key_id": key}


_JUDGES: tuple[tuple[Name, Callable[[_Opened], tuple[str, dict[str, Param]]]], ...] = (
    ("files", _files_hold),
    ("signature", _signature_holds),
    ("log", _log_holds),
    ("gates", _gates_hold),
    ("lineage", _lineage_holds),
    ("documents", _documents_hold),
    ("model-signing", _model_signing_holds),
    ("presigned", _presigned_holds),
)
