"""Which blobs may go: mark what is reachable, then sweep what nothing has reached for long enough.

`mark` gives the digests in use, ascending; each may be looked up at a moment of its own, so long as all uses of one
digest are looked up at once. A blob goes when
1. it is not among them,
2. it was last put more than the grace ago, and
3. an earlier sweep, also more than the grace ago, had found the same and condemned it.

Why no blob in use can go. Whoever comes to use a blob does so on the strength of a use that is already written down, or
of a put at most the grace ago. The limit of time is read before the mark begins. Say that the mark finds no use of a
blob, and that one is written down later: it then rests on a put, which is younger than the limit, and `remove`, which
looks at the time of the last put in such a way that no put can come between the look and the removal, spares the blob.
Point 3 is no part of this argument: it protects from a mark that is itself wrong, as when a server is started on the
wrong database. Nothing goes in its first sweeps, and what is reached again is pardoned.

A sweep that is killed leaves condemned blobs, or a note on one that has gone; the next one goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.errors import Broken

GRACE_SECONDS = 3 * 24 * 3600  # from the first byte put to the row that uses it: a flow may retry over a weekend


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: blobs removed and their bytes, newly condemned, and pardoned."""

    removed: int
    removed_bytes: int
    condemned: int
    pardoned: int


def collect(
    blobs: Blobs,
    mark: Callable[[], Iterable[str]],
    *,
    grace_seconds: float = GRACE_SECONDS,
    now: Callable[[], float] = time.time,
) -> Swept:
    """Sweep the store once, in memory that does not grow with it. Raises Broken when the mark is out of order; an error
    of the mark ends the sweep before any blob that the mark had not yet come past."""
    limit = now() - grace_seconds
    reached = _Ascending((digest, None) for digest in mark())
    notes = _Ascending(blobs.condemned())
    removed = removed_bytes = condemned = pardoned = 0
    for held in blobs.listing():
        is_reached, since = reached.pass_to(held.sha256) is not None, None
        if note := notes.pass_to(held.sha256):
            since = note[1]
        if is_reached or held.put_at >= limit:
            if since is not None:
                blobs.pardon(held.sha256)
                pardoned += 1
        elif since is None:
            blobs.condemn(held.sha256)
            condemned += 1
        elif since < limit and blobs.remove(held.sha256, put_before=limit):
            removed, removed_bytes = removed + 1, removed_bytes + held.size
    return Swept(removed, removed_bytes, condemned, pardoned)


class _Ascending:
    """Pairs in ascending order of digest, read alongside another such list."""

    def __init__(self, pairs: Iterable[tuple[str, float | None]]) -> None:
        self._pairs: Iterator[tuple[str, float | None]] = iter(pairs)
        self._next = next(self._pairs, None)

    def pass_to(self, sha256: str) -> tuple[str, float | None] | None:
        """The pair of this digest, if there is one; what comes before it is passed over."""
        while self._next is not None and self._next[0] < sha256:
            passed, self._next = self._next[0], next(self._pairs, None)
            if self._next is not None and self._next[0] < passed:
                raise Broken("kernel.mark-unordered", detail=f"{self._next[0]} after {passed}")
        return self._next if self._next is not None and self._next[0] == sha256 else None
