"""Laws of the bundle's container: one encoding, no bytes unaccounted for, and a parser that only ever refuses."""

from __future__ import annotations

import io
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.kernel.errors import Refused
from gongqi.resources.hub import container

NAMES = st.lists(st.text("abc/é样.", min_size=1, max_size=12).filter(container._is_plain), unique=True, max_size=6)
MEMBERS = NAMES.flatmap(lambda names: st.tuples(*(st.tuples(st.just(name), st.binary(max_size=200)) for name in names)))


def encoded(members: tuple[tuple[str, bytes], ...]) -> bytes:
    return b"".join(container.encode((name, len(content), [content]) for name, content in members))


def sound(raw: bytes) -> bool:
    """Whether the container parses and every byte of its frame is as written."""
    file = io.BytesIO(raw)
    try:
        members = container.decode(file)
    except Refused as refused:
        assert refused.code == "hub.bundle-malformed"  # the one thing it may raise
        return False
    sums = [zlib.crc32(b"".join(container.read(file, member))) for member in members]
    framed = all(container.is_framed(file, *pair) for pair in zip(members, sums, strict=True))
    return framed and container.is_closed(file, members)


@given(MEMBERS)
def test_what_is_written_is_read_and_any_zip_tool_agrees(members):
    raw = encoded(members)
    file = io.BytesIO(raw)
    held = [(m.name, b"".join(container.read(file, m))) for m in container.decode(file)]
    assert held == list(members) and sound(raw)
    with zipfile.ZipFile(file) as archive:
        assert [(name, archive.read(name)) for name in archive.namelist()] == list(members)


@given(MEMBERS, st.data())
def test_no_byte_can_change_without_being_noticed(members, data):
    raw = bytearray(encoded(members))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    assert not sound(bytes(raw))


@pytest.mark.heavy
@given(st.binary(max_size=300), MEMBERS, st.integers(0, 300))
def test_arbitrary_bytes_are_refused_and_never_anything_else(noise, members, cut):
    raw = encoded(members)
    for bad in (noise, noise + raw, raw[:cut] + noise + raw[cut:], raw[: -1 - cut]):
        assert sound(bad) == (bad == raw)
