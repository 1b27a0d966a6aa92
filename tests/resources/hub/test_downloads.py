"""A file leaves by the shortest way that its store allows, and a client cannot tell which it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from gongqi.kernel.access import Vocabulary
from gongqi.kernel.blobs.address import open_blobs
from gongqi.kernel.config import Settings
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import House, Kernel
from gongqi.resources.hub.downloads import range_within, send_blob

BYTES = bytes(range(256)) * 4
ETAG = '"a digest"'


@pytest.fixture
def kernel(build: Any) -> Kernel:
    return build(House.build((), Vocabulary({})))


@pytest.fixture(params=["folder", "s3"])
def client(request: pytest.FixtureRequest, kernel: Kernel, tmp_path: Path) -> TestClient:
    if request.param == "s3":
        kernel.blobs = open_blobs(request.getfixturevalue("s3_address"), tmp_path / "far")
    return serving(kernel)


def serving(kernel: Kernel) -> TestClient:
    stored = kernel.blobs.put(BYTES)

    def download(request: Request) -> Response:
        return send_blob(request, kernel, stored.sha256, {"etag": ETAG, "x-more": "yes"})

    return TestClient(Starlette(routes=[Route("/file", download)]))


def test_the_whole_is_sent_with_its_length(client):
    got = client.get("/file")
    assert (got.status_code, got.content) == (200, BYTES)
    assert (got.headers["etag"], got.headers["x-more"]) == (ETAG, "yes")
    assert (got.headers["accept-ranges"], got.headers["content-length"]) == ("bytes", "1024")
    assert got.headers["content-type"] == "application/octet-stream"


def test_the_head_says_what_the_whole_would(client):
    got = client.head("/file", headers={"range": "bytes=1-2"})
    assert (got.content, got.headers["etag"]) == (b"", ETAG)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=1000-", 1000, 1024), ("bytes=-24", 1000, 1024),
     ("bytes=900-5000", 900, 1024), ("bytes=-5000", 0, 1024)],
)  # fmt: skip
def test_a_range_is_sent_as_asked(client, asked, start, end):
    got = client.get("/file", headers={"range": asked})
    assert (got.status_code, got.content) == (206, BYTES[start:end])
    assert got.headers["content-range"] == f"bytes {start}-{end - 1}/1024"
    assert got.headers["content-length"] == str(end - start)


def test_a_range_beyond_the_end_is_refused(client):
    got = client.get("/file", headers={"range": "bytes=1024-"})
    assert got.status_code == 416
    assert got.headers["content-range"].endswith("*/1024")


def test_part_of_another_file_is_answered_with_the_whole(client):
    assert client.get("/file", headers={"range": "bytes=0-3", "if-range": '"another"'}).content == BYTES
    assert client.get("/file", headers={"range": "bytes=0-3", "if-range": ETAG}).content == BYTES[:4]


def test_behind_a_proxy_the_answer_names_the_file_and_has_no_body(kernel):
    kernel.settings = replace(kernel.settings, accel_prefix="/kept/blobs")
    client = serving(kernel)
    got = client.get("/file", headers={"range": "bytes=0-3"})
    [held] = kernel.blobs.listing()
    assert (got.status_code, got.content) == (200, b"")
    assert got.headers["x-accel-redirect"] == f"/kept/blobs/{held.sha256[:2]}/{held.sha256[2:4]}/{held.sha256}"
    assert (got.headers["etag"], got.headers["content-type"]) == (ETAG, "application/octet-stream")


@pytest.mark.parametrize("prefix", ["blobs", "/", "/blobs/", "/../etc", "/blobs\r\nset-cookie: a=b"])
def test_a_prefix_that_is_no_path_is_refused_at_the_start(prefix):
    with pytest.raises(Refused) as caught:
        Settings.from_environment({"GONGQI_ACCEL_PREFIX": prefix})
    assert caught.value.code == "kernel.accel-prefix-invalid"


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_never_leaves_the_file(size, first, last):
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        span = range_within(header, size)
        assert span is None or (span[0] >= 0 and span[1] <= size)
    assert range_within(f"bytes={first}-{last}", 100) == (None if last < first else (first, last + 1))


@pytest.mark.parametrize("header", [None, "", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b", "bytes=9-1"])
def test_what_is_no_single_range_asks_for_the_whole(header):
    assert range_within(header, 10) is None
