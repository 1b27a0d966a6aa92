"""The evidence book: what verbs leave in it, what others may ask of it.

`append` is the kernel's way in: one row in the verb's own transaction, so an act and its evidence are committed
together or not at all. The sequencer (flows.py) later gives the row its place in the log. From then on `proof` shows,
to anybody who has the foundation's public keys and nothing else, that the entry is in the log the foundation signed.

The public side of every entry is public. The private side is shown by `evidence:private:get`, and by rooms above to
those whom an entry of theirs concerns: a receipt, which anybody it is handed to can check against the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from gongqi.books.evidence import leaves, signing
from gongqi.books.evidence.folder import LogFolder
from gongqi.books.evidence.keys import ED25519, HYBRID, KeySet, SigningKeys
from gongqi.books.evidence.leaves import Leaf
from gongqi.books.evidence.models import CheckpointRow, EntryRow
from gongqi.books.evidence.notes import Checkpoint, NoteKey, note_keys, open_checkpoint
from gongqi.books.evidence.rules import consistency_proof, inclusion_proof, leaf_hash
from gongqi.books.evidence.tiles import TileReader
from gongqi.kernel import flows
from gongqi.kernel.db import as_micros, insert_rows
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Entry, Input, Output, Page, Paged, Read, Write, read

SEQUENCE = "evidence.sequence"
READ = "evidence:entry:read"
MAX_ABOUT = 200  # entries about one subject that a page shows
STREAM_ROWS = 1_000


# ---- for the kernel and the rooms above ------------------------------------------------------------


def append(ctx: Write, entry: Entry) -> None:
    """Leave `entry` in the verb's own transaction; the sequencer is told after the commit."""
    private = leaves.seal(entry.private, entry.kind) if entry.private is not None else None
    leaf = Leaf.of(entry, private).encode()
    row = (entry.id, None, entry.kind, entry.actor, entry.verb, entry.subject, as_micros(entry.at), leaf, private)
    insert_rows(ctx.session.connection(), EntryRow, [row])
    ctx.after_commit.add(SEQUENCE)


def ensure(ctx: Write) -> None:
    """Make sure, at every start of the application, that the one sequencer flow is there and alive."""
    flow = ctx.start_flow(SEQUENCE, key="log")
    if ctx.session.scalar(select(flows.FlowRow.state).where(flows.FlowRow.id == flow)) == "dead":
        flows.revive(ctx, flow)


def sign_statement(ctx: Read, statement: Mapping[str, Any], *, algorithms: tuple[str, ...] = HYBRID) -> dict[str, Any]:
    """The DSSE envelope of an in-toto statement, signed by the foundation; see `signing.statement`."""
    return orjson.loads(signing.sign_statement(statement, ctx.kernel.part(SigningKeys), algorithms=algorithms))


def keyset(ctx: Read) -> dict[str, Any]:
    """The foundation's public keys (`KeySet.parse` reads them), the log's origin and its verifier keys."""
    log = Log.of(ctx.kernel)
    keys = orjson.loads(log.keys.public.encode())["keys"]
    return {"origin": log.origin, "keys": keys, "verifier_keys": [key.vkey for key in log.known]}


def proof(ctx: Read, entry_id: str) -> dict[str, Any]:
    """That the entry is in the signed log: {entry, leaf_hash, index, size, inclusion, root, checkpoint}.

    Hashes are hexadecimal; `entry` in canonical JSON is the leaf; `checkpoint` is the signed note. `verify.check_proof`
    reads it. Raises: Refused("access.not-found"), Unavailable("evidence.not-sequenced-yet").
    """
    row = ctx.session.get(EntryRow, entry_id)
    if row is None:
        raise Refused("access.not-found", kind=EntryRow.__tablename__, key=entry_id[:100])
    latest = ctx.session.scalar(select(CheckpointRow).order_by(CheckpointRow.size.desc()).limit(1))
    if latest is None or row.index is None or row.index >= latest.size:
        raise Unavailable("evidence.not-sequenced-yet", retry_after_seconds=1, entry=entry_id)
    log = Log.of(ctx.kernel)
    checkpoint = log.open(latest.note)
    try:
        path = inclusion_proof(row.index, checkpoint.size, TileReader(checkpoint.size, log.folder.load))
    except Refused as error:
        raise Broken("evidence.log-damaged", path=str(error.params.get("path", "")), detail=str(error)) from error
    return {
        "entry": orjson.loads(row.leaf),
        "leaf_hash": leaf_hash(row.leaf).hex(),
        "index": row.index,
        "size": checkpoint.size,
        "inclusion": [node.hex() for node in path],
        "root": checkpoint.root.hex(),
        "checkpoint": latest.note,
    }


def entries_about(ctx: Read, subject: str, *, limit: int = MAX_ABOUT) -> list[EntryOut]:
    """What happened to `subject`, oldest first; the newest `limit` entries."""
    rows = ctx.session.scalars(
        select(EntryRow).where(EntryRow.subject == subject).order_by(EntryRow.id.desc()).limit(min(limit, MAX_ABOUT))
    )
    return [EntryOut.model_validate(row) for row in rows][::-1]


