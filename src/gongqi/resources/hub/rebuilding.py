"""From what a Xet client sends to plain blobs: a xorb is verified and held, a shard makes files of xorbs.

Nothing is rebuilt before every claim that can be checked without reading has been checked, there is room, and the
lengths add up; nothing is noted before the bytes are in the store. So a death at any moment leaves at most a file that
nobody knows of, and the client, who knows of no answer, sends the same again: what was finished is then found finished.

A file is inspected when a commit gives it a name; until then it belongs to its organisation and is in no revision.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import Field

from gongqi.kernel.blobs import MAX_BLOB_BYTES, Stored
from gongqi.kernel.blobs.faults import disk_faults
from gongqi.kernel.blobs.incoming import Incoming, Upload, is_at, try_lock
from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Call, Caller, Input, Output, Read, Write, execute, execute_all, verb
from gongqi.resources.hub import extents
from gongqi.resources.hub.extents import Place, Span, Whereabouts
from gongqi.resources.hub.intake import Share
from gongqi.resources.hub.models import Blob, ReceivedXorb
from gongqi.resources.hub.quotas import ID, exceeded, own, quota_of, room_for
from gongqi.resources.hub.xet.ahead import made_ahead
from gongqi.resources.hub.xet.chunks import Chunks
from gongqi.resources.hub.xet.hashes import Node, parse_hash, text_of
from gongqi.resources.hub.xet.rebuild import check, rebuild
from gongqi.resources.hub.xet.shards import File, Shard, Term, parse_shard
from gongqi.resources.hub.xet.xorbs import read_chunks, read_xorb

NAME = Field(pattern=r"^[0-9a-f]{64}$")
XORBS_IN_MEMORY = 64  # lists of chunks, of 40 kB as clients make them and half a megabyte at most
MAX_EXTENTS = 20_000  # noted of one shard: 10 GiB cut as finely as clients do; xorbs that it leaves uncovered stay held


class AddXorb(Input):
    """What was found in a xorb that has come, and the held file that it is in."""

    space: str = Field(max_length=ID)
    generation: int
    name: str = NAME
    chunks: int
    hashes: bytes
    ends: bytes
    places: bytes
    size: int
    held: str


class XorbOut(Output):
    is_new: bool


class AddFile(Input):
    """A blob that was made of xorbs, and where in it their chunks are."""

    space: str = Field(max_length=ID)
    generation: int
    sha256: str = NAME
    size: int
    spans: list[tuple[str, int, int, int]]


class FileOut(Output):
    """`freed`: held files that are not needed any more."""

    freed: list[str]


@verb("hub:blob:add", evidence=None)
def add_xorb(ctx: Write, input: AddXorb) -> XorbOut:
    """Not among the room's verbs: only who has just read the xorb may say what is in it."""
    asset = extents.open_space(ctx, input.space, input.generation)
    if extents.is_known(ctx, input.space, input.name):
        return XorbOut(is_new=False)
    room = room_to_hold(ctx, asset.org)
    if input.size > room:
        raise exceeded(room, input.size)
    values = input.model_dump(exclude={"generation"})
    ctx.add(ReceivedXorb(**values, at=ctx.now))
    return XorbOut(is_new=True)


@verb("hub:blob:add", evidence=None)
def add_file(ctx: Write, input: AddFile) -> FileOut:
    """Not among the room's verbs: only who has just made the blob may say what it is made of."""
    asset = extents.open_space(ctx, input.space, input.generation)
    if ctx.session.get(Blob, input.sha256) is None:
        ctx.add(Blob(sha256=input.sha256, size=input.size, at=ctx.now))
        ctx.session.flush()
    own(ctx, org=asset.org, sha256=input.sha256, size=input.size)
    offsets = {(xorb, start, end): offset for xorb, start, end, offset in input.spans}
    return FileOut(freed=extents.note(ctx, input.space, input.sha256, offsets))


def room_to_hold(ctx: Read, org: str) -> int:
    """How many bytes of xorbs may still be held for `org`: they are on their way to become files."""
    quota = quota_of(ctx, org)
    return max(0, quota.limit_bytes - quota.used_bytes - extents.held_bytes(ctx, org))


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


# --- in --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Space:
    """Where xorbs and shards are brought to."""

    asset: str
    generation: int


