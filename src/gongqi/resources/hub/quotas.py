"""How many bytes an organisation may keep here, and what it keeps: each blob counts once, however many files it is.

Invariant: `Holding` says of every organisation what its rows of `BlobOwner` add up to, in the same transaction. Before
bytes travel `room_for` says whether they would fit (uploads under way are `intake.py`'s to count); `own` asks again when
they are taken in. Bytes that nobody has committed for `UNCOMMITTED_DAYS` go back: first their rows, here and in flows.py,
then the bytes themselves, which are the blob store's to sweep (kernel/blobs/garbage.py says why no blob in use can go).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pydantic import Field
from sqlalchemy import ColumnElement, delete, exists, or_, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Input, Output, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub import extents
from gongqi.resources.hub.foreign import MirroredFile
from gongqi.resources.hub.models import Asset, Blob, BlobOwner, File, Holding, Inspection, Revision

ID = 64  # characters; ours have 30
MAX_LIMIT_BYTES = 1 << 60
UNCOMMITTED_DAYS = 7  # longer than any upload that is still meant, and than the blob store's own grace
PAGE = 10_000  # digests read at a time
BATCH = 500  # rows let go in one transaction
REACHING = (BlobOwner.sha256, File.sha256, MirroredFile.sha256)  # what keeps the bytes of a blob here


class GetQuota(Input):
    org: str = Field(max_length=ID)


class SetQuota(Input):
    """`limit_bytes` left out: as much as the foundation's settings allow everyone."""

    org: str = Field(max_length=ID)
    limit_bytes: int | None = Field(None, ge=0, le=MAX_LIMIT_BYTES)


class QuotaOut(Output):
    """`is_own_limit`: set for this organisation, rather than the limit of the settings."""

    org: str
    used_bytes: int
    blobs: int
    limit_bytes: int
    is_own_limit: bool


@verb("hub:quota:set", evidence="hub.quota-set")
def set_quota(ctx: Write, input: SetQuota) -> QuotaOut:
    ctx.require("hub:quota:set")
    members.require_organisation(ctx, input.org)
    _holding(ctx, input.org).limit_bytes = input.limit_bytes
    ctx.session.flush()
    ctx.record(input.org, limit_bytes=input.limit_bytes)
    return quota_of(ctx, input.org)


@read("hub:quota:get")
def get_quota(ctx: Read, input: GetQuota) -> QuotaOut:
    ctx.require("hub:quota:get", input.org)
    return quota_of(ctx, input.org)


# --- for the upload, and for rooms above: the caller has authorised --------------------------------------------------


def quota_of(ctx: Read, org: str) -> QuotaOut:
    row = ctx.session.get(Holding, org)
    own = row.limit_bytes if row else None
    return QuotaOut(
        org=org,
        used_bytes=row.used_bytes if row else 0,
        blobs=row.blobs if row else 0,
        limit_bytes=ctx.kernel.settings.quota_bytes if own is None else own,
        is_own_limit=own is not None,
    )


def room_for(ctx: Read, org: str, sha256: str) -> int | None:
    """How many bytes of this blob may come in for `org`; None when it holds the blob already, which costs nothing."""
    if ctx.session.get(BlobOwner, (sha256, org)):
        return None
    quota = quota_of(ctx, org)
    return max(0, quota.limit_bytes - quota.used_bytes)


def own(ctx: Write, *, org: str, sha256: str, size: int) -> None:
    """Note that `org` holds a blob of this size. Twice is once, and a promise to keep it anew.

    Raises Refused hub.quota-exceeded.
    """
    if owner := ctx.session.get(BlobOwner, (sha256, org)):
        owner.at = ctx.now
        return
    quota = quota_of(ctx, org)
    if quota.used_bytes + size > quota.limit_bytes:
        raise exceeded(quota.limit_bytes - quota.used_bytes, size)
    ctx.add(BlobOwner(sha256=sha256, org=org, at=ctx.now))
    _count(ctx, org, blobs=1, size=size)


def exceeded(room_bytes: int, size: int) -> Refused:
    return Refused("hub.quota-exceeded", room_bytes=max(0, room_bytes), size_bytes=size)


def digests_in_use(kernel: Kernel) -> Iterator[str]:
    """Every digest that an organisation holds or a revision names, ascending.

    Read in pages rather than in one snapshot: what is in use from before the first page to after the last is in one of
    them, and what came into use meanwhile was put meanwhile, which the blob store spares by itself.
    """
    last = ""
    while page := kernel.look(lambda ctx, last=last: _page(ctx, last)):
        yield from page
        last = page[-1]


def uncommitted(ctx: Read, *, now: datetime) -> list[tuple[str, str]]:
    """(digest, organisation) of some blobs that have been held for long and are in no revision of that organisation."""
    query = select(BlobOwner.sha256, BlobOwner.org).where(_is_uncommitted(now)).order_by(BlobOwner.at).limit(BATCH)
    return [(sha256, org) for sha256, org in ctx.session.execute(query)]


def let_go(ctx: Write, held: list[tuple[str, str]]) -> int:
    """Forget that these organisations hold these blobs, where that is still so; returns how many were let go."""
    count = 0
    for sha256, org in held:
        here = (BlobOwner.sha256 == sha256, BlobOwner.org == org)
        if not ctx.session.scalar(select(BlobOwner.sha256).where(*here, _is_uncommitted(ctx.now))):
            continue  # committed, uploaded again or let go since it was found
        blob = ctx.session.get_one(Blob, sha256)
        ctx.session.execute(delete(BlobOwner).where(*here))
        _count(ctx, org, blobs=-1, size=-blob.size)
        count += 1
        if not ctx.session.scalar(select(or_(*(exists().where(column == sha256) for column in REACHING)))):
            extents.forget(ctx, sha256)
            ctx.session.execute(delete(Inspection).where(Inspection.sha256 == sha256))
            ctx.session.delete(blob)
            ctx.session.flush()
    return count


def _is_uncommitted(now: datetime) -> ColumnElement[bool]:
    in_revision = (
        select(File.path)
        .join(Revision, Revision.id == File.revision)
        .join(Asset, Asset.id == Revision.asset)
        .where(File.sha256 == BlobOwner.sha256, Asset.org == BlobOwner.org)
        .correlate(BlobOwner)
    )
    return (BlobOwner.at < now - timedelta(days=UNCOMMITTED_DAYS)) & ~in_revision.exists()


def _page(ctx: Read, last: str) -> list[str]:
    return list(ctx.session.scalars(select(Blob.sha256).where(Blob.sha256 > last).order_by(Blob.sha256).limit(PAGE)))


def _count(ctx: Write, org: str, *, blobs: int, size: int) -> None:
    holding = _holding(ctx, org)
    holding.blobs += blobs
    holding.used_bytes += size
    ctx.session.flush()


def _holding(ctx: Write, org: str) -> Holding:
    return ctx.session.get(Holding, org) or ctx.add(Holding(org=org, used_bytes=0, blobs=0, limit_bytes=None))
