"""From what a Xet client sends to plain blobs: a xorb is verified and held, a shard makes files of xorbs.

Nothing is rebuilt before every claim that can be checked without reading has been checked, there is room, and the
lengths add up; nothing is noted before the bytes are in the store. So a death at any moment leaves at most a file that
nobody knows of, and the client, who knows of no answer, sends the same again: what was finished is then found finished.

A file is inspected when a commit gives it a name; until then it belongs to its organisation and is in no revision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pydantic import Field

from gongqi.kernel.blobs import MAX_BLOB_BYTES, Stored
from gongqi.kernel.blobs.incoming import Upload
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Call, Caller, Input, Output, Read, Write, execute, execute_all, verb
from gongqi.resources.hub import extents
from gongqi.resources.hub.drafts import Draft, drafts_of
from gongqi.resources.hub.extents import Span
from gongqi.resources.hub.intake import Share
from gongqi.resources.hub.known import Known, held_xorbs
from gongqi.resources.hub.models import Blob, ReceivedXorb
from gongqi.resources.hub.quotas import ID, exceeded, own, quota_of, room_for
from gongqi.resources.hub.xet.ahead import made_ahead
from gongqi.resources.hub.xet.hashes import parse_hash, text_of
from gongqi.resources.hub.xet.rebuild import check
from gongqi.resources.hub.xet.shards import File, Shard, parse_shard
from gongqi.resources.hub.xet.xorbs import read_xorb

NAME = Field(pattern=r"^[0-9a-f]{64}$")
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
    with drafts_of(kernel).taken(space.asset, caller.actor.id) as draft:
        for file in files:
            if file.name not in there:
                stored = _make(kernel, known, file, draft)
                made.append((file, stored.sha256, stored.size))
    _note(kernel, caller, space, [(sha256, size, asked[file.name]) for file, sha256, size in made])
    return len(there) < len(files)


def _make(kernel: Kernel, known: Known, file: File, draft: Draft | None) -> Stored:
    """The file as a blob; of what a draft of it has, nothing is made again."""
    upload, terms = (draft and draft.begun(file)) or (kernel.blobs.upload(), 0)
    with upload:
        for part in made_ahead(known.rebuilt(file, after=terms)):
            upload.feed(*part)
        return upload.finish(sha256=file.sha256)


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
