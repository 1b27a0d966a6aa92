"""The sequencer: the one flow that gives entries their places and signs the log.

A round has four acts, each durable before the next begins:

1. *assign*: unsequenced rows get the next indexes, in one transaction. From here the content of the log is decided.
2. *write*: the tiles of these entries are written. They follow from the rows alone, so writing them again is harmless.
3. *sign*: the checkpoint is kept in the database, beside the one before, which it must continue.
4. *publish*: the kept checkpoint is put in the folder.

A crash at any point leaves a state from which the next round goes on: it publishes what is kept, writes what is
assigned up to exactly that size, and only then assigns more. So nothing is lost, doubled or renumbered, and no two
checkpoints of one size can differ.

Only one sequencer acts: acts 1 and 3 renew the flow's lease in their own transaction and fail if another worker has it,
and acts 2 to 4 hold the folder's lock. The log is in order of arrival; an entry's own time may lie a little before its
neighbour's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import structlog
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from gongqi.books.evidence.models import CheckpointRow, EntryRow
from gongqi.books.evidence.notes import Checkpoint, sign_checkpoint
from gongqi.books.evidence.rules import EMPTY_ROOT, consistency_proof, verify_consistency
from gongqi.books.evidence.service import SEQUENCE, Log
from gongqi.books.evidence.tiles import CHECKPOINT, TILE_WIDTH, Edge, Tile, TileReader
from gongqi.kernel import flows
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.kernel.flows import Again, Flow, Run

BATCH = 1024  # entries a checkpoint: at most 64 MiB of them in memory
MAX_ROUNDS = 32  # then the worker may look at other flows
REST_SECONDS = 30.0  # between nudges; a nudge is lost only with its process
RETRY_SECONDS = 5.0
GATHER_SECONDS = 0.5  # while entries keep coming, a round waits for more of them: it costs as much for one as for many

journal = structlog.get_logger("gongqi.evidence")
_ENTRY = EntryRow.__table__
_PLACE = (
    update(EntryRow.__table__)  # type: ignore[arg-type]
    .where(_ENTRY.c.id == bindparam("key"), _ENTRY.c.index.is_(None))
    .values(index=bindparam("place"))
)


def sequence(run: Run) -> Again:
    """Bring the log up to date with the entries."""
    log = Log.of(run.kernel)
    try:
        for number in range(MAX_ROUNDS):
            if number and 0 < _waiting(run) < BATCH:
                time.sleep(GATHER_SECONDS)
            with log.folder.writing():
                if not _round(run, log):
                    return Again(REST_SECONDS)
    except (OSError, Unavailable) as error:  # a full disk, a busy database: the log outlasts them, however long
        journal.warning("the log waits", error=repr(error))
        return Again(RETRY_SECONDS)
    return Again(0)


def _waiting(run: Run) -> int:
    """How many entries have no place yet, counted up to a batch."""
    some = select(_ENTRY.c.id).where(_ENTRY.c.index.is_(None)).limit(BATCH).subquery()
    with run.kernel.db.reading() as session:
        return session.scalar(select(func.count()).select_from(some)) or 0


def _round(run: Run, log: Log) -> bool:
    """One round; returns whether there was anything to do."""
    db = run.kernel.db
    with db.reading() as session:
        kept = list(session.scalars(select(CheckpointRow).order_by(CheckpointRow.size.desc()).limit(2)))
        assigned = _assigned(session)
    try:
        base = _catch_up(log, [row.note for row in kept])
        if assigned == base.size:
            assigned = db.write(lambda session: _assign(session, run, base.size), isolation="READ COMMITTED")
            flows.boundary("evidence assigned")
        if assigned == base.size:
            return False
        with db.reading() as session:
            leaves = _leaves(session, base.size, assigned)
        checkpoint = _write(log, base, leaves)
    except Refused as error:  # about the log's own files, so nobody can correct it by asking differently
        raise Broken("evidence.log-damaged", path=str(error.params.get("path", "")), detail=str(error)) from error
    note = sign_checkpoint(checkpoint, log.keys).decode()
    db.write(lambda session: _keep(session, run, base.size, checkpoint.size, note), isolation="READ COMMITTED")
    flows.boundary("evidence signed")
    log.folder.publish(note.encode())
    flows.boundary("evidence published")
    return True


def _catch_up(log: Log, kept: list[str]) -> Checkpoint:
    """The last checkpoint that was kept, once the folder shows it too; `kept` is newest first.

    Raises Broken when the folder shows a checkpoint that the database does not know: one of them was restored from a
    backup, and going on would sign a second history.
    """
    published = log.folder.checkpoint()
    if published is not None and published.decode(errors="replace") not in kept:
        raise Broken("evidence.log-forked", path=CHECKPOINT)
    if not kept:
        return Checkpoint(log.origin, 0, EMPTY_ROOT)
    newest = log.open(kept[0])
    if published != kept[0].encode():
        log.folder.publish(kept[0].encode())
        flows.boundary("evidence published again")
    older = log.open(kept[1]).size if len(kept) > 1 else 0
    log.folder.prune(older, newest.size)
    flows.boundary("evidence pruned")
    return newest


def _assign(session: Session, run: Run, size: int) -> int:
    """Give the oldest unsequenced rows the indexes from `size` on; returns the size then assigned."""
    run.fence(session)
    if _assigned(session) != size:
        raise Broken("evidence.log-forked", path=EntryRow.__tablename__)
    rows = session.execute(
        select(_ENTRY.c.id).where(_ENTRY.c.index.is_(None)).order_by(_ENTRY.c.at, _ENTRY.c.id).limit(BATCH)
    ).all()
    if rows:
        session.connection().execute(_PLACE, [{"key": row.id, "place": place} for place, row in enumerate(rows, size)])
    return size + len(rows)


def _assigned(session: Session) -> int:
    last = session.scalar(select(func.max(_ENTRY.c.index)))
    return 0 if last is None else last + 1


def _leaves(session: Session, start: int, end: int) -> list[bytes]:
    """The leaves [start, end), at most a batch of them as `_assign` made it."""
    rows = session.execute(
        select(_ENTRY.c.index, _ENTRY.c.leaf).where(_ENTRY.c.index >= start).order_by(_ENTRY.c.index)
    ).all()
    if [row.index for row in rows] != list(range(start, end)):
        raise Broken("evidence.log-forked", path=EntryRow.__tablename__)
    return [row.leaf for row in rows]


def _write(log: Log, base: Checkpoint, leaves: list[bytes]) -> Checkpoint:
    """Write the tiles that `leaves` add to the log at `base`; returns the checkpoint that covers them, unsigned."""
    edge = Edge.load(base.size, log.folder.load)
    if edge.root != base.root:
        raise Broken("evidence.log-damaged", path=CHECKPOINT)
    edge, files = edge.append(leaves)
    log.folder.write(_announced(files))
    flows.boundary("evidence written")
    checkpoint = Checkpoint(log.origin, edge.size, edge.root)
    # Read back from the disk: what is signed is what is there, and it continues what was signed before.
    hashes = consistency_proof(base.size, edge.size, TileReader(edge.size, log.folder.load))
    verify_consistency(old_size=base.size, new_size=edge.size, old_root=base.root, new_root=edge.root, proof=hashes)
    return checkpoint


def _announced(files: Iterable[tuple[Tile, bytes]]) -> Iterator[tuple[Tile, bytes]]:
    for file in files:
        flows.boundary("evidence writing a tile")
        yield file


def _keep(session: Session, run: Run, base: int, size: int, note: str) -> None:
    """Keep the new checkpoint, and the one before it; of the older ones, the last in each bundle of entries.

    A checkpoint takes more room than many entries. One that is no longer kept is as true as before: whoever has it can
    ask for its consistency with a newer one.
    """
    run.fence(session)
    kept = CheckpointRow.size
    if (session.scalar(select(func.max(kept))) or 0) != base:
        raise Broken("evidence.log-forked", path=CheckpointRow.__tablename__)
    session.execute(delete(CheckpointRow).where(kept >= base - base % TILE_WIDTH, kept < base))
    session.add(CheckpointRow(size=size, note=note))


FLOWS = (Flow(SEQUENCE, sequence),)
