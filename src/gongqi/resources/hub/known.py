"""The xorbs of one space, wherever their bytes are: held as they came, or by now in the files that were made of them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from gongqi.kernel.blobs import Stored
from gongqi.kernel.blobs.faults import disk_faults
from gongqi.kernel.blobs.incoming import Incoming, is_at, try_lock
from gongqi.kernel.errors import Broken
from gongqi.kernel.room import Kernel
from gongqi.resources.hub import extents
from gongqi.resources.hub.extents import Place, Whereabouts
from gongqi.resources.hub.xet.chunks import Chunks
from gongqi.resources.hub.xet.hashes import Node, text_of
from gongqi.resources.hub.xet.rebuild import rebuild
from gongqi.resources.hub.xet.shards import File, Term
from gongqi.resources.hub.xet.xorbs import read_chunks

XORBS_IN_MEMORY = 64  # lists of chunks, of 40 kB as clients make them and half a megabyte at most


# --- held files ------------------------------------------------------------------------------------------------------


class HeldXorbs(Incoming):
    """Xorbs as they came, each a private file named by chance. They are on this machine: where several serve one hub,
    the requests of one space, which is in their path, belong on one of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _not_placed)

    def open(self, name: str) -> BinaryIO | None:
        """The file, or None when it has gone."""
        with disk_faults():
            try:
                return (self.folder / name).open("rb")
            except FileNotFoundError:
                return None

    def drop(self, names: Collection[str]) -> None:
        with disk_faults():
            for name in names:
                (self.folder / name).unlink(missing_ok=True)

    def sweep_unknown(self, kernel: Kernel) -> int:
        """Remove files that no xorb is held in; what is still coming in is locked, and noted before it is let go of."""
        count = 0
        with disk_faults():
            for path in self.folder.iterdir():
                try:
                    with path.open("rb") as file:
                        if not (try_lock(file) and is_at(path, file)):
                            continue
                        if not kernel.look(lambda ctx, name=path.name: extents.is_held(ctx, name)):
                            path.unlink()
                            count += 1
                except FileNotFoundError:
                    continue
        return count


def held_xorbs(kernel: Kernel) -> HeldXorbs:
    if HeldXorbs not in kernel.parts:
        kernel.parts[HeldXorbs] = HeldXorbs(kernel.settings.home / "xorbs")
    return kernel.parts[HeldXorbs]


def _not_placed(_path: Path, stored: Stored) -> None:
    raise Broken("hub.xet-chunk-damaged", xorb=stored.sha256)


# --- held or not -----------------------------------------------------------------------------------------------------


class Known:
    """The xorbs of one space, for `rebuild`."""

    def __init__(self, kernel: Kernel, space: str) -> None:
        self._kernel = kernel
        self._space = space
        self._find = functools.lru_cache(XORBS_IN_MEMORY)(self._look)

    def chunks(self, xorb: bytes) -> Chunks | None:
        found = self._find(xorb)
        return found.xorb.chunks if found else None

    def nodes(self, term: Term) -> Iterator[Node]:
        chunks = self.chunks(term.xorb)
        return chunks.nodes(term.start, term.end) if chunks else iter(())

    def hash_of(self, xorb: bytes, chunk: int) -> bytes:
        return next(self.nodes(Term(xorb, chunk, chunk + 1, 0, b"")))[0]

    def holes(self, xorb: bytes, covered: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """What of a held xorb is neither covered so, nor in any file."""
        found = self._find(xorb)
        if found is None or found.held is None:
            return iter(())
        spans = [*covered, *((place.start, place.end) for place in found.places)]
        return extents.holes(spans, len(found.xorb.chunks))

    def read(self, xorb: bytes, start: int, end: int) -> Iterator[bytes]:
        found = self._find(xorb)
        assert found is not None
        while start < end:
            place = next((each for each in found.places if each.start <= start < each.end), None)
            stop = min(end, place.end) if place else end
            yield from self._in_blob(found, place, start, stop) if place else self._as_held(found, start, stop)
            start = stop

    def rebuilt(self, file: File, *, after: int = 0) -> Iterator[bytes]:
        """The bytes of a file but for its first `after` terms; what turns out to be damaged is lost, so that the client
        will send it again.

        Raises Refused hub.xet-space-renewed, and as `rebuild`.
        """
        try:
            yield from rebuild(file, self, after=after)
        except Broken as error:
            if error.code != "hub.xet-chunk-damaged":
                raise
            name = str(error.params["xorb"])
            self._kernel.transact(lambda ctx: extents.lose(ctx, self._space, [name]), reason="hub.xet-chunk-damaged")
            raise extents.renewed(f"xorb {name} is damaged") from error

    def _look(self, xorb: bytes) -> Whereabouts | None:
        return self._kernel.look(lambda ctx: extents.find(ctx, self._space, text_of(xorb)))

    def _as_held(self, found: Whereabouts, start: int, end: int) -> Iterator[bytes]:
        file = held_xorbs(self._kernel).open(found.held) if found.held else None
        if file is not None:
            with file, disk_faults():
                yield from read_chunks(file, found.xorb, start, end)
            return
        again = self._look(found.xorb.name)
        if again is None or again.held == found.held:
            raise _damaged(found)
        self._find.cache_clear()  # since we looked, files have come to cover it
        yield from self.read(found.xorb.name, start, end)

    def _in_blob(self, found: Whereabouts, place: Place, start: int, end: int) -> Iterator[bytes]:
        chunks = found.xorb.chunks
        first = place.offset + (chunks.raw_bytes(place.start, start) if start > place.start else 0)
        last = first + chunks.raw_bytes(start, end)
        pieces, piece, at = self._kernel.blobs.chunks(place.sha256, start=first, end=last), b"", 0
        try:
            for _, length in chunks.nodes(start, end):
                while len(piece) - at < length and (more := next(pieces, b"")):
                    piece, at = piece[at:] + more, 0
                yield piece[at : at + length]
                at += length
        except Broken as error:
            raise _damaged(found, repr(error)) from error


def _damaged(found: Whereabouts, detail: str | None = None) -> Broken:
    return Broken("hub.xet-chunk-damaged", xorb=text_of(found.xorb.name), detail=detail)
