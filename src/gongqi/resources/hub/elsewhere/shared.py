"""One fetch of a file, read by everybody who asked for it while it comes.

The first reader does not wait for the whole file, and the second does not make it travel again. What comes is checked
when all of it is here, so the last byte is held back until then: nobody ever gets a whole file that is not what was
announced, and a reader of one that was not sees a cut line. A cut of the upstream's line is gone on with by Range.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import structlog

from gongqi.kernel.blobs import CHUNK_BYTES, Stored
from gongqi.kernel.errors import GongqiError, Unavailable
from gongqi.kernel.room import Kernel
from gongqi.resources.hub.elsewhere.outside import Outside, check, unreachable
from gongqi.resources.hub.elsewhere.upstream import holds, rest_of
from gongqi.resources.hub.inspection import Inspected, inspect_file

MAX_FETCHES = 16  # files on their way in one process
TRIES = 5
PAUSE_SECONDS = 0.5  # after the first cut; doubled after each
WAIT_SECONDS = 120.0  # that a reader waits for the next byte: several tries, and an inspection

log = structlog.get_logger("gongqi.mirror")


@dataclass(slots=True)
class Fetch:
    """One file on its way. `claim` is `sha256:…` or `git:…`; `keep` is told when all of it is here and holds."""

    kernel: Kernel
    outside: Outside
    place: str
    name: str
    size: int
    claim: str
    keep: Callable[[str, Inspected], None]
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _upload: Any = None  # while it comes in
    _released: int = 0
    _error: GongqiError | None = None
    _stored: str | None = None  # its digest, once it is in the store
    _is_over: bool = False

    def run(self) -> None:
        try:
            with self.kernel.blobs.upload() as upload:
                self._say(upload=upload)
                try:
                    stored, seen = self._take(upload)
                finally:
                    self._say(upload=None)  # from here on its path is about to go
                upload.finish(sha256=stored.sha256)
                self.keep(stored.sha256, seen)
            self._say(released=self.size, stored=stored.sha256)
        except GongqiError as error:
            log.warning("mirror fetch failed", place=self.place, code=error.code, detail=error.detail)
            self._say(error=error)
        finally:
            self._say(is_over=True)

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) as they come. Raises Unavailable hub.source-unreachable when they do not."""
        with self._open() as file:
            file.seek(start)
            while start < end:
                with self._changed:
                    came = self._changed.wait_for(lambda at=start: self._released > at or self._is_over, WAIT_SECONDS)
                    until = min(self._released, end)
                if not came or until <= start:
                    raise unreachable(detail=str(self._error))
                while start < until:
                    chunk = file.read(min(CHUNK_BYTES, until - start))
                    start += len(chunk)
                    yield chunk

    def _open(self) -> BinaryIO:
        """What has come in, for one reader; when all of it has, it is in the store."""
        with self._changed:
            self._changed.wait_for(lambda: self._upload or self._is_over, WAIT_SECONDS)
            if self._upload:
                return self._upload.open()
            if self._stored is None:
                raise self._error or unreachable()
        return self.kernel.blobs.open(self._stored)

    def _take(self, upload: Any) -> tuple[Stored, Inspected]:
        """Have all of it, as it was announced, and look at it."""
        self._stream(upload)
        stored = upload.check(size=self.size)
        with upload.open() as content:
            if not holds(self.claim, content, size=stored.size, sha256=stored.sha256):
                raise unreachable(detail=f"{self.place} is not {self.claim}")
        with upload.open() as content:
            return stored, inspect_file(content, self.name)

    def _stream(self, upload: Any) -> None:
        for number in range(TRIES):
            headers = {"range": f"bytes={upload.size}-"} if upload.size else {}
            try:
                with self.outside.ask(self.place, headers=headers) as answer:
                    check(answer)
                    for chunk in rest_of(answer, start=upload.size, size=self.size):
                        upload.feed(chunk)
                        self._say(released=min(upload.size, self.size - 1))
                if upload.size == self.size:
                    return
            except Unavailable:
                if number == TRIES - 1:
                    raise
            time.sleep(PAUSE_SECONDS * 2**number)
        raise unreachable(detail=f"{upload.size} of {self.size} bytes of {self.place}")

    def _say(self, **changes: Any) -> None:
        with self._changed:
            for name, value in changes.items():
                setattr(self, f"_{name}", value)
            self._changed.notify_all()


class Fetches:
    """What is on its way in this process, by place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Fetch] = {}

    def join(self, fetch: Fetch) -> Fetch:
        """The fetch of this place that is under way, or this one, begun. Raises Unavailable hub.mirror-busy."""
        with self._lock:
            if there := self._under_way.get(fetch.place):
                return there
            if len(self._under_way) >= MAX_FETCHES:
                raise Unavailable("hub.mirror-busy", retry_after_seconds=5, limit=MAX_FETCHES)
            self._under_way[fetch.place] = fetch
        threading.Thread(target=self._run, args=(fetch,), name="mirror", daemon=True).start()
        return fetch

    def _run(self, fetch: Fetch) -> None:
        try:
            fetch.run()
        finally:
            with self._lock:
                del self._under_way[fetch.place]
