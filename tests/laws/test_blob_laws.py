"""What must always hold of the blob stores, whoever does what at the same time."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import accumulate, count, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.blobs.address import open_blobs
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.blobs.garbage import GRACE_SECONDS, collect

contents = st.binary(max_size=5000)


@given(contents, st.lists(st.integers(1, 900), max_size=20), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_bytes_fed_in_any_pieces_through_any_cuts_are_the_bytes(content, pieces, dice):
    with tempfile.TemporaryDirectory() as folder:
        blobs = FolderBlobs(Path(folder))
        upload = blobs.upload()
        while upload.size < len(content):
            sizes = dice.choices(pieces or [1000], k=dice.randrange(1, 4))
            ends = [upload.size, *(upload.size + end for end in accumulate(sizes))]
            upload.feed(*(content[start:end] for start, end in pairwise(ends)))
            if dice.random() < 0.3:
                upload = blobs.upload(resume=upload.pause())
        stored = upload.finish(sha256=sha256(content).hexdigest(), size=len(content))
        assert b"".join(blobs.chunks(stored.sha256)) == content


@given(contents, st.integers(0, 6000), st.one_of(st.none(), st.integers(0, 6000)))
@settings(max_examples=60, deadline=None)
def test_a_range_is_a_slice(content, start, end):
    with tempfile.TemporaryDirectory() as folder:
        blobs = FolderBlobs(Path(folder))
        digest = blobs.put(content).sha256
        assert b"".join(blobs.chunks(digest, start=start, end=end)) == content[start:end]


@given(
    st.lists(st.tuples(contents, st.booleans(), st.booleans(), st.booleans()), max_size=12, unique_by=lambda t: t[0])
)
@settings(max_examples=40, deadline=None)
def test_a_sweep_takes_what_is_old_condemned_and_unreached_and_nothing_else(blobs_made):
    with tempfile.TemporaryDirectory() as folder:
        blobs = FolderBlobs(Path(folder))
        long_ago = time.time() - 9 * GRACE_SECONDS
        stay, reached = set(), []
        for content, is_old, is_condemned, is_reached in blobs_made:
            digest = blobs.put(content).sha256
            if is_condemned:
                blobs.condemn(digest)
                os.utime(blobs.root / "condemned" / digest, (long_ago, long_ago))
            if is_old:
                os.utime(blobs.path(digest), (long_ago, long_ago))
            if is_reached:
                reached.append(digest)
            if not (is_old and is_condemned and not is_reached):
                stay.add(digest)
        collect(blobs, lambda: sorted(reached))
        assert {held.sha256 for held in blobs.listing()} == stay


class Town:
    """Uploaders who put blobs and write some of them down, and a sweeper who never rests.

    `written` is the database: a digest in it is in use, since the number beside it; some are taken out again. Whoever
    has been held up for longer than the grace since the put puts it anew, as whoever uses a store must.
    """

    def __init__(self, blobs: Blobs, grace_seconds: float) -> None:
        self.blobs = blobs
        self.grace_seconds = grace_seconds
        self.written: dict[str, int] = {}
        self.numbers = count()
        self.lock = threading.Lock()
        self.removed = 0
        self.lost: list[str] = []

    def upload(self, dice: random.Random, until: float) -> None:
        while time.monotonic() < until:
            content = b"%d" % dice.randrange(8)
            began = time.time()
            digest = self.blobs.put(content).sha256
            time.sleep(dice.random() * self.grace_seconds * 0.8)
            with self.lock:
                if time.time() - began < self.grace_seconds and dice.random() < 0.5:
                    self.written.setdefault(digest, next(self.numbers))
            self.look()
            if dice.random() < 0.7:
                with self.lock:
                    self.written.pop(digest, None)
            time.sleep(dice.random() * self.grace_seconds * 2)

    def look(self) -> None:
        """What is written down from before the look until after it must be there."""
        with self.lock:
            before = dict(self.written)
        lost = {digest: since for digest, since in before.items() if not self.blobs.has(digest)}
        with self.lock:
            self.lost += [digest for digest, since in lost.items() if self.written.get(digest) == since]

    def mark(self) -> list[str]:
        with self.lock:
            return sorted(self.written)

    def sweep(self, until: float) -> None:
        while time.monotonic() < until:
            self.removed += collect(self.blobs, self.mark, grace_seconds=self.grace_seconds).removed


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("store", "grace_seconds", "seconds"), [("folder", 0.1, 6), pytest.param("s3", 1.5, 20, marks=pytest.mark.slow)]
)
def test_no_sweep_ever_takes_what_is_in_use(store, grace_seconds, seconds, tmp_path, request):
    address = "" if store == "folder" else request.getfixturevalue("s3_address")
    town = Town(open_blobs(address, tmp_path), grace_seconds)
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(8) as threads:
        people = [threads.submit(town.upload, random.Random(number), until) for number in range(6)]
        people += [threads.submit(town.sweep, until) for _ in range(2)]
        for each in people:
            each.result()
    town.look()
    assert town.lost == []
    assert town.removed > 5, "hardly anything was swept: nothing was tried"
