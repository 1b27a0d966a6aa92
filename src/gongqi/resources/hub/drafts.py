"""A file that is made while it still comes in: a guess at what the shard will say, so that little is left to do then.

The shard, which says what a file is made of, comes last; to make a file only then takes as long again as to bring it.
But a client that announces one large file packs it from front to back and sends its xorbs in that order. So those that
are here are written one after another, by a thread, while others travel; and when the shard says that the file begins
with just these, only the rest is made.

A draft is a guess, and only that
- Its chunks are hashed on their way as those of any file are, and its digest is that of what was written. Nobody can
  read it, and it becomes a blob only as the file of a shard whose every claim was checked.
- Where it was wrong it is cut back to the last xorb that was right, or dropped. What goes wrong with it (a full disk, a
  damaged xorb) fails no request: no more is written, and the rest of the file is made when the shard comes.
- It is never longer than the file that was announced, for which there was room then.
- It is of one process and one actor. A process that is killed leaves it to `Incoming.sweep`, as any upload that died.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import structlog

from gongqi.kernel.blobs import MAX_BLOB_BYTES, Blobs
from gongqi.kernel.blobs.incoming import Mark, Upload
from gongqi.kernel.errors import GongqiError
from gongqi.kernel.room import Kernel
from gongqi.resources.hub.known import Known
from gongqi.resources.hub.xet.ahead import in_parts
from gongqi.resources.hub.xet.rebuild import Xorbs, whole
from gongqi.resources.hub.xet.shards import SHARD_XORB_LIMIT, File
from gongqi.resources.hub.xet.xorbs import XORB_LIMIT_BYTES

LEAST_BYTES = XORB_LIMIT_BYTES  # the shard of a file of one xorb comes at once: there is nothing to gain
MAX_DRAFTS = 16  # in one process, each an open file; those beyond are made when their shards come
THREADS = 2
IDLE_SECONDS = 900.0  # without a xorb, after which the client is taken to have left
LOOK_SECONDS = 60.0  # between two looks for such

log = structlog.get_logger("gongqi.hub")


class Draft:
    """One file, as far as it is guessed. Whoever hears of xorbs names them; bytes are written under the lock."""

    def __init__(self, xorbs: Xorbs, blobs: Blobs, size: int) -> None:
        self._xorbs, self._blobs, self._size = xorbs, blobs, size
        self._names: list[bytes] = []  # in the order in which they began to come
        self._seen: set[bytes] = set()
        self._here: set[bytes] = set()
        self._lock = threading.Lock()
        self._upload: Upload | None = None
        self._marks: list[Mark] = []  # one after each xorb that was written
        self._is_over = False  # no more is written; what was may still be used
        self.heard_at = time.monotonic()

    def expect(self, xorb: bytes) -> None:
        """A xorb begins to come in; one that comes again keeps its place."""
        self.heard_at = time.monotonic()
        if xorb not in self._seen and len(self._names) < SHARD_XORB_LIMIT:
            self._seen.add(xorb)
            self._names.append(xorb)

    def arrived(self, xorb: bytes) -> None:
        """It is held, or known."""
        self.heard_at = time.monotonic()
        self._here.add(xorb)

    def advance(self) -> bool:
        """Write the next xorb; False when it is not here, or none is wanted."""
        with self._lock:
            written = len(self._marks)
            if self._is_over or written == len(self._names) or self._names[written] not in self._here:
                return False
            self._is_over = True  # whatever goes wrong, nothing may follow half a xorb
            with suppress(GongqiError):
                self._is_over = not self._write(self._names[written])
            return not self._is_over

    def _write(self, xorb: bytes) -> bool:
        chunks = self._xorbs.chunks(xorb)
        written = self._marks[-1].size if self._marks else 0
        if chunks is None or written + chunks.raw_bytes(0, len(chunks)) > self._size:
            return False
        self._upload = self._upload or self._blobs.upload()
        for part in in_parts(whole(xorb, self._xorbs)):
            self._upload.feed(*part)
        self._marks.append(self._upload.mark())
        return True

    def begun(self, file: File) -> tuple[Upload, int] | None:
        """An upload that has the beginning of `file`, and how many of its terms that is; None when there is none. Who
        gets it owns it, and the draft is over."""
        with self._lock:
            xorbs, terms = self._shared(file)
            if self._upload is None or not xorbs:
                return None
            upload, self._upload, self._is_over = self._upload, None, True
        try:
            upload.rewind(self._marks[xorbs - 1])
        except GongqiError:
            with upload:
                return None
        return upload, terms

    def _shared(self, file: File) -> tuple[int, int]:
        """How many of the written xorbs the file begins with, each whole, and how many of its terms they are."""
        xorbs = terms = reached = 0
        for count, term in enumerate(file.terms(), 1):
            if xorbs == len(self._marks) or (term.xorb, term.start) != (self._names[xorbs], reached):
                break
            reached = term.end
            chunks = self._xorbs.chunks(term.xorb)
            if chunks is not None and reached == len(chunks):
                xorbs, terms, reached = xorbs + 1, count, 0
        return xorbs, terms

    def end(self) -> None:
        with self._lock:
            self._is_over = True
            upload, self._upload = self._upload, None
        if upload is not None:
            with suppress(GongqiError):  # a disk that cannot remove it now; it is swept later
                upload.abandon()


class Drafts:
    """Those of one process, by space and actor."""

    def __init__(self, kernel: Kernel, *, least_bytes: int = LEAST_BYTES) -> None:
        self._kernel = kernel
        self._least_bytes = least_bytes
        self._drafts: dict[tuple[str, str], Draft] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="drafts")
        weakref.finalize(self, _end_all, self._drafts)  # at the latest when the process ends

    def announced(self, space: str, actor: str, sizes: Sequence[int], *, room_bytes: int) -> None:
        """`actor` is about to bring large files of these lengths to `space`. One alone is drafted: several come mixed."""
        if not sizes:
            return
        is_worth_it = len(sizes) == 1 and self._least_bytes < sizes[0] <= min(room_bytes, MAX_BLOB_BYTES)
        with self._lock:
            before = self._drafts.pop((space, actor), None)
            if is_worth_it and len(self._drafts) < MAX_DRAFTS:
                self._drafts[space, actor] = Draft(Known(self._kernel, space), self._kernel.blobs, sizes[0])
        if before is not None:
            before.end()

    def expect(self, space: str, actor: str, xorb: bytes) -> None:
        if draft := self._drafts.get((space, actor)):
            draft.expect(xorb)

    def arrived(self, space: str, actor: str, xorb: bytes) -> None:
        if draft := self._drafts.get((space, actor)):
            draft.arrived(xorb)
            self._go_on(draft)

    @contextmanager
    def taken(self, space: str, actor: str) -> Iterator[Draft | None]:
        """The draft, for who makes files of what has come; then it is gone."""
        with self._lock:
            draft = self._drafts.pop((space, actor), None)
        try:
            yield draft
        finally:
            if draft is not None:
                draft.end()

    def drop_idle(self) -> None:
        with self._lock:
            left_before = time.monotonic() - IDLE_SECONDS
            idle = {key: draft for key, draft in self._drafts.items() if draft.heard_at < left_before}
            for key in idle:
                del self._drafts[key]
        for draft in idle.values():
            draft.end()

    def _go_on(self, draft: Draft) -> None:
        """One xorb, and then the next after those of other drafts that wait."""

        def written(work: Future[bool]) -> None:
            if error := work.exception():
                log.warning("a draft ended", error=repr(error), exc_info=error)
            elif work.result():
                self._go_on(draft)

        self._threads.submit(draft.advance).add_done_callback(written)


def drafts_of(kernel: Kernel) -> Drafts:
    return kernel.parts.get(Drafts) or kernel.parts.setdefault(Drafts, Drafts(kernel))


def drop_idle(kernel: Kernel) -> None:
    """End the drafts of clients that have left."""
    drafts: Drafts | None = kernel.parts.get(Drafts)
    if drafts is not None:
        drafts.drop_idle()


def _end_all(drafts: dict[tuple[str, str], Draft]) -> None:
    for draft in drafts.values():
        draft.end()
