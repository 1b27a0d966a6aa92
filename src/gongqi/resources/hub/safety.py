"""Artefact safety: whether a file could hurt whoever opens it. Judged by content, never by extension alone.

`inspect` opens nothing but the file it is given, executes nothing, and answers any sequence of bytes with findings.
A finding of severity "refuse" stops an upload; "warn" is shown to reviewers. A file that no inspector knows is not
called safe: it is named as unrecognised.

Laws (tests/laws/test_safety_laws.py): arbitrary bytes and mutations of valid files never raise and never hang; every
pickle of every protocol is refused, bare, in an archive or compressed; a secret's value never appears in a finding.

Source: docs of picklescan, modelscan and fickling for the evasions; EICAR test file; the file formats as cited in
`formats/`. Extensions are used in one direction only: a name may add suspicion, never remove it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from gongqi.resources.hub.formats import Finding
from gongqi.resources.hub.formats.archives import Enclosure, container_kind, inspect_container, opaque_kind
from gongqi.resources.hub.formats.gguf import GGUF_MAGIC, inspect_gguf
from gongqi.resources.hub.formats.graphs import ONNX_SIZE_LIMIT_BYTES, inspect_onnx, looks_like_onnx
from gongqi.resources.hub.formats.pickles import is_pickle
from gongqi.resources.hub.formats.secrets import SECRETS
from gongqi.resources.hub.formats.tensors import (
    NUMPY_MAGIC,
    inspect_numpy,
    inspect_safetensors,
    looks_like_safetensors,
)

__all__ = ["Finding", "inspect"]

HEAD_BYTES = 64 << 10  # enough for every magic number, and to tell text from binary
CHUNK_BYTES = 1 << 20
OVERLAP_BYTES = 256  # longer than any pattern below, so that none is lost between two chunks
FINDING_LIMIT = 100  # of secrets in one file: the hundred-and-first teaches nobody anything

# In two pieces, so that a virus scanner does not quarantine this source file.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"

PROGRAMS = {
    b"\x7fELF": "ELF",
    b"\xfe\xed\xfa\xce": "Mach-O",
    b"\xfe\xed\xfa\xcf": "Mach-O",
    b"\xce\xfa\xed\xfe": "Mach-O",
    b"\xcf\xfa\xed\xfe": "Mach-O",
    b"\xca\xfe\xba\xbe": "mach-o-or-java",
    b"\xbe\xba\xfe\xca": "Mach-O",
    b"\x00asm": "WebAssembly",
}
# Names that promise a program or a pickle: refused whatever they hold, for the reader trusts the name.
PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".ckpt"})
PROGRAM_SUFFIXES = {".pyc": "python-bytecode", ".pyo": "python-bytecode", ".keras": "Keras"}
PROGRAM_NAMES = {"saved_model.pb": "TensorFlow SavedModel"}  # its operators may read and write any file
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
KERAS_MARKS = (b"model_config", b"keras_version")  # attributes of a Keras model, whose Lambda layers hold bytecode

# Formats that hold data and whose usual readers do not run it.
INERT = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"fLaC", b"OggS", b"ID3", b"PAR1", b"ARROW1", b"%PDF-",
    b"II*\x00", b"MM\x00*", HDF5_MAGIC, b"wOF2", b"SQLite format 3\x00",
)  # fmt: skip
DICOM_MAGIC_AT = 128  # "DICM" after a preamble that may hold anything


def inspect(path_in_revision: str, file: BinaryIO, size: int, siblings: frozenset[str]) -> list[Finding]:
    """Everything that is wrong with one file of a revision.

    `file` is open for reading bytes and can seek; `size` is what the upload declared; `siblings` are all paths of the
    revision. An empty list means that nothing was found, not that the file is good.
    """
    actual = file.seek(0, io.SEEK_END)
    if actual != size:
        return [Finding("hub.upload-truncated", path_in_revision, params={"want_bytes": size, "got_bytes": actual})]

    def look(path: str, inner: BinaryIO, inner_size: int, enclosure: Enclosure) -> list[Finding]:
        head = _head(inner)
        found = _scan(path, inner, text=_is_text(head))
        if danger := _danger(path, inner, inner_size, head):
            return [*found, danger]
        if kind := container_kind(inner, head, inner_size):
            return [*found, *inspect_container(path, inner, kind, enclosure, look)]
        return [*found, *_data_findings(path, inner, inner_size, head, siblings)]

    return look(path_in_revision, file, size, Enclosure(packed=size))


def _danger(path: str, file: BinaryIO, size: int, head: bytes) -> Finding | None:
    """What is refused at sight: programs, pickles, and archives that nobody here can open."""
    # Inside an archive the path reads "archive.zip!member".
    name = PurePosixPath(path.rsplit("!", 1)[-1])
    suffix = name.suffix.lower()
    if program := _program_kind(head, file, size) or PROGRAM_SUFFIXES.get(suffix) or PROGRAM_NAMES.get(name.name):
        return Finding("hub.program", path, offset=0, params={"kind": program})
    if suffix in PICKLE_SUFFIXES or is_pickle(file, size):
        return Finding("hub.pickle", path, offset=0)
    if kind := opaque_kind(head):
        return Finding("hub.archive-opaque", path, offset=0, params={"kind": kind})
    return None


def _data_findings(path: str, file: BinaryIO, size: int, head: bytes, siblings: frozenset[str]) -> list[Finding]:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".safetensors" or looks_like_safetensors(head, size):
        return inspect_safetensors(path, file, size)
    if head.startswith(NUMPY_MAGIC) or suffix == ".npy":
        return inspect_numpy(path, file, size)
    if head.startswith(GGUF_MAGIC) or suffix == ".gguf":
        return inspect_gguf(path, file, size)
    if suffix == ".onnx" or _is_onnx(file, size):
        return inspect_onnx(path, file, size, siblings)
    if head.startswith(HDF5_MAGIC) and _contains(file, KERAS_MARKS):
        return [Finding("hub.program", path, offset=0, params={"kind": "Keras"})]
    if _is_text(head) or head.startswith(INERT) or head[DICOM_MAGIC_AT:].startswith(b"DICM"):
        return []
    return [Finding("hub.content-unrecognised", path, severity="warn")]


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(HEAD_BYTES)


def _is_text(head: bytes) -> bool:
    """Whether the beginning of the file is UTF-8 (or ASCII) without NUL; a character may be cut at the very end."""
    if b"\x00" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as fault:
        return len(head) == HEAD_BYTES and fault.start >= HEAD_BYTES - 3
    return True


def _program_kind(head: bytes, file: BinaryIO, size: int) -> str | None:
    for magic, kind in PROGRAMS.items():
        if head.startswith(magic):
            return kind
    if not head.startswith(b"MZ") or len(head) < 64:
        return None
    at = int.from_bytes(head[60:64], "little")
    if at + 4 > size:
        return None  # "MZ" alone also begins words
    file.seek(at)
    return "PE" if file.read(4) == b"PE\x00\x00" else None


def _is_onnx(file: BinaryIO, size: int) -> bool:
    if not 0 < size <= ONNX_SIZE_LIMIT_BYTES:
        return False
    file.seek(0)
    # The first byte of a ModelProto is the tag of one of its fields; most files end here.
    if file.read(1)[0] & 7 not in (0, 2):
        return False
    file.seek(0)
    return looks_like_onnx(file.read(size))


def _chunks(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """(offset of the chunk, chunk, bytes repeated from the one before)."""
    file.seek(0)
    at, tail = 0, b""
    while fresh := file.read(CHUNK_BYTES):
        yield at - len(tail), tail + fresh, len(tail)
        at += len(fresh)
        tail = (tail + fresh)[-OVERLAP_BYTES:]


def _contains(file: BinaryIO, marks: tuple[bytes, ...]) -> bool:
    return any(mark in chunk for _, chunk, _ in _chunks(file) for mark in marks)


def _scan(path: str, file: BinaryIO, *, text: bool) -> list[Finding]:
    """Look at every byte once: the EICAR string anywhere, and in text the kind and line of secrets, never the value."""
    found: dict[tuple[str, int], Finding] = {}
    newlines = 0
    for start, chunk, repeated in _chunks(file):
        if (at := chunk.find(EICAR)) >= 0:
            offset = start + at
            found.setdefault(("EICAR", offset), Finding("hub.malware", path, offset, {"offset": offset}))
        for kind, (literals, pattern) in SECRETS.items() if text else ():
            if not any(literal in chunk for literal in literals):
                continue
            for match in pattern.finditer(chunk):
                if len(found) >= FINDING_LIMIT:
                    break
                if repeated and match.start() == 0:
                    continue  # cut in the middle here; the chunk before saw it whole
                line = newlines + chunk.count(b"\n", 0, match.start()) - chunk.count(b"\n", 0, repeated) + 1
                found.setdefault(
                    (kind, start + match.start()),
                    Finding("hub.secret", path, start + match.start(), {"kind": kind, "line": line}),
                )
        if text:  # to count them takes longer than all the rest
            newlines += chunk.count(b"\n", repeated)
    return list(found.values())
