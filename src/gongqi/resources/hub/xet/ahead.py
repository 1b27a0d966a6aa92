"""Making and using at once: while one part of a file is hashed and written, a thread unpacks and checks the next."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

PART_BYTES = 1 << 20  # what is handed over at a time: to hand over a chunk costs as much as to make it


def made_ahead(pieces: Iterator[bytes]) -> Iterator[bytearray]:
    """The same bytes in parts of some PART_BYTES; two parts are held. Raises what `pieces` raises, after all before it."""
    parts = in_parts(pieces)
    with closing(parts), ThreadPoolExecutor(1, thread_name_prefix="ahead") as maker:
        coming = maker.submit(next, parts, None)
        while part := coming.result():
            coming = maker.submit(next, parts, None)
            yield part


def in_parts(pieces: Iterator[bytes]) -> Generator[bytearray, None, None]:
    """The same bytes in parts of some PART_BYTES."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= PART_BYTES:
            yield held
            held = bytearray()
    if held:
        yield held
