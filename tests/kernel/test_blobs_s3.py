"""What only S3 does: its address, its keys, its copies, and the files kept on this side."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import obstore
import pytest
from obstore.store import S3Store

from gongqi.kernel.blobs.address import open_blobs
from gongqi.kernel.blobs.s3 import S3Blobs
from gongqi.kernel.errors import Broken, Refused, Unavailable

BYTES = b"public good"
DIGEST = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def blobs(s3_address: str, tmp_path: Path) -> S3Blobs:
    store = open_blobs(s3_address, tmp_path / "blobs")
    assert isinstance(store, S3Blobs)
    return store


@pytest.fixture
def bare(s3_address: str) -> S3Store:
    """The same objects, seen from outside."""
    url = urlsplit(s3_address)
    [endpoint] = parse_qs(url.query)["endpoint"]
    return S3Store(
        "blobs", prefix=url.path.strip("/"), endpoint=endpoint, region="us-east-1", client_options={"allow_http": True}
    )


def names(bare: S3Store) -> list[str]:
    return [each["path"] for page in obstore.list(bare) for each in page]


def test_a_blob_is_one_object_under_its_digest(blobs, bare):
    blobs.put(BYTES)
    first = names(bare)
    assert [each.split("/")[:2] for each in first] == [["blobs", DIGEST]]
    blobs.put(BYTES)
    assert len(names(bare)) == 1
    assert names(bare) != first
    assert blobs.on_disk(DIGEST) is None


def test_a_reader_goes_on_when_its_copy_is_replaced(blobs):
    stored = blobs.put(bytes(9 << 20))
    chunks = blobs.chunks(stored.sha256)
    count = len(next(chunks))
    blobs.put(bytes(9 << 20))
    assert count + sum(map(len, chunks)) == 9 << 20


def test_two_copies_are_one_blob_and_go_together(blobs, bare):
    for name in ("a", "b"):
        obstore.put(bare, f"blobs/{DIGEST}/{name}", BYTES)
    assert [held.sha256 for held in blobs.listing()] == [DIGEST]
    assert blobs.check(DIGEST)
    assert blobs.remove(DIGEST, put_before=2**40)
    assert names(bare) == []


def test_a_blob_that_goes_while_it_is_read_is_said_to_be_missing(blobs):
    stored = blobs.put(bytes(9 << 20))
    chunks = blobs.chunks(stored.sha256)
    next(chunks)
    blobs.remove(stored.sha256, put_before=2**40)
    with pytest.raises(Broken, match="blob-missing"):
        list(chunks)


def test_an_altered_object_is_found_and_never_becomes_a_local_file(blobs, bare, tmp_path):
    obstore.put(bare, f"blobs/{DIGEST}/a", b"Public good")
    assert not blobs.check(DIGEST)
    with pytest.raises(Broken) as caught, blobs.local(DIGEST):
        pass
    assert caught.value.code == "kernel.blob-altered"
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


# ---- what is kept on this side ---------------------------------------------------------------------------------------


def kept(blobs: S3Blobs) -> set[str]:
    return {path.name for path in blobs.cache.folder.iterdir() if path.is_file()}


def test_the_files_kept_stay_below_the_limit_and_the_longest_unused_goes_first(s3_address, tmp_path):
    blobs = open_blobs(f"{s3_address}&cache_bytes=250", tmp_path)
    assert isinstance(blobs, S3Blobs)
    one, two, three = (blobs.put(bytes([number]) * 100).sha256 for number in range(3))
    assert kept(blobs) == {two, three}
    with blobs.local(two), blobs.local(one) as path:
        assert path.stat().st_size == 100
        assert kept(blobs) == {one, two}


def test_a_file_in_use_is_not_dropped(s3_address, tmp_path):
    blobs = open_blobs(f"{s3_address}&cache_bytes=50", tmp_path)
    assert isinstance(blobs, S3Blobs)
    one, two = (blobs.put(bytes([number]) * 100).sha256 for number in range(2))
    with blobs.local(one) as path, blobs.local(two) as other:
        assert path.read_bytes() + other.read_bytes() == bytes(100) + b"\1" * 100
    blobs.put(BYTES)
    assert kept(blobs) == {DIGEST}


def test_what_was_just_put_need_not_be_fetched(blobs, bare):
    blobs.put(BYTES)
    obstore.delete(bare, names(bare))
    with blobs.local(DIGEST) as path:
        assert path.read_bytes() == BYTES


# ---- the address and what lies behind it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("s3:///prefix", "address"),
        ("http://blobs", "address"),
        ("s3://key:secret@blobs", "address"),
        ("s3://blobs?endpoint=ftp://x", "endpoint"),
        ("s3://blobs?cache_bytes=1e9", "cache_bytes"),
        ("s3://blobs?cache_bytes=", "cache_bytes"),
        ("s3://blobs?secret=hunter2", "secret"),
        ("s3://blobs?credentials=/nowhere", "credentials"),
    ],
)
def test_an_address_that_is_none_is_refused(url, part, tmp_path):
    with pytest.raises(Refused) as caught:
        open_blobs(url, tmp_path)
    assert caught.value.code == "kernel.blobs-url-invalid"
    assert caught.value.params == {"part": part}


def test_a_server_that_does_not_answer_is_said_at_the_start(tmp_path, s3_address):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound and not listening: nobody else takes the port, and nobody answers
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable) as caught:
            open_blobs(f"s3://blobs?endpoint=http://{where}", tmp_path)
    assert caught.value.code == "kernel.storage-failed"


def test_a_bucket_that_is_not_there_is_said_at_the_start(tmp_path, s3_address):
    with pytest.raises(Unavailable) as caught:
        open_blobs(s3_address.replace("s3://blobs", "s3://others"), tmp_path)
    assert caught.value.code == "kernel.storage-failed"


@pytest.mark.heavy
def test_a_store_that_does_not_know_our_keys_denies_access(tmp_path, bucket, monkeypatch):
    for name, value in bucket.KEYS.items():
        monkeypatch.setenv(name, value)
    with bucket.bucket(is_open=False) as endpoint, pytest.raises(Unavailable) as caught:
        open_blobs(f"s3://blobs?endpoint={endpoint}", tmp_path)
    assert caught.value.code == "kernel.storage-denied"


def test_keys_may_come_from_a_file(tmp_path, s3_address, monkeypatch, bucket):
    for name in bucket.KEYS:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = gongqi\naws_secret_access_key = 100% of no consequence\n")
    blobs = open_blobs(f"{s3_address}&credentials={file}", tmp_path / "blobs")
    assert blobs.put(BYTES).sha256 == DIGEST
    file.write_text("[other]\n")
    with pytest.raises(Refused, match="blobs-url-invalid"):
        open_blobs(f"{s3_address}&credentials={file}", tmp_path / "blobs")
