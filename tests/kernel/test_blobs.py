"""A blob appears whole or not at all, under the digest of its bytes, and never changes: the folder's suite and S3's."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gongqi.kernel import blobs as kernel_blobs
from gongqi.kernel.blobs import Blobs
from gongqi.kernel.blobs.address import open_blobs
from gongqi.kernel.blobs.garbage import GRACE_SECONDS, Swept, collect
from gongqi.kernel.errors import Broken, Refused, Unavailable

BYTES = b"public good"
DIGEST = hashlib.sha256(BYTES).hexdigest()
OTHERS = [f"another {number}".encode() for number in range(4)]


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest) -> str:
    """Where the store is; for S3 under a prefix of its own."""
    if request.param == "folder":
        return ""
    return request.getfixturevalue("s3_address")


@pytest.fixture
def blobs(address: str, tmp_path: Path) -> Blobs:
    return open_blobs(address, tmp_path / "blobs")


def leftovers(blobs: Blobs) -> list[Path]:
    return list(blobs.incoming.folder.iterdir())


def later(seconds: float) -> Callable[[], float]:
    return lambda: time.time() + seconds


def test_what_goes_in_comes_out_under_its_digest(blobs):
    assert blobs.put([BYTES[:4], BYTES[4:]]).sha256 == DIGEST
    assert blobs.has(DIGEST)
    assert blobs.size(DIGEST) == len(BYTES)
    assert blobs.read(DIGEST, limit_bytes=100) == b"".join(blobs.chunks(DIGEST)) == BYTES
    assert blobs.check(DIGEST)
    assert leftovers(blobs) == []


def test_a_blob_of_no_bytes_is_one_too(blobs):
    stored = blobs.put(b"")
    assert (stored.size, blobs.read(stored.sha256, limit_bytes=0)) == (0, b"")
    with blobs.open(stored.sha256) as file, blobs.local(stored.sha256) as path:
        assert file.read() == path.read_bytes() == b""


@pytest.mark.heavy
def test_a_large_blob_goes_in_and_out_in_parts(blobs):
    parts = [bytes([number]) * (1 << 20) for number in range(40)]
    stored = blobs.put(parts)
    assert blobs.size(stored.sha256) == 40 << 20
    assert blobs.check(stored.sha256)
    assert max(map(len, blobs.chunks(stored.sha256))) <= 4 << 20


def test_the_same_bytes_twice_are_one_blob(blobs):
    assert blobs.put(BYTES) == blobs.put(BYTES, sha256=DIGEST)
    assert [held.sha256 for held in blobs.listing()] == [DIGEST]
    assert blobs.read(DIGEST, limit_bytes=100) == BYTES


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 0), (3, 3), (4, 2), (2, 5), (0, 11), (10, None), (11, None), (40, None), (5, 99)]
)
def test_a_range_is_what_a_slice_is(blobs, start, end):
    blobs.put(BYTES)
    assert b"".join(blobs.chunks(DIGEST, start=start, end=end)) == BYTES[start:end]


def test_an_open_blob_can_be_read_anywhere(blobs):
    blobs.put(BYTES)
    with blobs.open(DIGEST) as file:
        assert file.seek(-4, io.SEEK_END) == 7
        assert file.read() == b"good"
        assert file.read() == b""
        file.seek(2)
        assert file.read(3) == b"bli"
        assert file.seek(1, io.SEEK_CUR) == 6
        assert file.read(1) == b" "
        file.seek(40)
        assert file.read() == b""


def test_a_local_file_has_the_bytes(blobs):
    blobs.put(BYTES)
    for _ in range(2):
        with blobs.local(DIGEST) as path:
            assert path.read_bytes() == BYTES
            assert path.stat().st_mode & 0o777 == 0o400


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
    def broken() -> Iterator[bytes]:
        yield BYTES
        raise ConnectionError

    with pytest.raises(ConnectionError):
        blobs.put(broken())
    assert leftovers(blobs) == []


def test_bytes_can_be_looked_at_before_they_are_kept(blobs):
    with blobs.upload() as upload:
        upload.feed(BYTES)
        assert upload.check(sha256=DIGEST).size == len(BYTES)
        with upload.open() as file:
            assert file.read() == BYTES
        assert not blobs.has(DIGEST)
    assert leftovers(blobs) == []


@pytest.mark.parametrize("name", ["", "../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_name_that_is_no_digest_is_refused(blobs, name):
    asks = (blobs.has, blobs.size, blobs.open, blobs.local, blobs.on_disk, blobs.condemn, blobs.pardon)
    for ask in asks:
        with pytest.raises(Refused) as caught, ask(name) as _:
            pass
        assert caught.value.code == "kernel.digest-invalid"
    with pytest.raises(Refused):
        blobs.remove(name, put_before=0)


def test_a_blob_that_ought_to_be_there_and_is_not_is_our_bug(blobs):
    def local() -> None:
        with blobs.local(DIGEST):
            pass

    asks = (blobs.open, blobs.size, lambda sha256: list(blobs.chunks(sha256)), lambda _: local())
    for ask in asks:
        with pytest.raises(Broken) as caught:
            ask(DIGEST)
        assert caught.value.code == "kernel.blob-missing"
    assert not blobs.has(DIGEST)


def test_too_many_bytes_are_refused_going_in_and_coming_out(blobs, monkeypatch):
    blobs.put(BYTES)
    with pytest.raises(Refused, match="too-large"):
        blobs.read(DIGEST, limit_bytes=3)
    monkeypatch.setattr(kernel_blobs, "MAX_BLOB_BYTES", 3)
    with pytest.raises(Refused, match="too-large"):
        blobs.put(b"four")
    assert leftovers(blobs) == []


def test_every_blob_is_listed_in_order(blobs):
    digests = [blobs.put(each).sha256 for each in OTHERS]
    assert [held.sha256 for held in blobs.listing()] == sorted(digests)
    assert all(abs(held.put_at - time.time()) < 60 for held in blobs.listing())


# ---- uploads that are gone on with -----------------------------------------------------------------------------------


def test_a_paused_upload_goes_on_where_it_stopped(blobs):
    with blobs.upload() as upload:
        upload.feed(BYTES[:4])
        token = upload.pause()
    for at in range(4, len(BYTES)):
        with blobs.upload(resume=token) as upload:
            assert upload.size == at
            upload.feed(BYTES[at : at + 1])
            upload.pause()
    assert not blobs.has(DIGEST)
    assert blobs.upload(resume=token).finish(sha256=DIGEST, size=len(BYTES)).sha256 == DIGEST
    assert blobs.check(DIGEST)
    assert leftovers(blobs) == []


@pytest.mark.parametrize("token", ["", "../x", "0" * 32])
def test_an_upload_that_nobody_began_cannot_be_gone_on_with(blobs, token):
    with pytest.raises(Refused) as caught:
        blobs.upload(resume=token)
    assert caught.value.code == "kernel.upload-unknown"


def test_a_finished_upload_cannot_be_gone_on_with(blobs):
    upload = blobs.upload()
    upload.feed(BYTES)
    upload.finish()
    with pytest.raises(Refused, match="upload-unknown"):
        blobs.upload(resume=upload.token)


def test_one_upload_has_one_sender_at_a_time(blobs):
    with blobs.upload() as upload:
        with pytest.raises(Unavailable) as caught:
            blobs.upload(resume=upload.token)
        assert caught.value.code == "kernel.upload-busy"
        upload.pause()
    blobs.upload(resume=upload.token).abandon()
    assert leftovers(blobs) == []


# ---- garbage ---------------------------------------------------------------------------------------------------------


def test_a_removed_blob_is_gone_and_can_be_put_again(blobs):
    blobs.put(BYTES)
    assert blobs.remove(DIGEST, put_before=time.time() + 60)
    assert not blobs.has(DIGEST)
    assert not blobs.remove(DIGEST, put_before=time.time() + 60)
    blobs.put(BYTES)
    assert blobs.check(DIGEST)


def test_a_blob_put_since_is_not_removed(blobs):
    blobs.put(BYTES)
    assert not blobs.remove(DIGEST, put_before=time.time() - 60)
    assert blobs.check(DIGEST)


def test_what_nothing_reaches_goes_with_the_second_sweep_after_the_grace(blobs):
    kept, lost = (blobs.put(each).sha256 for each in OTHERS[:2])
    assert collect(blobs, lambda: [kept]) == Swept(0, 0, 0, 0)
    assert collect(blobs, lambda: [kept], now=later(GRACE_SECONDS + 60)) == Swept(0, 0, 1, 0)
    assert blobs.check(lost)
    assert collect(blobs, lambda: [kept], now=later(GRACE_SECONDS - 60)) == Swept(0, 0, 0, 1)  # still young: pardoned
    collect(blobs, lambda: [kept], now=later(GRACE_SECONDS + 60))
    assert collect(blobs, lambda: [kept], now=later(GRACE_SECONDS + 60)) == Swept(1, len(OTHERS[1]), 0, 0)
    assert [held.sha256 for held in blobs.listing()] == [kept]
    assert list(blobs.condemned()) == []


def test_a_wrong_mark_takes_nothing_when_it_is_put_right_in_time(blobs):
    digests = sorted(blobs.put(each).sha256 for each in OTHERS)
    assert collect(blobs, list, now=later(GRACE_SECONDS + 60)).condemned == len(digests)
    assert collect(blobs, lambda: digests, now=later(GRACE_SECONDS + 60)).pardoned == len(digests)
    assert collect(blobs, lambda: digests, now=later(9 * GRACE_SECONDS)) == Swept(0, 0, 0, 0)
    assert all(map(blobs.check, digests))


def test_a_mark_that_fails_half_way_takes_nothing_it_had_not_come_past(blobs):
    digests = sorted(blobs.put(each).sha256 for each in OTHERS)
    collect(blobs, list, now=later(GRACE_SECONDS + 60))

    def broken() -> Iterator[str]:
        yield digests[0]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        collect(blobs, broken, now=later(GRACE_SECONDS + 60))
    assert [held.sha256 for held in blobs.listing()] == digests


def test_a_mark_out_of_order_is_refused(blobs):
    digests = sorted(blobs.put(each).sha256 for each in OTHERS)
    collect(blobs, list, now=later(GRACE_SECONDS + 60))
    with pytest.raises(Broken) as caught:
        collect(blobs, lambda: [digests[1], digests[0], digests[2], digests[3]], now=later(GRACE_SECONDS + 60))
    assert caught.value.code == "kernel.mark-unordered"
    assert set(digests[1:]) <= {held.sha256 for held in blobs.listing()}


def test_a_note_left_on_a_blob_that_has_gone_does_not_hurt_it_when_it_comes_back(blobs):
    blobs.condemn(DIGEST)
    blobs.put(BYTES)
    assert collect(blobs, list, now=later(0)) == Swept(0, 0, 0, 1)
    assert blobs.check(DIGEST)


@pytest.mark.heavy
def test_who_puts_while_others_remove_has_the_blob_at_the_end(blobs, address):
    rounds, aging_seconds = (3, 2.1) if address else (60, 0.005)
    removed = 0
    for _ in range(rounds):
        blobs.put(BYTES)
        time.sleep(aging_seconds)
        limit = time.time()
        start = threading.Barrier(3)

        def act(work: Callable[[], object], start: threading.Barrier = start) -> bool:
            start.wait()
            return work() is True

        with ThreadPoolExecutor(3) as threads:
            putting = threads.submit(act, lambda: blobs.put(BYTES))
            removing = [
                threads.submit(act, lambda limit=limit: blobs.remove(DIGEST, put_before=limit)) for _ in range(2)
            ]
            putting.result()
            removed += any(each.result() for each in removing)
        assert blobs.check(DIGEST)
    assert removed, "no removal came first: nothing was tried"
