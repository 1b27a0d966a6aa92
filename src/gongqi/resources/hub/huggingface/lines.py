"""A commit as it comes: one JSON object a line, read while it arrives and bounded at every step.

A line holds at most one file that travels inside the commit; whoever sends a million lines is told so after some
thousands, and nothing of them is kept. What follows from the lines is the caller's to do.

Source: the client's `_commit_api.py`; newline-delimited JSON.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import Field

from gongqi.kernel.errors import Refused
from gongqi.resources.hub.huggingface.door import Body, parsed
from gongqi.resources.hub.huggingface.forms import REGULAR_BYTES, ascii_only
from gongqi.resources.hub.revisions import MAX_FILES, MESSAGE

LINE_BYTES = REGULAR_BYTES * 4 // 3 + (64 << 10)  # base64, and the names around it
LINES = 2 * MAX_FILES + 1  # as many additions and removals as one change may have, and the header
PATH = 1024


class Header(Body):
    summary: str = Field("", max_length=100_000)
    description: str = Field("", max_length=100_000)
    parentCommit: str | None = Field(None, max_length=64)

    @property
    def message(self) -> str:
        """As git keeps it: a line, and what there is to say about it."""
        return "\n\n".join(part for part in (self.summary.strip(), self.description.strip()) if part)[:MESSAGE]


class Inside(Body):
    """A file whose bytes are in the line."""

    path: str = Field(max_length=PATH)
    content: str = Field(max_length=LINE_BYTES)
    encoding: str = "base64"

    model_config = Body.model_config | {"str_max_length": LINE_BYTES}


class Brought(Body):
    """A file whose bytes were brought before, named by their digest."""

    path: str = Field(max_length=PATH)
    oid: str = Field(pattern=r"^[0-9a-f]{64}$")
    algo: str = Field("sha256", pattern="^sha256$")


class Removed(Body):
    path: str = Field(max_length=PATH)


@dataclass
class Change:
    """All of a commit but the bytes inside it."""

    header: Header = field(default_factory=lambda: Header.model_validate({}))
    brought: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)


async def read_lines(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines, without empty ones. Raises Refused hub.hf-line-too-long, hub.hf-lines-too-many."""
    held, count = bytearray(), 0
    async for chunk in stream:
        held += chunk
        *whole, rest = held.split(b"\n")
        held = bytearray(rest)
        for line in whole:
            if line.strip():
                count += 1
                _check(len(line), count)
                yield bytes(line)
        _check(len(held), count)
    if held.strip():
        _check(len(held), count + 1)
        yield bytes(held)


def note(change: Change, line: bytes) -> tuple[str, bytes] | None:
    """Add a line to `change`; a file inside it is returned as (path, bytes) instead.

    Raises Refused hub.hf-line-invalid, hub.hf-body-invalid.
    """
    key, value = _opened(line)
    if key == "header":
        change.header = parsed(Header, value)
    elif key == "file":
        given = parsed(Inside, value)
        return given.path, _content(given)
    elif key == "lfsFile":
        given = parsed(Brought, value)
        change.brought[given.path] = given.oid
    elif key == "deletedFile":
        change.removed.append(parsed(Removed, value).path.rstrip("/"))
    elif key == "deletedFolder":
        change.removed.append(parsed(Removed, value).path.rstrip("/") + "/")
    else:
        raise Refused("hub.hf-line-invalid", key=ascii_only(key)[:40])
    return None


def _opened(line: bytes) -> tuple[str, bytes]:
    try:
        opened: Any = orjson.loads(line)
        return str(opened["key"]), orjson.dumps(opened["value"])
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("hub.hf-line-invalid", key="?") from error


def _content(given: Inside) -> bytes:
    if given.encoding == "utf-8":
        return given.content.encode()
    try:
        return b64decode(given.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("hub.hf-line-invalid", key="file") from error


def _check(length: int, count: int) -> None:
    if length > LINE_BYTES:
        raise Refused("hub.hf-line-too-long", limit_bytes=REGULAR_BYTES)
    if count > LINES:
        raise Refused("hub.hf-lines-too-many", limit=LINES)
