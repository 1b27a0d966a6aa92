"""Porters who carry bytes into a store and out of it, and are made to be killed.

`porters.py lines FOLDER` forks a child for every line of the store's own code that one round of work runs through, kills
it at that line, and looks at what is left. `porters.py carry FOLDER` and `porters.py sweep FOLDER` work without end:
the files of `written`, beside the store, are the database; whoever has one may expect the blob.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import gongqi.kernel.blobs
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.blobs.garbage import GRACE_SECONDS, collect

CODE = str(Path(gongqi.kernel.blobs.__file__).parent)
GRACE_BETWEEN_SECONDS = 0.1
PIECES = [bytes([number]) * 3000 for number in range(4)]
WHOLE = b"".join(PIECES)
DIGEST = hashlib.sha256(WHOLE).hexdigest()
KEPT = b"in use all the time"
OLD = b"in use no more"


def one_round(blobs: FolderBlobs, told: Path) -> None:
    """An upload with a pause, the same bytes again, and the sweep of a blob that nothing has reached for long."""
    upload = blobs.upload()
    for piece in PIECES[:2]:
        upload.feed(piece)
    token = upload.pause()
    told.write_text(token)
    upload = blobs.upload(resume=token)
    for piece in PIECES[2:]:
        upload.feed(piece)
    upload.finish(sha256=DIGEST, size=len(WHOLE))
    told.write_text("finished")
    blobs.put(WHOLE)
    kept = hashlib.sha256(KEPT).hexdigest()
    collect(blobs, lambda: sorted((kept, DIGEST)))
    blobs.put(OLD)


def look_after_it(blobs: FolderBlobs, told: Path) -> None:
    """What is left by a dead porter is nothing, or whole, or can be gone on with."""
    for held in blobs.listing():
        assert blobs.check(held.sha256), "half a blob can be seen"
    assert blobs.has(hashlib.sha256(KEPT).hexdigest()), "a blob in use has gone"
    token = told.read_text() if told.exists() else ""
    if token == "finished":
        assert blobs.has(DIGEST), "an acknowledged blob has gone"
    elif token and not blobs.has(DIGEST):
        upload = blobs.upload(resume=token)
        assert upload.size >= sum(map(len, PIECES[:2])), "bytes that had come in have gone"
        for number in range(upload.size // len(PIECES[0]), len(PIECES)):
            upload.feed(PIECES[number])
        upload.finish(sha256=DIGEST)
    blobs.put(WHOLE)
    assert blobs.check(DIGEST)


def lines(folder: Path) -> int:
    """How many lines were died at."""
    for number in itertools.count(1):
        home = folder / str(number)
        blobs, told = FolderBlobs(home), home / "told"
        long_ago = time.time() - 9 * GRACE_SECONDS
        for content in (KEPT, OLD):
            digest = blobs.put(content).sha256
            blobs.condemn(digest)
            for path in (blobs.path(digest), home / "condemned" / digest):
                os.utime(path, (long_ago, long_ago))
        child = os.fork()
        if not child:
            sys.settrace(dying_at(number))
            one_round(blobs, told)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL)
        look_after_it(blobs, told)
        if status == 0:
            return number
    raise AssertionError("itertools.count ends")


def dying_at(number: int) -> Callable[..., Any]:
    passed = itertools.count(1)

    def trace(frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line" and next(passed) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def carry(folder: Path) -> None:
    blobs, written, dice = FolderBlobs(folder / "blobs"), folder / "written", random.Random(os.getpid())
    while True:
        content = b"%d" % dice.randrange(12) * 20_000
        began = time.time()
        with blobs.upload() as upload:
            upload.feed(content[:10_000])
            upload.feed(content[10_000:])
            digest = upload.finish().sha256
        with database(folder):
            if time.time() - began < GRACE_BETWEEN_SECONDS:
                (written / digest).touch()
        time.sleep(dice.random() * GRACE_BETWEEN_SECONDS)
        if dice.random() < 0.7:
            with database(folder):
                (written / digest).unlink(missing_ok=True)
        time.sleep(dice.random() * GRACE_BETWEEN_SECONDS)


def sweep(folder: Path) -> None:
    blobs = FolderBlobs(folder / "blobs")

    def mark() -> list[str]:
        with database(folder):
            return sorted(os.listdir(folder / "written"))

    while True:
        if collect(blobs, mark, grace_seconds=GRACE_BETWEEN_SECONDS).removed:
            (folder / "removed").touch()


@contextmanager
def database(folder: Path) -> Iterator[None]:
    with open(folder / "lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    act = {"lines": lines, "carry": carry, "sweep": sweep}[sys.argv[1]]
    sys.stdout.write(f"{act(Path(sys.argv[2]))}\n")