def private_side(ctx: Read, entry_id: str) -> PrivateOut:
    """What an entry holds sealed. The caller has authorised: it knows whom the entry concerns.

    Raises: Refused("access.not-found").
    """
    row = ctx.session.get(EntryRow, entry_id)
    if row is None:
        raise Refused("access.not-found", kind=EntryRow.__tablename__, key=entry_id[:100])
    facts = leaves.unseal(row.private) if row.private is not None else None
    sealed = row.private.decode() if row.private is not None else None
    return PrivateOut(id=row.id, facts=facts, sealed=sealed, private_digest=row.private_digest)


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one foundation: its folder, its keys, and the origin under which it signs."""

    folder: LogFolder
    keys: SigningKeys

    @classmethod
    def of(cls, kernel: Kernel) -> Log:
        return cls(LogFolder(kernel.settings.home / "log"), kernel.part(SigningKeys))

    @property
    def origin(self) -> str:
        return origin_of(self.keys.public)

    @property
    def known(self) -> tuple[NoteKey, ...]:
        return note_keys(self.origin, self.keys.public)

    def open(self, note: str | bytes) -> Checkpoint:
        """A checkpoint of ours; raises Refused unless both of our signatures hold."""
        return open_checkpoint(note.encode() if isinstance(note, str) else note, self.origin, self.known)


def origin_of(keys: KeySet) -> str:
    """The log's name: no two logs share one, and nobody else's key can sign under it."""
    return f"gongqi/{keys.of(ED25519)[0].key_id[:32]}"


# ---- reads -----------------------------------------------------------------------------------------


class EntryKey(Input):
    entry: str = Field(max_length=64)


class Entries(Paged):
    kind: str | None = Field(None, max_length=200)
    subject: str | None = Field(None, max_length=200)


class Nothing(Input):
    pass


class Sizes(Input):
    old: int = Field(ge=0, le=2**63 - 1)
    new: int = Field(ge=0, le=2**63 - 1)


class EntryOut(Output):
    """The public side of an entry. `index` is its place in the log, counted from 0; none until it is sequenced."""

    id: str
    index: int | None
    kind: str
    actor: str
    verb: str
    subject: str
    at: datetime
    facts: dict[str, Any]
    private_digest: str | None = None
    request_id: str | None = None


class ProofOut(Output):
    entry: dict[str, Any]
    leaf_hash: str
    index: int
    size: int
    inclusion: list[str]
    root: str
    checkpoint: str


class CheckpointOut(Output):
    """The newest checkpoint; `note` is what is signed, the rest is read from it. Without a checkpoint, size is 0."""

    origin: str
    size: int
    root: str | None
    note: str | None


class ConsistencyOut(Output):
    old: int
    new: int
    proof: list[str]


class KeysOut(Output):
    origin: str
    keys: list[dict[str, str]]
    verifier_keys: list[str]


class PrivateOut(Output):
    """The private side of an entry: facts as recorded, and the sealed text whose SHA-256 the log holds."""

    id: str
    facts: dict[str, Any] | None
    sealed: str | None
    private_digest: str | None

    @property
    def holds(self) -> bool:
        """Whether the sealed text is the one that the log holds the digest of, computed now."""
        return self.sealed is not None and sha256(self.sealed.encode()).hexdigest() == self.private_digest


@read("evidence:entry:list")
def list_entries(ctx: Read, input: Entries) -> Page[EntryOut]:
    return ctx.listed(EntryRow, EntryOut, input, to=READ)


@read("evidence:entry:get")
def get_entry(ctx: Read, input: EntryKey) -> EntryOut:
    return EntryOut.model_validate(ctx.find(EntryRow, input.entry, to=READ))


@read("evidence:entry:proof")
def prove_entry(ctx: Read, input: EntryKey) -> ProofOut:
    return ProofOut.model_validate(proof(ctx, ctx.find(EntryRow, input.entry, to=READ).id))


@read("evidence:log:checkpoint")
def show_checkpoint(ctx: Read, input: Nothing) -> CheckpointOut:
    note = ctx.session.scalar(select(CheckpointRow.note).order_by(CheckpointRow.size.desc()).limit(1))
    log = Log.of(ctx.kernel)
    if note is None:
        return CheckpointOut(origin=log.origin, size=0, root=None, note=None)
    checkpoint = log.open(note)
    return CheckpointOut(origin=log.origin, size=checkpoint.size, root=checkpoint.root.hex(), note=note)


@read("evidence:log:consistency")
def prove_consistency(ctx: Read, input: Sizes) -> ConsistencyOut:
    size = log_size(ctx)
    if input.new > size:
        raise Refused("evidence.size-beyond-log", new=input.new, size=size)
    hashes = consistency_proof(input.old, input.new, TileReader(size, Log.of(ctx.kernel).folder.load))
    return ConsistencyOut(old=input.old, new=input.new, proof=[node.hex() for node in hashes])


@read("evidence:log:keys")
def show_keys(ctx: Read, input: Nothing) -> KeysOut:
    return KeysOut.model_validate(keyset(ctx))


@read("evidence:private:get")
def get_private(ctx: Read, input: EntryKey) -> PrivateOut:
    ctx.require("evidence:private:get")
    return private_side(ctx, ctx.find(EntryRow, input.entry, to=READ).id)


def last_recorded(session: Session) -> datetime | None:
    """When the newest entry was recorded."""
    return session.scalar(select(EntryRow.at).order_by(EntryRow.id.desc()).limit(1))


def newest_of(session: Session, kind: str) -> EntryOut | None:
    row = session.scalar(select(EntryRow).where(EntryRow.kind == kind).order_by(EntryRow.id.desc()).limit(1))
    return EntryOut.model_validate(row) if row else None


def every_of(session: Session, kind: str) -> Iterator[EntryOut]:
    """All entries of one kind, oldest first: for books that keep marks in the log."""
    rows = select(EntryRow).where(EntryRow.kind == kind).order_by(EntryRow.id)
    return map(EntryOut.model_validate, session.scalars(rows.execution_options(yield_per=STREAM_ROWS)))


def log_size(ctx: Read) -> int:
    """How many entries the newest checkpoint covers."""
    return ctx.session.scalar(select(CheckpointRow.size).order_by(CheckpointRow.size.desc()).limit(1)) or 0
