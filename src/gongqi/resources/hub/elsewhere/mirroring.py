"""What a mirror keeps of the hub that it stands in for, and for how long.

Answers about repositories are kept as they came and asked for again after FRESH_SECONDS, so what opens, closes or is
withdrawn there is followed within that time; when the other side cannot be reached, what was last said stands for up to
STALE_DAYS, and the answer says so. Files are kept by their SHA-256 among all other bytes, up to the limit that the
operator set; those that were asked for longest ago go first, and only bytes that nothing else here reaches.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field
from sqlalchemy import delete, exists, func, or_, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read, Write, verb
from gongqi.resources.hub import extents
from gongqi.resources.hub.elsewhere.sources import OneSource, SourceOut
from gongqi.resources.hub.foreign import MirroredAnswer, MirroredFile, Source
from gongqi.resources.hub.inspection import Inspected
from gongqi.resources.hub.models import Blob, Inspection
from gongqi.resources.hub.quotas import MAX_LIMIT_BYTES, REACHING

FRESH_SECONDS = 60
STALE_DAYS = 30
MAX_ANSWERS = 20_000
BATCH = 500  # rows looked at together
USED_SECONDS = 3600  # how exactly the time of last use is kept: a read should not be a write


class MirrorSource(OneSource):
    """`limit_bytes`: how much of it to keep here; 0 ends the mirror."""

    limit_bytes: int = Field(ge=0, le=MAX_LIMIT_BYTES)


@verb("hub:source:mirror", evidence="hub.source-mirrored")
def mirror_source(ctx: Write, input: MirrorSource) -> SourceOut:
    """Stand in for a source: what is asked for here and is not here is fetched there. One at a time."""
    source = ctx.find(Source, input.source, to="hub:source:mirror")
    if input.limit_bytes and source.state != "open":
        raise Refused("hub.source-retired", name=source.name)
    other = select(Source.name).where(Source.mirror_bytes > 0, Source.id != source.id)
    if input.limit_bytes and (name := ctx.session.scalar(other)):
        raise Refused("hub.mirror-taken", name=name)
    source.mirror_bytes = input.limit_bytes
    if not input.limit_bytes:
        ctx.session.execute(delete(MirroredAnswer).where(MirroredAnswer.source == source.id))
    ctx.session.flush()
    evict(ctx, source)
    ctx.record(source.id, limit_bytes=input.limit_bytes)
    return SourceOut.model_validate(source)


# --- for the door: what is mirrored is public there, and so here -----------------------------------------------------


def mirrored(ctx: Read) -> Source | None:
    """The source that this foundation stands in for."""
    return ctx.session.scalar(select(Source).where(Source.mirror_bytes > 0, Source.state == "open").limit(1))


def answer_kept(ctx: Read, source: str, address: str) -> MirroredAnswer | None:
    return ctx.session.get(MirroredAnswer, (source, address))


def is_fresh(answer: MirroredAnswer, now: datetime) -> bool:
    return answer.at > now - timedelta(seconds=FRESH_SECONDS)


def is_usable(answer: MirroredAnswer, now: datetime) -> bool:
    return answer.at > now - timedelta(days=STALE_DAYS)


def keep_answer(ctx: Write, source: str, address: str, *, repo: str, content: bytes, link: str | None) -> None:
    row = ctx.session.get(MirroredAnswer, (source, address))
    if row is None:
        if (ctx.session.scalar(select(func.count()).select_from(MirroredAnswer)) or 0) >= MAX_ANSWERS:
            oldest = select(MirroredAnswer.address).order_by(MirroredAnswer.at).limit(MAX_ANSWERS // 10)
            ctx.session.execute(delete(MirroredAnswer).where(MirroredAnswer.address.in_(oldest)))
        row = ctx.add(MirroredAnswer(source=source, address=address, repo=repo, content=content, link=link, at=ctx.now))
    row.content, row.link, row.at = content, link, ctx.now
    ctx.session.flush()


def forget_repo(ctx: Write, source: Source, repo: str) -> None:
    """What the other side no longer gives to everybody is not given here either."""
    ctx.session.execute(delete(MirroredAnswer).where(MirroredAnswer.source == source.id, MirroredAnswer.repo == repo))
    files = select(MirroredFile).where(MirroredFile.source == source.id, MirroredFile.repo == repo)
    for row in ctx.session.scalars(files).all():
        _drop(ctx, row)


def has_anything(ctx: Read, source: str, repo: str) -> bool:
    kept = [exists().where(table.source == source, table.repo == repo) for table in (MirroredAnswer, MirroredFile)]
    return bool(ctx.session.scalar(select(or_(*kept))))


def file_kept(ctx: Read, source: str, repo: str, commit: str, path: str) -> MirroredFile | None:
    return ctx.session.get(MirroredFile, (source, repo, commit, path))


def keep_file(
    ctx: Write, source: str, repo: str, commit: str, path: str, *, claim: str, sha256: str, seen: Inspected
) -> None:
    """Note bytes that are in the store, hold and were inspected; and make room for them."""
    if ctx.session.get(Blob, sha256) is None:
        ctx.add(Blob(sha256=sha256, size=seen.size, at=ctx.now))
        ctx.session.flush()
    if ctx.session.get(MirroredFile, (source, repo, commit, path)) is None:
        ctx.add(
            MirroredFile(
                source=source, repo=repo, commit=commit, path=path, claim=claim, sha256=sha256, size=seen.size,
                used_at=ctx.now,
            )
        )  # fmt: skip
        ctx.session.flush()
    evict(ctx, ctx.session.get_one(Source, source))


def note_use(ctx: Write, row: MirroredFile) -> None:
    kept = ctx.session.get(MirroredFile, (row.source, row.repo, row.commit, row.path))
    if kept is not None:
        kept.used_at = ctx.now
        ctx.session.flush()


def is_used_long_ago(row: MirroredFile, now: datetime) -> bool:
    return row.used_at < now - timedelta(seconds=USED_SECONDS)


def evict(ctx: Write, source: Source) -> None:
    """Let the files go that were used longest ago, until the rest fits."""
    held = ctx.session.scalar(select(func.sum(MirroredFile.size)).where(MirroredFile.source == source.id)) or 0
    oldest = select(MirroredFile).where(MirroredFile.source == source.id).order_by(MirroredFile.used_at)
    while held > source.mirror_bytes and (rows := ctx.session.scalars(oldest.limit(BATCH)).all()):
        for row in rows:
            if held > source.mirror_bytes:
                held -= row.size
                _drop(ctx, row)


def _drop(ctx: Write, row: MirroredFile) -> None:
    """Forget a file; its bytes too, when nothing else here reaches them."""
    sha256 = row.sha256
    ctx.session.delete(row)
    ctx.session.flush()
    if not ctx.session.scalar(select(or_(*(exists().where(column == sha256) for column in REACHING)))):
        extents.forget(ctx, sha256)
        ctx.session.execute(delete(Inspection).where(Inspection.sha256 == sha256))
        ctx.session.execute(delete(Blob).where(Blob.sha256 == sha256))
