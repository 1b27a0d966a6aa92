"""A blob appears whole or not at all, under the digest of its bytes, and never changes."""

from __future__ import annotations

import errno
import hashlib
import os
import time

import pytest

from gongqi.kernel.blobs import folder as folder_module
from gongqi.kernel.blobs.folder import STALE_SECONDS, FolderBlobs
from gongqi.kernel.errors import Broken, Refused, Unavailable

BYTES = b"public good"
DIGEST = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def blobs(tmp_path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def leftovers(blobs: FolderBlobs) -> list:
    return list(blobs.incoming.iterdir())


def test_what_goes_in_comes_out_under_its_digest(blobs):
    assert blobs.put([BYTES[:4], BYTES[4:]]).sha256 == DIGEST
    assert blobs.has(DIGEST)
    assert blobs.size(DIGEST) == len(BYTES)
    assert blobs.read(DIGEST, limit_bytes=100) == b"".join(blobs.chunks(DIGEST)) == BYTES
    assert blobs.check(DIGEST)
    assert leftovers(blobs) == []


def test_the_same_bytes_twice_are_one_blob(blobs):
    assert blobs.put(BYTES) == blobs.put(BYTES, sha256=DIGEST)
    assert sum(1 for path in blobs.root.rglob("*") if path.is_file()) == 1


def test_a_blob_is_read_only_on_disk(blobs):
    blobs.put(BYTES)
    assert blobs.path(DIGEST).stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize(
    ("declared", "code"),
    [({"sha256": "0" * 64}, "kernel.digest-mismatch"), ({"size": 5}, "kernel.blob-truncated")],
)
def test_bytes_that_are_not_the_declared_ones_are_refused_and_gone(blobs, declared, code):
    upload = blobs.upload()
    upload.feed(BYTES)
    with pytest.raises(Refused) as caught:
        upload.finish(**declared)
    assert caught.value.code == code
    assert not blobs.has(DIGEST)
    assert leftovers(blobs) == []


def test_a_sender_that_breaks_off_leaves_nothing(blobs):
    def broken():
        yield BYTES
        raise ConnectionError

    with pytest.raises(ConnectionError):
        blobs.put(broken())
    assert leftovers(blobs) == []


@pytest.mark.parametrize("name", ["", "../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_name_that_is_no_digest_is_refused(blobs, name):
    with pytest.raises(Refused) as caught:
        blobs.path(name)
    assert caught.value.code == "kernel.digest-invalid"


def test_a_blob_that_ought_to_be_there_and_is_not_is_our_bug(blobs):
    with pytest.raises(Broken) as caught:
        blobs.open(DIGEST)
    assert caught.value.code == "kernel.blob-missing"


def test_too_many_bytes_are_refused_going_in_and_coming_out(blobs, monkeypatch):
    blobs.put(BYTES)
    with pytest.raises(Refused, match="too-large"):
        blobs.read(DIGEST, limit_bytes=3)
    monkeypatch.setattr(folder_module, "MAX_BLOB_BYTES", 3)
    with pytest.raises(Refused, match="too-large"):
        blobs.put(b"four")
    assert leftovers(blobs) == []


def test_a_changed_byte_is_found(blobs):
    blobs.put(BYTES)
    path = blobs.path(DIGEST)
    path.chmod(0o600)
    path.write_bytes(b"Public good")
    assert not blobs.check(DIGEST)


def test_a_full_disk_is_said_as_such_and_leaves_nothing(blobs, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable) as caught:
        blobs.put(BYTES)
    assert caught.value.code == "kernel.disk-full"
    assert not blobs.has(DIGEST)
    assert leftovers(blobs) == []


def test_every_folder_on_the_way_to_a_new_blob_is_flushed(blobs, monkeypatch):
    flushed = []
    monkeypatch.setattr(folder_module, "_flush_folder", flushed.append)
    blobs.put(BYTES)
    target = blobs.path(DIGEST)
    assert set(flushed) == {target.parent, target.parent.parent, blobs.root}
    flushed.clear()
    blobs.put(BYTES)
    assert flushed == [target.parent]


def test_the_sweep_takes_dead_uploads_and_spares_living_ones(blobs):
    dead, alive = blobs.upload(), blobs.upload()
    long_ago = time.time() - STALE_SECONDS - 1
    os.utime(dead._path, (long_ago, long_ago))
    assert blobs.sweep() == 1
    alive.feed(BYTES)
    assert alive.finish().sha256 == DIGEST
    dead.abandon()