def take_xorb(kernel: Kernel, caller: Caller, space: Space, name: bytes, upload: Upload) -> bool:
    """Verify what came in and hold it; returns whether it was not known before. Raises Refused hub.xet-xorb-*."""
    with upload.open() as file:
        xorb = read_xorb(file, claimed=name)
    given = AddXorb(
        space=space.asset, generation=space.generation, name=text_of(name), chunks=len(xorb.chunks),
        hashes=xorb.chunks.hashes, ends=xorb.chunks.ends.tobytes(), places=xorb.places.tobytes(),
        size=upload.size, held=upload.token,
    )  # fmt: skip
    is_new = execute(kernel, add_xorb, caller, given).is_new
    if is_new:
        upload.pause()
    return is_new


def take_shard(kernel: Kernel, caller: Caller, space: Space, content: bytes, share: Share) -> bool:
    """Make the files that a shard describes; returns whether any of them was not here before.

    Raises Refused: hub.xet-*, hub.quota-exceeded, kernel.blob-too-large, kernel.digest-mismatch.
    """
    shard = parse_shard(content)
    files = {file.name: file for file in shard.files}.values()
    if any(file.raw_bytes > MAX_BLOB_BYTES for file in files):
        raise Refused("kernel.blob-too-large", limit_bytes=MAX_BLOB_BYTES)
    asked = {file.name: dict(_spans(file, MAX_EXTENTS // max(1, len(files)))) for file in files}
    size, there = kernel.look(lambda ctx: _already(ctx, space, files, asked), caller)
    share.grow(size)
    known = Known(kernel, space.asset)
    check(shard, known)
    _find_twins(known, shard, asked)
    made = [(file, file.sha256 or "", file.raw_bytes) for file in files if file.name in there]
    for file in files:
        if file.name not in there:
            stored = kernel.blobs.put(made_ahead(known.rebuilt(file)), sha256=file.sha256)
            made.append((file, stored.sha256, stored.size))
    _note(kernel, caller, space, [(sha256, size, asked[file.name]) for file, sha256, size in made])
    return len(there) < len(files)


def _already(
    ctx: Read, space: Space, files: Collection[File], asked: dict[bytes, dict[Span, int]]
) -> tuple[int, set[bytes]]:
    """How many bytes the files will add, and which of them were made here before, of the same chunks."""
    org = extents.open_space(ctx, space.asset, space.generation).org
    size, there = 0, set[bytes]()
    for file in files:
        if file.sha256 is None or room_for(ctx, org, file.sha256) is not None:
            size += file.raw_bytes
        elif asked[file.name].keys() <= extents.spans_in(ctx, space.asset, file.sha256):
            there.add(file.name)
    return size, there


def _spans(file: File, limit: int) -> Iterator[tuple[Span, int]]:
    """At most `limit` of the spans that a file is made of, each with the last place where it begins."""
    at = 0
    for count, term in enumerate(file.terms()):
        if count == limit:
            return
        yield (text_of(term.xorb), term.start, term.end), at
        at += term.raw_bytes


def _find_twins(known: Known, shard: Shard, asked: dict[bytes, dict[Span, int]]) -> None:
    """Add to `asked` where those chunks of held xorbs are that no file names: a client that cuts several files at once
    packs what they share more than once, and names only one of the copies."""
    spans: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list, {name: [] for name in shard.xorbs})
    for name, start, end in (span for each in asked.values() for span in each):
        spans[parse_hash(name)].append((start, end))
    wanted: defaultdict[bytes, list[Span]] = defaultdict(list)
    for name, covered in spans.items():
        for start, end in known.holes(name, covered):
            for chunk in range(start, end):
                wanted[known.hash_of(name, chunk)].append((text_of(name), chunk, chunk + 1))
    if not 0 < len(wanted) <= MAX_EXTENTS:
        return
    for file in shard.files:
        at = 0
        for term in file.terms():
            for name, length in known.nodes(term):
                asked[file.name] |= dict.fromkeys(wanted.pop(name, ()), at)
                at += length


def _note(kernel: Kernel, caller: Caller, space: Space, made: list[tuple[str, int, dict[Span, int]]]) -> None:
    calls = [
        Call(
            add_file,
            caller,
            AddFile(
                space=space.asset, generation=space.generation, sha256=sha256, size=size,
                spans=[(*span, offset) for span, offset in offsets.items()],
            ),
        )
        for sha256, size, offsets in made
    ]  # fmt: skip
    outcomes = execute_all(kernel, calls)
    for outcome in outcomes:
        if isinstance(outcome, FileOut):
            held_xorbs(kernel).drop(outcome.freed)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


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

    def rebuilt(self, file: File) -> Iterator[bytes]:
        """The bytes of a file; what turns out to be damaged is lost, so that the client will send it again.

        Raises Refused hub.xet-space-renewed, and as `rebuild`.
        """
        try:
            yield from rebuild(file, self)
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
