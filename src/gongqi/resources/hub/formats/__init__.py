"""One file per format: what a file of that format could do to whoever opens it.

Every inspector here reads bytes and reports findings. None imports, unpickles, executes, or follows a reference out of
the bytes it was given, and none trusts a length, count or name found in the file before checking it against a limit.
A file that cannot be read to the end by the rules of its own format is refused: scanners that shrug at a parse error
are evaded by making one (picklescan CVE-2025-1716 and its successors).
"""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from gongqi.kernel.errors import Refused

Severity = Literal["refuse", "warn"]

# What the standard library's parsers are known to raise on hostile bytes. Named one by one, so that a programming
# error of ours (TypeError, AttributeError, NameError) still surfaces as one.
PARSER_FAULTS = (
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,  # includes NotImplementedError and RecursionError
    SyntaxError,
    ValueError,  # includes UnicodeError and json.JSONDecodeError
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)

NAME_LIMIT = 200  # characters of a hostile name that a message repeats
READ_LIMIT_BYTES = 4 << 20  # the largest single read a foreign parser may ask for: 20,000 zip entries fit


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found in one file. `offset` is in bytes from the start of the file or archive member, if known."""

    code: str
    path: str
    offset: int | None = None
    params: Mapping[str, str | int] = field(default_factory=dict)
    severity: Severity = "refuse"

    def refusal(self) -> Refused:
        """The same finding as an error, for whoever must answer the uploader."""
        refused = Refused(self.code, path=self.path)
        refused.params.update(self.params)
        return refused


class Flaw(Exception):
    """A rule of its own format that a file breaks: a code, worded as `<code of the finding>.flaw.<this code>`."""

    def __init__(self, code: str, **params: str | int) -> None:
        super().__init__(code)
        self.params = {"flaw": code, **params}


def printable(name: str) -> str:
    """A name from a hostile file, safe to show: control and bidirectional characters escaped, length bounded."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in name)
    return shown if len(shown) <= NAME_LIMIT else shown[: NAME_LIMIT - 1] + "…"


class BoundedReader:
    """A read-only file whose single reads are bounded, so that no parser allocates what a file merely claims."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0 or size > READ_LIMIT_BYTES:
            held = self._file.read(READ_LIMIT_BYTES + 1)
            if len(held) > READ_LIMIT_BYTES:
                raise ValueError("a single read is larger than the limit")
            return held
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
