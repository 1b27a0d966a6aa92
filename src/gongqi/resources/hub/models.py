"""The tables of the hub: assets, the bytes they are made of, revisions, lineage, releases.

Invariants
- A revision, its files and its lineage are written once, with the revision, and never changed.
- Bytes belong to whoever uploaded them: a file is committed only by an organisation that has shown that it holds it.
- What an organisation holds is counted, and goes back when it is in no revision for a week (quotas.py).
- An asset that was deleted keeps its row: nothing else takes its id, and lineage to it stays true (addresses.py).
- A file was inspected under the very name it bears, because a name can promise a program (see safety.py).
- A lineage points from the derived revision to its source, which existed before; so lineage has no cycles.
- What an asset is found by is written with what it says (catalogue.py), so a search never shows how it was before.

No personal data but in `AccessRequest`: `author` and `published_by` are party ids.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from gongqi.kernel.db import Base


class Asset(Base):
    """What somebody gives: a model, a dataset, code, an agent. `visibility`: private, members, public.

    `gated`: whether the bytes are given to all who see the asset (open), or to whoever asked (auto) and was let in
    (manual). `deleted_at`: since then only its address still speaks of it. `standing` (standing.py): open, archived,
    withdrawn; since when and why.
    """

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
    gated: Mapped[str] = mapped_column(default="open", server_default="open")
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    standing: Mapped[str] = mapped_column(default="open", server_default="open")
    standing_reason: Mapped[str | None]
    standing_since: Mapped[datetime | None]


class FormerAddress(Base):
    """Where an asset was found until it was moved or deleted `at` this time; a new asset may take the place over."""

    __tablename__ = "former_address"

    org: Mapped[str] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(63), primary_key=True)
    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"), index=True)
    at: Mapped[datetime]


class AccessRequest(Base):
    """Somebody who asked for the bytes of a gated asset, or was let in unasked. `state`: pending, granted, refused.

    `terms` is the digest of the card that was shown when they asked; `reason` is why they were refused.

    Personal data: who wants what. Purpose: to let the asset's organisation decide, and account for, who has its bytes.
    Basis: the agreement between the two (GDPR 6(1)(b), PIPL 13(2)). Kept as long as the asset.
    """

    __tablename__ = "access_request"
    __table_args__ = (UniqueConstraint("asset", "party"), Index(None, "asset", "state", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"))
    party: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    terms: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None]
    asked_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]


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


class XorbSpace(Base):
    """How often an asset has lost xorbs that its clients had sent, where it has (extents.py)."""

    __tablename__ = "xorb_space"

    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    generation: Mapped[int]


class ReceivedXorb(Base):
    """A xorb that was brought to an asset. `name` is its hash as Xet writes it; `hashes`, `ends` and `places` are its
    chunks as xet/chunks.py and xet/xorbs.py list them, 64-bit numbers in little-endian order. `held` names the file
    with its `size` bytes as they came, None since extents cover it."""

    __tablename__ = "xorb"
    __table_args__ = (Index(None, "held"),)

    space: Mapped[str] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    chunks: Mapped[int]
    hashes: Mapped[bytes] = mapped_column(deferred=True)  # up to 256 KiB
    ends: Mapped[bytes] = mapped_column(deferred=True)
    places: Mapped[bytes] = mapped_column(deferred=True)
    size: Mapped[int]
    held: Mapped[str | None]
    at: Mapped[datetime]


class Extent(Base):
    """Chunks [start, end) of a xorb lie side by side in a blob, from `offset` on."""

    __tablename__ = "extent"
    __table_args__ = (ForeignKeyConstraint(["space", "xorb"], ["xorb.space", "xorb.name"]),)

    space: Mapped[str] = mapped_column(primary_key=True)
    xorb: Mapped[str] = mapped_column(String(64), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    end: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), primary_key=True, index=True)
    offset: Mapped[int]


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


class ReleaseDocument(Base):
    """A document about a published release, by its file name, as documents.py keeps it. Written once."""

    __tablename__ = "release_document"

    release: Mapped[str] = mapped_column(ForeignKey("release.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    media_type: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]
    content: Mapped[bytes] = mapped_column(deferred=True)  # up to 32 MiB that lists do not need
    at: Mapped[datetime]


class Shelved(Base):
    """A manifest or a config of an OCI artefact as it was once told, by its digest (oci/shelf.py).

    `revision`: whose files the manifest lists, and two revisions may be told of in the same words; empty for a config,
    and for a manifest about another, its `subject`.
    """

    __tablename__ = "oci_shelf"
    __table_args__ = (Index(None, "asset", "revision"), Index(None, "asset", "subject"))

    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    revision: Mapped[str] = mapped_column(primary_key=True)
    media_type: Mapped[str]
    artifact_type: Mapped[str]
    subject: Mapped[str | None] = mapped_column(String(64))
    content: Mapped[bytes] = mapped_column(deferred=True)  # up to 4 MiB that lists do not need
    size: Mapped[int]
    at: Mapped[datetime]


class Terms(TypeDecorator[tuple[str, ...]]):
    """Terms in their order (terms.py); written, and searched by the database, but never read back."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(TSVECTOR() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str:
        terms = value or ()
        if dialect.name != "postgresql":
            return " ".join(terms)
        return " ".join(f"'{term}':{place}" for place, term in enumerate(terms, 1))


