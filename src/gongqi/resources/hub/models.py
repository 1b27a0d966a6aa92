"""The tables of the hub: assets, the bytes they are made of, revisions, lineage, releases.

Invariants
- A revision, its files and its lineage are written once, with the revision, and never changed.
- Bytes belong to whoever uploaded them: a file is committed only by an organisation that has shown that it holds it.
- What an organisation holds is counted, and goes back when it is in no revision for a week (quotas.py).
- A file was inspected under the very name it bears, because a name can promise a program (see safety.py).
- A lineage points from the derived revision to its source, which existed before; so lineage has no cycles.

No personal data: `author` and `published_by` are party ids.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Asset(Base):
    """What somebody gives: a model, a dataset, code, an agent. `visibility`: private, members, public."""

    __tablename__ = "asset"
    __table_args__ = (
        UniqueConstraint("org", "slug"),
        Index(None, "kind", "id"),
        Index(None, "org", "id"),
        Index(None, "visibility", "id"),
    )
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    slug: Mapped[str]
    kind: Mapped[str]
    title_zh: Mapped[str]
    title_en: Mapped[str]
    summary_zh: Mapped[str]
    summary_en: Mapped[str]
    visibility: Mapped[str]
    created_at: Mapped[datetime]


class Blob(Base):
    """Bytes that the blob store holds."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int]
    at: Mapped[datetime]


class BlobOwner(Base):
    """An organisation that has uploaded these bytes, last `at`, and may therefore commit them."""

    __tablename__ = "blob_owner"
    __table_args__ = (Index(None, "at"),)

    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), primary_key=True)
    org: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Holding(Base):
    """What an organisation holds in all: its rows of BlobOwner, added up. `limit_bytes` None: that of the settings."""

    __tablename__ = "holding"

    org: Mapped[str] = mapped_column(primary_key=True)
    used_bytes: Mapped[int]
    blobs: Mapped[int]
    limit_bytes: Mapped[int | None]


class Inspection(Base):
    """What safety.py found in these bytes under this file name; nothing it refuses gets this far.

    `findings`: the warnings. `external`: other files, relative to this one's folder, that an ONNX graph points at.
    """

    __tablename__ = "blob_inspection"

    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    findings: Mapped[list[Any]]
    external: Mapped[list[Any]]
    at: Mapped[datetime]


class Revision(Base):
    """One immutable state of an asset. `digest` covers all that changes its meaning (rules.revision_digest).

    `parent` is the revision before it on its branch, None for the first; numbers count over all branches.
    """

    __tablename__ = "revision"
    __table_args__ = (UniqueConstraint("asset", "number"), Index(None, "asset", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"))
    number: Mapped[int]
    parent: Mapped[str | None]
    digest: Mapped[str] = mapped_column(String(64), index=True)
    card: Mapped[dict[str, Any]]
    card_body: Mapped[str] = mapped_column(Text, deferred=True)  # up to a megabyte that lists do not need
    card_sha256: Mapped[str] = mapped_column(String(64))
    message: Mapped[str]
    author: Mapped[str]
    created_at: Mapped[datetime]


class Ref(Base):
    """A name for a revision of an asset. A branch moves with each commit on it; a tag stays where it was put."""

    __tablename__ = "ref"

    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(250), primary_key=True)
    revision: Mapped[str] = mapped_column(ForeignKey("revision.id"))
    message: Mapped[str] = mapped_column(default="")
    at: Mapped[datetime]


class File(Base):
    """A file of a revision. `license` is an SPDX expression of its own, or None when the card's applies."""

    __tablename__ = "file"

    revision: Mapped[str] = mapped_column(ForeignKey("revision.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    size: Mapped[int]
    component: Mapped[str | None]
    license: Mapped[str | None]


class Lineage(Base):
    """`from_revision` was made from `to_revision`."""

    __tablename__ = "lineage"

    from_revision: Mapped[str] = mapped_column(ForeignKey("revision.id"), primary_key=True)
    to_revision: Mapped[str] = mapped_column(ForeignKey("revision.id"), primary_key=True, index=True)
    relation: Mapped[str] = mapped_column(primary_key=True)


class Release(Base):
    """A revision under a name, with its way through the gates. `state`: draft, submitted, published, withdrawn.

    `verdict` is what the gates said at publication, `envelope` the signed statement, `evidence` its entry in the log.
    """

    __tablename__ = "release"
    __table_args__ = (
        UniqueConstraint("asset", "name"), Index(None, "asset", "id"), Index(None, "asset", "state"),
        Index(None, "revision", "state"), Index(None, "state", "asset"), Index(None, "state", "id"),
    )  # fmt: skip
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"))
    revision: Mapped[str] = mapped_column(ForeignKey("revision.id"))
    org: Mapped[str]
    name: Mapped[str]
    state: Mapped[str]
    created_at: Mapped[datetime]
    submitted_at: Mapped[datetime | None]
    verdict: Mapped[dict[str, Any] | None]
    envelope: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    statement_digest: Mapped[str | None] = mapped_column(String(64))
    evidence: Mapped[str | None]
    published_at: Mapped[datetime | None]
    published_by: Mapped[str | None]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_reason: Mapped[str | None]
