"""The bundle's container: a ZIP with one encoding, so that a changed byte anywhere is a changed bundle.

Every member is stored, not compressed (a ratio cannot be a bomb, and any tool reads it), dated 1980-01-01, mode 0644,
without comments, in the order given, its CRC-32 and size in a data descriptor so that it can be written as a stream.
Nothing is left to choose; reading therefore parses only names and sizes, writes the container anew in memory, member by
member, and compares. We write the format ourselves because a bundle outlives the version of the library that wrote it.

Limits: MAX_MEMBERS, MAX_NAME_BYTES, MAX_DIRECTORY_BYTES; the parser reads nothing whose length the file merely claims.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.9 (descriptor), 4.3.12 (central directory), 4.3.14
(ZIP64), 4.4.4 bits 3 and 11.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from gongqi.kernel.errors import Broken, Refused

CHUNK_BYTES = 1 << 20
MAX_MEMBERS = 100_016  # a revision's files and ours
MAX_NAME_BYTES = 1040  # rules.PATH_LIMIT_BYTES and a folder
MAX_DIRECTORY_BYTES = 128 << 20

_FLAGS = 1 << 3 | 1 << 11  # sizes follow the data; names are UTF-8
_DATE = 33  # 1980-01-01, the first there is
_NEEDS, _NEEDS_64 = 20, 45
_MADE_BY = 3 << 8  # Unix, so that the mode counts
_MODE = 0o100644 << 16
_FULL = 0xFFFFFFFF
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")


@dataclass(frozen=True, slots=True)
class Member:
    """One member: where its header stands, how long its bytes are, what they sum to."""

    name: str
    size: int
    offset: int = 0
    crc: int = 0

    @property
    def needs_64(self) -> bool:
        return self.size >= _FULL

    @property
    def header(self) -> bytes:
        name, extra = self.name.encode(), struct.pack("<2H2Q", 1, 16, 0, 0) if self.needs_64 else b""
        size = _FULL if self.needs_64 else 0
        needs = _NEEDS_64 if self.needs_64 else _NEEDS
        return _LOCAL.pack(b"PK\3\4", needs, _FLAGS, 0, 0, _DATE, 0, size, size, len(name), len(extra)) + name + extra

    @property
    def descriptor(self) -> bytes:
        return struct.pack("<4sL2Q" if self.needs_64 else "<4s3L", b"PK\7\10", self.crc, self.size, self.size)

    @property
    def starts(self) -> int:
        return self.offset + len(self.header)

    @property
    def ends(self) -> int:
        return self.starts + self.size + len(self.descriptor)

    @property
    def entry(self) -> bytes:
        """The member's row in the central directory."""
        name, size, offset, large = self.name.encode(), self.size, self.offset, b""
        if self.needs_64:
            large, size = struct.pack("<2Q", size, size), _FULL
        if offset >= _FULL:
            large, offset = large + struct.pack("<Q", offset), _FULL
        extra = struct.pack("<2H", 1, len(large)) + large if large else b""
        needs = _NEEDS_64 if large else _NEEDS
        return (
            _CENTRAL.pack(
                b"PK\1\2", _MADE_BY | needs, needs, _FLAGS, 0, 0, _DATE, self.crc, size, size, len(name), len(extra),
                0, 0, 0, _MODE, offset,
            )
            + name
            + extra
        )  # fmt: skip


def encode(members: Iterable[tuple[str, int, Iterable[bytes]]]) -> Iterator[bytes]:
    """The container of (name, size in bytes, chunks), as a stream."""
    written, at = [], 0
    for name, size, chunks in members:
        member, crc, got = Member(name, size, at), 0, 0
        yield member.header
        for chunk in chunks:
            crc, got = zlib.crc32(chunk, crc), got + len(chunk)
            yield chunk
        if got != size:
            raise Broken("kernel.blob-missing", sha256=name)
        member = replace(member, crc=crc)
        yield member.descriptor
        written.append(member)
        at = member.ends
    yield _tail(written)


def _tail(members: Sequence[Member]) -> bytes:
    """Central directory and end records."""
    directory = b"".join(member.entry for member in members)
    at, count, size = members[-1].ends if members else 0, len(members), len(directory)
    large = b""
    if at >= _FULL or count >= 0xFFFF:
        needs = _MADE_BY | _NEEDS_64
        large = _END_64.pack(b"PK\6\6", 44, needs, _NEEDS_64, 0, 0, count, count, size, at)
        large += _LOCATOR.pack(b"PK\6\7", 0, at + size, 1)
    count, at = min(count, 0xFFFF), min(at, _FULL)
    return directory + large + _END.pack(b"PK\5\6", 0, 0, count, count, size, at, 0)


