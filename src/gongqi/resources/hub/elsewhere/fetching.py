"""The flow that brings an import in: list, fetch file by file, commit once.

All it knows is in the import's rows, so it forgets its steps at every turn and begins anew where the rows say; a turn
ends after some seconds, to let others have the worker, and one import at a time is fetched in a process, so that at most
one worker waits for a line. The token of a file's upload is noted before its first byte, so that after a cut, a kill or
a turn the rest is asked for by Range. What is of the moment is tried again, later and later or when the other says; what
is not, ends the import with its reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from gongqi.kernel.blobs import CHUNK_BYTES
from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.kernel.flows import BACKOFF_SECONDS, Again, Flow, Run
from gongqi.kernel.verbs import Write
from gongqi.resources.hub.assets import asset_out, receive_blob
from gongqi.resources.hub.elsewhere import imports, upstream
from gongqi.resources.hub.elsewhere.outside import Outside, check, unreachable
from gongqi.resources.hub.elsewhere.sources import way_to
from gongqi.resources.hub.foreign import Import, ImportedFile, Source
from gongqi.resources.hub.inspection import inspect_blob, inspect_file

if TYPE_CHECKING:
    from gongqi.kernel.blobs.incoming import Upload

TURN_SECONDS = 20.0
BUSY_SECONDS = 0.5  # before looking again whether another import has had its turn
MAX_TRIES = 20  # without any progress: more than an hour
WATCH_SECONDS = 2.0  # how soon a cancellation, or another worker's taking over, is noticed


class Turn:
    """Whose it is to fetch, in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class _Over(Exception):
    """The turn is over, or the import is: what has come in is kept."""


def bring(run: Run, import_id: str) -> Again | None:
    kernel = run.kernel
    turn = kernel.parts.setdefault(Turn, Turn()).lock
    if not turn.acquire(blocking=False):
        return Again(BUSY_SECONDS)
    try:
        return _advance(run, import_id)
    except Refused as refused:
        _fail(run, import_id, refused)
        return None
    except Unavailable as unavailable:
        tries = kernel.transact(lambda ctx: imports.try_later(ctx, import_id), reason=run.id)
        if tries >= MAX_TRIES:
            _fail(run, import_id, unavailable)
            return None
        return Again(max(BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS)) - 1], unavailable.retry_after_seconds))
    finally:
        turn.release()


def _fail(run: Run, import_id: str, error: GongqiError) -> None:
    def transaction(ctx: Write) -> None:
        run.fence(ctx.session)
        imports.fail(ctx, import_id, error)

    run.kernel.transact(transaction, reason=run.id)


def _advance(run: Run, import_id: str) -> Again | None:
    kernel = run.kernel
    row, source, kind = kernel.look(
        lambda ctx: (
            row := ctx.session.get_one(Import, import_id), ctx.session.get_one(Source, row.source),
            asset_out(ctx, row.asset).kind,
        )
    )  # fmt: skip
    if row.state not in imports.OPEN:
        return None
    if source.state != "open":
        raise Refused("hub.source-retired", name=source.name)
    outside = way_to(kernel, source)
    if row.state == "listing":
        there = upstream.look_up(outside, kind, row.repo, row.at)
        files = upstream.listing(outside, kind, row.repo, there.commit)
        run.write("plan", lambda ctx: imports.plan(ctx, import_id, there, files))
        return Again(0)
    job = Job(run, row, kind, outside)
    while (file := kernel.look(lambda ctx: imports.pending(ctx, import_id))) is not None:
        try:
            job.take(file)
        except _Over:
            return Again(0)
    run.write("commit", lambda ctx: imports.conclude(ctx, import_id))
    return None


