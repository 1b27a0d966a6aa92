"""What only a folder does: its files, its disk, its uploads that die."""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gongqi.kernel.blobs import folder as folder_module
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.blobs.garbage import GRACE_SECONDS, collect
from gongqi.kernel.blobs.incoming import STALE_SECONDS
from gongqi.kernel.errors import Refused, Unavailable

BYTES = b"public good"
DIGEST = hashlib.sha256(BYTES).hexdigest()
NOBODY = 65534


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def leftovers(blobs: FolderBlobs) -> list[Path]:
    return list(blobs.incoming.folder.iterdir())


def test_a_blob_is_one_read_only_file(blobs):
    blobs.put(BYTES)
    blobs.put(BYTES)
    found = [path for path in blobs.root.glob("??/??/*") if path.is_file()]
    assert found == [blobs.on_disk(DIGEST)] == [blobs.path(DIGEST)]
    assert found[0].stat().st_mode & 0o777 == 0o400


def test_a_file_that_is_no_blob_is_neither_listed_nor_swept(blobs):
    blobs.put(BYTES)
    others = [
        blobs.path(DIGEST).with_name("notes.txt"),
        blobs.root / DIGEST[:2] / "notes.txt",
        blobs.root / "notes.txt",
    ]
    for each in others:
        each.write_bytes(b"")
    assert [held.sha256 for held in blobs.listing()] == [DIGEST]
    for _ in range(2):
        collect(blobs, list, now=lambda: time.time() + GRACE_SECONDS + 60)
    assert list(blobs.listing()) == []
    assert all(each.exists() for each in others)


def test_a_blob_put_again_while_it_is_being_swept_stays(blobs):
    long_ago = time.time() - 9 * GRACE_SECONDS
    blobs.put(BYTES)
    blobs.condemn(DIGEST)
    for path in (blobs.path(DIGEST), blobs.root / "condemned" / DIGEST):
        os.utime(path, (long_ago, long_ago))

    def mark() -> Iterator[str]:
        yield "0" * 64
        blobs.put(BYTES)  # the sweep has listed the blob, old as it was, and now asks the mark for it

    assert collect(blobs, mark).removed == 0
    assert blobs.check(DIGEST)


def test_a_changed_byte_is_found(blobs):
    blobs.put(BYTES)
    path = blobs.path(DIGEST)
    path.chmod(0o600)
    path.write_bytes(b"Public good")
    assert not blobs.check(DIGEST)


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
    dead, slow, fresh = blobs.upload(), blobs.upload(), blobs.upload()
    long_ago = time.time() - STALE_SECONDS - 1
    for each in (dead, slow):
        os.utime(blobs.incoming.folder / each.token, (long_ago, long_ago))
    dead.pause()
    fresh.pause()
    assert blobs.incoming.sweep() == 1
    assert {path.name for path in leftovers(blobs)} == {slow.token, fresh.token}
    slow.feed(BYTES)
    assert slow.finish().sha256 == DIGEST


def test_nobody_writes_on_into_a_file_that_has_become_a_blob(blobs, monkeypatch):
    """Between the opening of a file to go on with and its lock, its first sender may finish."""
    upload = blobs.upload()
    upload.feed(BYTES)
    locked = folder_module.fcntl.flock

    def finish_first(file: object, how: int) -> None:
        monkeypatch.undo()
        upload.finish()
        locked(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr("gongqi.kernel.blobs.incoming.fcntl.flock", finish_first)
    with pytest.raises(Refused, match="upload-unknown"):
        blobs.upload(resume=upload.token)
    assert blobs.check(DIGEST)


# ---- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    point = tmp_path / "small"
    point.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", point], capture_output=True).returncode:
        pytest.skip("mounting needs a privilege that this machine does not give")
    yield point
    subprocess.run(["umount", point], check=True)


def test_a_full_disk_is_said_as_such_and_an_upload_that_is_given_up_makes_room(small_disk):
    blobs = FolderBlobs(small_disk / "blobs")
    with pytest.raises(Unavailable) as caught:
        blobs.put(bytes([number]) * 65536 for number in range(32))
    assert caught.value.code == "kernel.disk-full"
    assert leftovers(blobs) == []
    assert blobs.put(BYTES).sha256 == DIGEST


def test_an_upload_goes_on_once_a_full_disk_has_room_again(small_disk):
    blobs = FolderBlobs(small_disk / "blobs")
    in_the_way = blobs.put(bytes(600_000))
    upload = blobs.upload()
    upload.feed(bytes(300_000))
    with pytest.raises(Unavailable, match="disk-full"):
        upload.feed(bytes(300_000))
    token = upload.pause()
    blobs.remove(in_the_way.sha256, put_before=time.time() + 1)
    with blobs.upload(resume=token) as upload:
        assert 300_000 <= upload.size < 600_000
        upload.feed(bytes(600_000 - upload.size))
        assert upload.finish() == in_the_way


def test_a_limit_on_file_sizes_is_said_as_a_full_disk(blobs):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(Unavailable) as caught:
            blobs.put(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.code == "kernel.disk-full"
    assert leftovers(blobs) == []


def test_a_disk_that_fails_at_the_last_moment_leaves_the_upload_to_be_finished(blobs, monkeypatch):
    def failing(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    upload = blobs.upload()
    upload.feed(BYTES)
    with monkeypatch.context() as patch, pytest.raises(Unavailable) as caught:
        patch.setattr(os, "fsync", failing)
        upload.finish()
    assert caught.value.code == "kernel.storage-failed"
    assert not blobs.has(DIGEST)
    assert upload.finish().sha256 == DIGEST


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """This thread without root's right to pass over permissions; on Linux the right belongs to the thread."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(ctypes.c_long(_SETFSUID[os.uname().machine]), NOBODY) == 0
    yield
    libc.syscall(ctypes.c_long(_SETFSUID[os.uname().machine]), 0)


_SETFSUID = {"x86_64": 122, "aarch64": 151}


def test_a_store_that_denies_access_says_so(blobs, request):
    blobs.put(BYTES)
    for path in (blobs.root, *blobs.root.iterdir()):
        path.chmod(0)
    request.getfixturevalue("as_nobody")
    asks = (
        lambda: blobs.put(BYTES), lambda: blobs.open(DIGEST), lambda: blobs.has(DIGEST), lambda: list(blobs.listing()),
        lambda: blobs.remove(DIGEST, put_before=0), lambda: blobs.condemn(DIGEST), blobs.incoming.sweep,
        lambda: FolderBlobs(blobs.root),
    )  # fmt: skip
    for ask in asks:
        with pytest.raises(Unavailable) as caught:
            ask()
        assert caught.value.code == "kernel.storage-denied"


def test_a_file_where_the_folder_should_be_is_said_in_one_line(tmp_path):
    (tmp_path / "blobs").write_bytes(b"")
    with pytest.raises(Unavailable) as caught:
        FolderBlobs(tmp_path / "blobs")
    assert caught.value.code == "kernel.storage-failed"
