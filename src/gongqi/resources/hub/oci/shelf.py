"""The shelf: manifests and configs as they were told once, so that a digest that somebody wrote down stays good.

A manifest is made when it is first asked for, and kept; what was pushed is kept as it came. So a later version of this
code may make them otherwise and breaks no digest. Files are not kept here: they are the hub's blobs.

About a published release there is more to fetch, for clients that ask what refers to its manifest: each document that
the hub keeps with it (documents.py) is an artefact of one layer whose subject is that manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Read, Write
from gongqi.resources.hub.models import Release, ReleaseDocument, Shelved
from gongqi.resources.hub.oci import manifests
from gongqi.resources.hub.revisions import revision_facts

MAX_RELEASES = 20  # of one revision; their documents refer to its manifest
EMPTY = b"{}"


@dataclass(frozen=True, slots=True)
class Told:
    """A document by its digest."""

    digest: str
    media_type: str
    artifact_type: str
    content: bytes
    revision: str = ""
    subject: str | None = None


def manifest_of(kernel: Kernel, asset: str, revision: str) -> Told:
    """The manifest of a revision, made and kept if this is the first time. The caller has authorised."""
    found = kernel.look(lambda ctx: _of_revision(ctx, asset, revision))
    if found:
        return found
    content, config = manifests.described(kernel.look(lambda ctx: revision_facts(ctx, revision)))
    made = Told(manifests.digest_of(content), manifests.MANIFEST, manifests.MODEL, content, revision)
    keep(kernel, asset, [made, config_of(manifests.CONFIG, config)])
    return kernel.look(lambda ctx: _of_revision(ctx, asset, revision))  # of two who made it, the first is right


def config_of(media_type: str, content: bytes) -> Told:
    return Told(manifests.digest_of(content), media_type, "", content)


def keep(kernel: Kernel, asset: str, documents: Sequence[Told]) -> None:
    """Put these on the shelf, unless they are there. It changes nothing that anybody could see, so it is no verb."""

    def put(ctx: Write) -> None:
        for each in documents:
            if ctx.session.get(Shelved, (asset, each.digest, each.revision)) is None:
                ctx.add(
                    Shelved(
                        asset=asset, digest=each.digest, media_type=each.media_type, revision=each.revision,
                        artifact_type=each.artifact_type, subject=each.subject, content=each.content,
                        size=len(each.content), at=ctx.now,
                    )
                )  # fmt: skip

    kernel.transact(put, reason="oci.keep")


def on_shelf(ctx: Read, asset: str, digest: str) -> Told | None:
    """The document of this digest."""
    query = select(Shelved).where(Shelved.asset == asset, Shelved.digest == digest)
    row = ctx.session.scalar(query.order_by(Shelved.revision.desc()).limit(1))
    return _told(row) if row else None


def referring_to(kernel: Kernel, asset: str, digest: str) -> list[Told]:
    """What refers to a manifest, made and kept if this is the first time. The caller has authorised."""
    subject = kernel.look(lambda ctx: on_shelf(ctx, asset, digest))
    if subject is None or not subject.revision:
        return []
    made = kernel.look(lambda ctx: list(_referrers(ctx, subject)))
    known = set(kernel.look(lambda ctx: _subjects(ctx, asset, digest)))
    if fresh := [each for each in made if each.digest not in known]:
        keep(kernel, asset, [*fresh, config_of(manifests.NOTHING, EMPTY)])
    return made


def document_in(ctx: Read, asset: str, digest: str) -> tuple[str, bytes] | None:
    """(media type, bytes) of a release's document, by its digest."""
    query = select(ReleaseDocument).join(Release, Release.id == ReleaseDocument.release)
    row = ctx.session.scalar(query.where(Release.asset == asset, ReleaseDocument.sha256 == digest).limit(1))
    return (row.media_type, row.content) if row else None


def _referrers(ctx: Read, subject: Told) -> Iterator[Told]:
    releases = select(Release.id).where(Release.revision == subject.revision, Release.published_at.is_not(None))
    documents = select(ReleaseDocument).where(
        ReleaseDocument.release.in_(releases.order_by(Release.id.desc()).limit(MAX_RELEASES))
    )
    for row in ctx.session.scalars(documents.order_by(ReleaseDocument.release, ReleaseDocument.name)):
        content = manifests.about(
            (subject.digest, len(subject.content)), row.name, row.media_type, row.sha256, row.size, row.at
        )
        digest = manifests.digest_of(content)
        yield Told(digest, manifests.MANIFEST, row.media_type, content, subject=subject.digest)


def _of_revision(ctx: Read, asset: str, revision: str) -> Told | None:
    query = select(Shelved).where(Shelved.asset == asset, Shelved.revision == revision)
    row = ctx.session.scalar(query.order_by(Shelved.at, Shelved.digest).limit(1))
    return _told(row) if row else None


def _subjects(ctx: Read, asset: str, subject: str) -> list[str]:
    return list(ctx.session.scalars(select(Shelved.digest).where(Shelved.asset == asset, Shelved.subject == subject)))


def _told(row: Shelved) -> Told:
    return Told(row.digest, row.media_type, row.artifact_type, row.content, row.revision, row.subject)