def decode(file: BinaryIO) -> list[Member]:
    """The members of a container, as its directory lists them. Raises Refused hub.bundle-malformed.

    Names are plain relative paths without repetition; members lie one after the other and fill the file exactly.
    """
    length = file.seek(0, os.SEEK_END)
    start, size, count = _directory(file, length)
    file.seek(start)
    rows, members, at, offset = file.read(size), [], 0, 0
    for _ in range(count):
        name, crc, member_size, used = _row(rows, at)
        member = Member(name, member_size, offset, crc)
        at, offset = at + used, member.ends
        members.append(member)
    if at != size or offset != start:
        raise _malformed("frame-gap")
    if len({member.name for member in members}) != count:
        raise _malformed("name-twice")
    if not all(map(_is_plain, (member.name for member in members))):
        raise _malformed("name-unsafe")
    return members


def read(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The bytes of a member, in chunks."""
    file.seek(member.starts)
    left = member.size
    while left:
        chunk = file.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise _malformed("cut-short")
        left -= len(chunk)
        yield chunk


def is_framed(file: BinaryIO, member: Member, crc: int) -> bool:
    """Whether everything around a member's bytes is exactly what `encode` writes; `crc` is that of the bytes."""
    file.seek(member.offset)
    if file.read(len(member.header)) != member.header or crc != member.crc:
        return False
    file.seek(member.starts + member.size)
    return file.read(len(member.descriptor)) == member.descriptor


def is_closed(file: BinaryIO, members: Sequence[Member]) -> bool:
    """Whether directory and end records are exactly what `encode` writes."""
    tail = _tail(members)
    length = file.seek(0, os.SEEK_END)
    at = members[-1].ends if members else 0
    if length - at != len(tail):
        return False
    file.seek(at)
    return file.read(len(tail)) == tail


def _directory(file: BinaryIO, length: int) -> tuple[int, int, int]:
    """(start, size, number of rows) of the central directory."""
    end = _at(file, length - _END.size, _END, b"PK\5\6", length)
    count, size, start = end[4], end[5], end[6]
    close = length - _END.size
    if count == 0xFFFF or start == _FULL:
        locator = _at(file, close - _LOCATOR.size, _LOCATOR, b"PK\6\7", length)
        wide = _at(file, locator[2], _END_64, b"PK\6\6", length)
        count, size, start = wide[7], wide[8], wide[9]
        close = locator[2]
    if size > MAX_DIRECTORY_BYTES or count > MAX_MEMBERS or start + size != close:
        raise _malformed("directory-place")
    return start, size, count


def _at(file: BinaryIO, at: int, form: struct.Struct, magic: bytes, length: int) -> tuple:
    if not 0 <= at <= length - form.size:
        raise _malformed("directory-place")
    file.seek(at)
    fields = form.unpack(file.read(form.size))
    if fields[0] != magic:
        raise _malformed("not-ours")
    return fields


def _row(rows: bytes, at: int) -> tuple[str, int, int, int]:
    """(name, CRC, size, bytes used) of one directory row; what else it says is compared later, as a whole."""
    if at + _CENTRAL.size > len(rows):
        raise _malformed("directory-short")
    fields = _CENTRAL.unpack_from(rows, at)
    crc, size, name_length, extra_length = fields[7], fields[8], fields[10], fields[11]
    begin = at + _CENTRAL.size
    close = begin + name_length + extra_length
    if fields[0] != b"PK\1\2" or name_length > MAX_NAME_BYTES or close > len(rows):
        raise _malformed("directory-short")
    if size == _FULL:
        if extra_length < 12:
            raise _malformed("size-missing")
        size = int.from_bytes(rows[begin + name_length + 4 : begin + name_length + 12], "little")
    try:
        name = rows[begin : begin + name_length].decode()
    except UnicodeDecodeError as error:
        raise _malformed("name-not-utf8") from error
    return name, crc, size, close - at


def _is_plain(name: str) -> bool:
    return bool(name) and "\\" not in name and "\x00" not in name and not {"", ".", ".."} & set(name.split("/"))


def _malformed(flaw: str) -> Refused:
    return Refused("hub.bundle-malformed", flaw=flaw)
