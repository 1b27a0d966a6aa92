"""Archives and compressed streams: files that hold more files, or more bytes, than they show.

What an archive declares about itself (sizes, counts, names) is never believed; what it produces is counted while it is
produced and stops at a limit. Members are read into memory one at a time and inspected like any other file, never
extracted to a disk. Refused outright: links and devices, names that would leave the folder, two members of one name,
encryption, exotic compression, an archive inside an archive, and a zip hidden behind other content (readers find a zip
from its end, so one file can be two things at once).
Source: PKWARE APPNOTE 6.3; D. Fifield, "A better zip bomb" (WOOT 2019); RFC 1950, 1952; POSIX.1-2017 pax; PEP 706.
"""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from gongqi.resources.hub.formats import PARSER_FAULTS, BoundedReader, Finding, printable
from gongqi.resources.hub.rules import path_flaw, path_twin

MEMBER_LIMIT_BYTES = 128 << 20  # a member is inspected in memory; anything larger should not be inside an archive
TOTAL_LIMIT_BYTES = 2 << 30  # what one archive may produce in all; about ten seconds of inflating
MEMBER_COUNT_LIMIT = 20_000
RATIO_LIMIT = 200  # text compresses 5 to 20 times, columns of zeros some hundred; bombs a thousand and more
RATIO_FLOOR_BYTES = 10 << 20  # below this no ratio is worth a word
LZMA_MEMORY_LIMIT_BYTES = 256 << 20  # xz lets a file ask its reader for 4 GiB of dictionary
CHUNK_BYTES = 1 << 20
PACKED_CHUNK_BYTES = 64 << 10
PART_LIMIT = 50_000  # streams end to end in one file: blocked gzip of 3 GB has as many

ZIP_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
OPAQUE = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
STREAMS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_ENCRYPTED = 0x41  # general purpose bits 0 and 6
_TYPE_MASK, _REGULAR, _FOLDER = 0o170000, 0o100000, 0o040000  # st_mode, kept by zip in the upper external attributes
_ZLIB_HEADS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
ARCHIVES = frozenset({"zip", "tar"})


class _Bomb(Exception):
    """The archive produces more than a limit allows."""


@dataclass(slots=True)
class Enclosure:
    """The containers around a file, outermost first, and what opening them has produced so far.

    One count serves all levels: a thousand small bombs inside an archive are one bomb.
    """

    packed: int
    kinds: tuple[str, ...] = ()
    produced: int = 0
    members: int = 0

    def admits(self, kind: str) -> bool:
        """One archive at most, and no stream directly in a stream: data.nii.gz in scans.tar.gz is the deepest."""
        if kind in ARCHIVES:
            return ARCHIVES.isdisjoint(self.kinds)
        return not self.kinds or self.kinds[-1] in ARCHIVES

    def drain(self, read: Callable[[int], bytes]) -> bytes:
        """Everything `read` yields, up to the limits. Raises _Bomb."""
        held = bytearray()
        while chunk := read(CHUNK_BYTES):
            held += chunk
            self.produced += len(chunk)
            inflated = self.produced > RATIO_FLOOR_BYTES and self.produced > RATIO_LIMIT * self.packed
            if inflated or self.produced > TOTAL_LIMIT_BYTES or len(held) > MEMBER_LIMIT_BYTES:
                raise _Bomb
        return bytes(held)


# Inspects the bytes of one member.
Inspect = Callable[[str, BinaryIO, int, Enclosure], list[Finding]]


def opaque_kind(head: bytes) -> str | None:
    """The name of an archive format that cannot be opened here, and so cannot be vouched for."""
    return next((kind for magic, kind in OPAQUE.items() if head.startswith(magic)), None)


def container_kind(file: BinaryIO, head: bytes, size: int) -> str | None:
    """'zip', 'tar', 'gzip', 'bzip2', 'xz', 'zlib' or None, by content."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or _is_zip(file):
        return "zip"
    stream = next((kind for magic, kind in STREAMS.items() if head.startswith(magic)), None)
    if stream or _is_zlib(head):
        return stream or "zlib"
    return "tar" if size >= tarfile.BLOCKSIZE and _is_tar_header(head[: tarfile.BLOCKSIZE]) else None


def inspect_container(path: str, file: BinaryIO, kind: str, enclosure: Enclosure, inspect: Inspect) -> list[Finding]:
    """Findings about a container and about everything in it."""
    if not enclosure.admits(kind):
        return [Finding("hub.archive-nested", path, params={"kind": kind})]
    findings: list[Finding] = []
    around = enclosure.kinds
    enclosure.kinds = (*around, kind)
    file.seek(0)
    try:
        for name, content in _members(path, file, kind, enclosure, findings):
            inside = f"{path}!{printable(name)}" if kind in ARCHIVES else path
            findings.extend(inspect(inside, io.BytesIO(content), len(content), enclosure))
    except _Bomb:
        if around:
            raise  # the outermost container answers for all of them
        findings.append(Finding("hub.archive-bomb", path, params={"limit_bytes": TOTAL_LIMIT_BYTES}))
    except PARSER_FAULTS:
        findings.append(Finding("hub.archive-malformed", path, params={"kind": kind}))
    finally:
        enclosure.kinds = around
    return findings


def _members(
    path: str, file: BinaryIO, kind: str, enclosure: Enclosure, findings: list[Finding]
) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each member worth inspecting; what is wrong with the others is added to the findings."""
    if kind not in ARCHIVES:
        yield path, enclosure.drain(_Unpacker(file, kind).read)
        return
    seen: set[str] = set()
    for name, flaw, read in (_zip_members if kind == "zip" else _tar_members)(path, file, findings):
        enclosure.members += 1
        if enclosure.members > MEMBER_COUNT_LIMIT:
            raise _Bomb
        twin = path_twin(name.rstrip("/"))
        flaw = "hub.archive-path" if path_flaw(name.rstrip("/")) else "hub.archive-twin" if twin in seen else flaw
        seen.add(twin)
        if flaw:
            findings.append(Finding(flaw, path, params={"member": printable(name)}))
        elif read:
            yield name, enclosure.drain(read)