class Catalogued(Base):
    """What an asset is found by (catalogue.py), and the digest of it. The order of `number` is that of coming in."""

    __tablename__ = "catalogue"
    __table_args__ = (
        Index("ix_catalogue_terms", "terms", postgresql_using="gin", info={"only": "postgresql"}).ddl_if(
            dialect="postgresql"
        ),
    )

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    terms: Mapped[tuple[str, ...]] = mapped_column(Terms, deferred=True)


class AssetLabel(Base):
    """What a room above has found out about an asset, for people to look for, such as its class of openness."""

    __tablename__ = "asset_label"

    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Downloads(Base):
    """How often a revision was downloaded on a day, counted from 1970; on day 0, before the days that are recent."""

    __tablename__ = "downloads"
    __table_args__ = (Index(None, "day"),)

    revision: Mapped[str] = mapped_column(ForeignKey("revision.id"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int]


class Popularity(Base):
    """How often an asset was downloaded in the recent days and in all: its rows of Downloads, added up."""

    __tablename__ = "popularity"

    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    recent: Mapped[int]
    total: Mapped[int]


class DownloadMark(Base):
    """Some client had some asset on this day, and was counted (counting.py).

    Personal data only to who has the key of this home and guesses the client: a keyed hash. Purpose: to count nobody
    twice. Basis: legitimate interest (GDPR 6(1)(f)), PIPL 13(2). Kept for two days at most.
    """

    __tablename__ = "download_mark"
    __table_args__ = (Index(None, "day"),)

    mark: Mapped[bytes] = mapped_column(primary_key=True)
    day: Mapped[int]


# SQLite keeps the terms of the catalogue in a table of its own (FTS5, "External Content Tables"), in step by triggers.
# Terms come ready made: what is not ASCII is part of a term anyway, and so is what marks and labels are written with.
_OLD = "INSERT INTO catalogue_terms (catalogue_terms, rowid, terms) VALUES ('delete', OLD.number, OLD.terms)"
_NEW = "INSERT INTO catalogue_terms (rowid, terms) VALUES (NEW.number, NEW.terms)"
CATALOGUE_ON_SQLITE = (
    "CREATE VIRTUAL TABLE catalogue_terms USING fts5(terms, content='catalogue', content_rowid='number', columnsize=0, "
    "tokenize=\"ascii tokenchars '_.+:/=-'\")",
    f"CREATE TRIGGER catalogue_in AFTER INSERT ON catalogue BEGIN {_NEW}; END",
    f"CREATE TRIGGER catalogue_out AFTER DELETE ON catalogue BEGIN {_OLD}; END",
    f"CREATE TRIGGER catalogue_anew AFTER UPDATE ON catalogue BEGIN {_OLD}; {_NEW}; END",
)

for _statement in CATALOGUE_ON_SQLITE:
    event.listen(Catalogued.__table__, "after_create", DDL(_statement).execute_if(dialect="sqlite"))
