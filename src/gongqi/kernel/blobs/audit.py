"""Is everything there, and is it still what it was? Reads every byte; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.errors import Broken, Unavailable


@dataclass(frozen=True, slots=True)
class Examined:
    """A blob and what is wrong with it, if anything."""

    sha256: str
    size: int
    fault: Literal["altered", "missing", "unreadable"] | None


def audit(blobs: Blobs, wanted: Iterable[str]) -> Iterator[Examined]:
    """Every blob in the store, hashed again; then those of `wanted` that the store lacks."""
    for held in blobs.listing():
        try:
            yield Examined(held.sha256, held.size, None if blobs.check(held.sha256) else "altered")
        except Unavailable:
            yield Examined(held.sha256, held.size, "unreadable")  # one bad sector must not hide the others
        except Broken:
            continue  # removed since it was listed; if it is wanted, it is said below
    for sha256 in wanted:
        if not blobs.has(sha256):
            yield Examined(sha256, 0, "missing")