def _is_zip(file: BinaryIO) -> bool:
    """Whether a zip directory with members ends this file, whatever it begins with."""
    try:
        return zipfile.is_zipfile(BoundedReader(file)) and bool(_open_zip(file).filelist)
    except PARSER_FAULTS:
        return False


def _open_zip(file: BinaryIO) -> zipfile.ZipFile:
    bounded: Any = BoundedReader(file)
    return zipfile.ZipFile(bounded)


def _is_zlib(head: bytes) -> bool:
    if not head.startswith(_ZLIB_HEADS):
        return False
    try:
        return len(zlib.decompressobj().decompress(head, 64)) > 0
    except zlib.error:
        return False  # text may begin with "x\x9c" too; only a stream that inflates is one


def _is_tar_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except PARSER_FAULTS:
        return False
    return True


# (name, code of a flaw or None, how to read the bytes or None for a folder)
_Member = tuple[str, str | None, Callable[[int], bytes] | None]


def _zip_members(path: str, file: BinaryIO, findings: list[Finding]) -> Iterator[_Member]:
    if file.read(2) != b"PK":
        findings.append(Finding("hub.archive-disguised", path))
    with _open_zip(file) as archive:
        for member in archive.infolist():
            # `filename` is what is left after a NUL was cut off; `orig_filename` is what other readers see.
            name, file_type = member.orig_filename, member.external_attr >> 16 & _TYPE_MASK
            if file_type not in (0, _REGULAR, _FOLDER):
                yield name, "hub.archive-link", None
            elif member.flag_bits & _ENCRYPTED or member.compress_type not in ZIP_METHODS:
                yield name, "hub.archive-unreadable", None
            elif member.is_dir():
                yield name, None, None
            else:
                with archive.open(member) as content:
                    yield name, None, content.read


def _tar_members(path: str, file: BinaryIO, findings: list[Finding]) -> Iterator[_Member]:
    bounded: Any = BoundedReader(file)
    with tarfile.open(fileobj=bounded, mode="r:") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.issparse() or not (member.isreg() or member.isdir()):
                yield name, "hub.archive-link", None
            elif member.isdir():
                if name != ".":
                    yield name, None, None
            else:
                content = archive.extractfile(member)
                assert content is not None, "tarfile gives a reader for every regular member"
                yield name, None, content.read


class _Unpacker:
    """Unpacks a stream in bounded steps. gzip, bzip2 and xz allow streams end to end, and so does this."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        self._file, self._kind, self._parts, self._held = file, kind, 0, b""
        self._unpack: Any = self._fresh()

    def _fresh(self) -> Any:
        self._parts += 1
        if self._parts > PART_LIMIT:
            raise _Bomb
        if self._kind == "bzip2":
            return bz2.BZ2Decompressor()
        if self._kind == "xz":
            return lzma.LZMADecompressor(memlimit=LZMA_MEMORY_LIMIT_BYTES)
        return zlib.decompressobj(zlib.MAX_WBITS | 16 if self._kind == "gzip" else zlib.MAX_WBITS)

    def read(self, size: int) -> bytes:
        """Between 1 and `size` bytes, or none at the end. Raises EOFError when the stream is cut off."""
        while True:
            if self._unpack.eof:
                rest = self._held or self._file.read(PACKED_CHUNK_BYTES)
                if self._kind == "gzip":
                    rest = rest.lstrip(b"\0")  # padding to a tape block is customary
                if not rest:
                    return b""
                if self._kind == "zlib":
                    raise ValueError("bytes after the end of the stream")
                self._unpack, self._held = self._fresh(), rest
            if not self._held and getattr(self._unpack, "needs_input", True):
                self._held = self._file.read(PACKED_CHUNK_BYTES)
                if not self._held:
                    raise EOFError
            out = self._unpack.decompress(self._held, size)
            # zlib hands back what it did not take; the others keep it.
            self._held = self._unpack.unused_data or getattr(self._unpack, "unconsumed_tail", b"")
            if out:
                return out
