"""Documents about a release, in forms that others read: bills of materials, descriptions, signatures for other tools.

Who writes them is not the hub's affair (chain/standards does). The hub keeps them with the release, gives them to whoever
may see it, and takes them along in the bundle. They are written once, all together, with a statement over them: in-toto,
signed as the release's own is, its subjects the documents by digest, its predicate the release and the digest of its
statement. So whoever holds a document can prove that it is the one about this release, and nobody can put in another.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import rfc8785
from sqlalchemy import select

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.signing import statement
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Output, Read, Write
from gongqi.resources.hub.bundle import DOCUMENTS_STATEMENT, DOCUMENTS_TYPE
from gongqi.resources.hub.models import Release, ReleaseDocument

STATEMENT_MEDIA_TYPE = "application/vnd.in-toto+json"
MAX_DOCUMENTS = 16  # of one release
MAX_DOCUMENT_BYTES = 32 << 20  # half of what a reader of bundles takes


@dataclass(frozen=True, slots=True)
class Document:
    """A document by its file name, such as `mlbom.json`."""

    name: str
    media_type: str
    content: bytes


class DocumentOut(Output):
    name: str
    media_type: str
    sha256: str
    size: int


def attach(ctx: Write, release: str, documents: Sequence[Document]) -> str:
    """Keep the documents of a published release, which has none yet, with a signed statement over them.

    Returns the digest of that statement.
    """
    row = ctx.session.get(Release, release)
    assert row is not None and row.statement_digest and len(documents) <= MAX_DOCUMENTS
    predicate = {
        "release": {"id": row.id, "name": row.name},
        "statement": row.statement_digest,
        "made_at": ctx.now.isoformat(timespec="microseconds"),
    }
    subjects = {each.name: sha256(each.content).hexdigest() for each in documents}
    envelope = evidence.sign_statement(ctx, statement(subjects, DOCUMENTS_TYPE, predicate))
    signed = Document(DOCUMENTS_STATEMENT, STATEMENT_MEDIA_TYPE, rfc8785.dumps(envelope))
    ctx.session.add_all(
        ReleaseDocument(
            release=row.id, name=each.name, media_type=each.media_type, content=each.content,
            sha256=sha256(each.content).hexdigest(), size=len(each.content), at=ctx.now,
        )
        for each in (*documents, signed)
    )  # fmt: skip
    digest = sha256(b64decode(envelope["payload"])).hexdigest()
    ctx.record(row.id, kind="hub.release-documented", documents=subjects, statement_digest=digest)
    ctx.session.flush()
    return digest


def documents_of(ctx: Read, release: str) -> list[DocumentOut]:
    """What there is of a release that the reader may see, the statement over them too. Raises Refused access.*."""
    row = ctx.find(Release, release, to="hub:release:read")
    found = select(ReleaseDocument).where(ReleaseDocument.release == row.id).order_by(ReleaseDocument.name)
    return [DocumentOut.model_validate(each) for each in ctx.session.scalars(found)]


def document_content(ctx: Read, release: str, name: str) -> bytes:
    """One of them; the caller has authorised. Raises Refused access.not-found."""
    named = ReleaseDocument.release == release, ReleaseDocument.name == name
    content = ctx.session.scalar(select(ReleaseDocument.content).where(*named))
    if content is None:
        raise Refused("access.not-found", kind="document", key=name[:100])
    return content


def is_published(ctx: Read, release: str) -> bool:
    """Whether there can be documents of this release; the caller has authorised."""
    row = ctx.session.get(Release, release)
    return row is not None and row.statement_digest is not None


def undocumented(ctx: Read, *, limit: int) -> list[str]:
    """Published releases that have no documents yet, oldest first."""
    has = select(ReleaseDocument.release).where(ReleaseDocument.release == Release.id).exists()
    published = select(Release.id).where(Release.statement_digest.is_not(None), ~has)
    return list(ctx.session.scalars(published.order_by(Release.id).limit(limit)))