class Job:
    """One turn at one import."""

    def __init__(self, run: Run, row: Import, kind: str, outside: Outside) -> None:
        self.run, self.kernel, self.row, self.kind, self.outside = run, run.kernel, row, kind, outside
        self._until = time.monotonic() + TURN_SECONDS
        self._watched = time.monotonic()
        self._came = 0

    def take(self, file: ImportedFile) -> None:
        """Have one file here, and note it."""
        self.watch(at_once=True)
        digest = self.kernel.look(lambda ctx: imports.known(ctx, self.row, file))
        if digest is None:
            digest = self._fetch(file)
        elif not self.kernel.look(lambda ctx: imports.is_inspected(ctx, digest, PurePosixPath(file.path).name)):
            seen = inspect_blob(self.kernel.blobs, digest, file.path)
            self._note(lambda ctx: receive_blob(ctx, org=self.row.org, sha256=digest, inspected=seen))
        self._note(lambda ctx: imports.arrived(ctx, self.row.id, file.number, digest))

    def watch(self, *, at_once: bool = False) -> None:
        """Say how much has come. Raises _Over when the turn is, or when the import was cancelled; Fenced when another
        has it."""
        now = time.monotonic()
        if now > self._until:
            raise _Over
        if at_once or now - self._watched > WATCH_SECONDS:
            self._watched = now
            if not self._tell():
                raise _Over

    def _tell(self) -> bool:
        came, self._came = self._came, 0
        return self._note(lambda ctx: imports.came(ctx, self.row.id, came))

    def _note(self, work: Callable[[Write], Any]) -> Any:
        def transaction(ctx: Write) -> Any:
            self.run.fence(ctx.session)
            return work(ctx)

        return self.kernel.transact(transaction, reason=self.run.id)

    def _fetch(self, file: ImportedFile) -> str:
        """The bytes into the store; their digest."""
        self.kernel.look(lambda ctx: imports.check_room(ctx, self.row, file.size))
        upload = self._upload(file)
        try:
            self._stream(file, upload)
        except Refused:
            upload.abandon()
            raise
        except BaseException:  # a cut, the end of the turn, another worker: what has come in is gone on with
            upload.pause()
            raise
        with upload:
            stored = upload.check(size=file.size)
            with upload.open() as content:
                if not upstream.holds(file.claim, content, size=stored.size, sha256=stored.sha256):
                    raise Refused("hub.source-digest-differs", path=file.path, want=file.claim)
            with upload.open() as content:
                seen = inspect_file(content, file.path)
            upload.finish(sha256=stored.sha256)
        self._note(lambda ctx: receive_blob(ctx, org=self.row.org, sha256=stored.sha256, inspected=seen))
        return stored.sha256

    def _upload(self, file: ImportedFile) -> Upload:
        """What has come in of it before, or a new one whose token is noted."""
        if file.upload:
            try:
                upload = self.kernel.blobs.upload(resume=file.upload)
                if upload.size <= file.size:
                    return upload
                upload.abandon()
            except Refused:
                pass  # swept, or finished and not noted: begin anew
        upload = self.kernel.blobs.upload()

        def note(ctx: Write) -> None:
            ctx.session.get_one(ImportedFile, (file.import_id, file.number)).upload = upload.token

        self._note(note)
        return upload

    def _stream(self, file: ImportedFile, upload: Upload) -> None:
        if upload.size == file.size:
            return
        assert self.row.commit is not None
        headers = {"range": f"bytes={upload.size}-"} if upload.size else {}
        with self.outside.ask(
            upstream.place_of(self.kind, self.row.repo, self.row.commit, file.path), headers=headers
        ) as answer:
            check(answer)
            held = bytearray()
            try:
                for chunk in upstream.rest_of(answer, start=upload.size, size=file.size):
                    held += chunk
                    self._came += len(chunk)
                    if len(held) >= CHUNK_BYTES:
                        upload.feed(bytes(held))
                        held.clear()
                        self.watch()
            finally:
                upload.feed(bytes(held))
                self._tell()
        if upload.size < file.size:
            raise unreachable(detail=f"{upload.size} of {file.size} bytes of {file.path}")


FLOW = Flow(imports.FLOW, bring)
