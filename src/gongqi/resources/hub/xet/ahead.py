"""Making and using at once: while one part of a file is hashed and written, a thread unpacks and checks the next."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

PART_BYTES = 1 << 20  # what is handed over at a time: to hand over a chunk costs as much as to make it


def made_ahead(pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
    """The same pieces in parts of some PART_BYTES; two parts are held. Raises what `pieces` raises, after all before it."""
    parts = in_parts(pieces)
    with closing(parts), ThreadPoolExecutor(1, thread_name_prefix="ahead") as maker:
        coming = maker.submit(next, parts, None)
        while part := coming.result():
            coming = maker.submit(next, parts, None)
            yield part


def in_parts(pieces: Iterator[bytes]) -> Generator[list[bytes], None, None]:
    """The same pieces in parts of some PART_BYTES."""
    part, size = list[bytes](), 0
    for piece in pieces:
        part.append(piece)
        size += len(piece)
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
