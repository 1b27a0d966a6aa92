"""The tables of what comes from other hubs. No personal data: `begun_by` and `added_by` are party ids."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Source(Base):
    """Another hub that may be reached from here. `state`: open, retired.

    `is_inside`: it may be at a private address. `has_token`: its token is in the home (sources.py), never here. `org`:
    the only organisation that may import from it, None for all. `mirror_bytes`: how much of it is kept here for whoever
    asks (mirroring.py), 0 when this is no mirror of it.
    """

    __tablename__ = "hub_source"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    endpoint: Mapped[str]
    is_inside: Mapped[bool]
    has_token: Mapped[bool]
    org: Mapped[str | None]
    state: Mapped[str]
    mirror_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    added_at: Mapped[datetime]
    added_by: Mapped[str]


class Import(Base):
    """One repository elsewhere on its way to be a revision here, or arrived.

    `state`: listing, fetching, committing, done, failed, cancelled. `at` is what was asked for, `commit` what that meant.
    `license` is what the card claimed there. `tries`: failures of the moment since the last progress.
    """

    __tablename__ = "hub_import"
    __table_args__ = (Index(None, "asset", "id"), Index(None, "org", "id"), Index(None, "revision"))

    id: Mapped[str] = mapped_column(primary_key=True)
    asset: Mapped[str] = mapped_column(ForeignKey("asset.id"))
    org: Mapped[str]
    source: Mapped[str] = mapped_column(ForeignKey("hub_source.id"))
    repo: Mapped[str]
    at: Mapped[str]
    branch: Mapped[str]
    state: Mapped[str]
    commit: Mapped[str | None]
    license: Mapped[str | None]
    files: Mapped[int]
    files_done: Mapped[int]
    size_bytes: Mapped[int]
    bytes_done: Mapped[int]
    bytes_fetched: Mapped[int]
    rounds: Mapped[int]
    tries: Mapped[int]
    error: Mapped[dict[str, Any] | None]
    revision: Mapped[str | None] = mapped_column(ForeignKey("revision.id"))
    begun_at: Mapped[datetime]
    begun_by: Mapped[str]
    finished_at: Mapped[datetime | None]


class ImportedFile(Base):
    """One file of an import: the `claim` of its digest there, and once it is here and holds, its `sha256`.

    `upload` is the token of what has come in so far.
    """

    __tablename__ = "hub_imported_file"
    __table_args__ = (UniqueConstraint("import_id", "path"), Index(None, "claim"))

    import_id: Mapped[str] = mapped_column(ForeignKey("hub_import.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    size: Mapped[int]
    claim: Mapped[str] = mapped_column(String(71))
    sha256: Mapped[str | None] = mapped_column(String(64))
    upload: Mapped[str | None] = mapped_column(String(32))


class MirroredAnswer(Base):
    """What the hub that is mirrored said at an address about a repository, last `at`; `link` leads to its next page."""

    __tablename__ = "hub_mirrored_answer"
    __table_args__ = (Index(None, "source", "repo"), Index(None, "at"))

    source: Mapped[str] = mapped_column(ForeignKey("hub_source.id"), primary_key=True)
    address: Mapped[str] = mapped_column(String(1000), primary_key=True)
    repo: Mapped[str]
    content: Mapped[bytes]
    link: Mapped[str | None]
    at: Mapped[datetime]


class MirroredFile(Base):
    """A file of a commit of the hub that is mirrored, whose bytes are here, hold and were inspected."""

    __tablename__ = "hub_mirrored_file"
    __table_args__ = (Index(None, "sha256"), Index(None, "source", "used_at"))

    source: Mapped[str] = mapped_column(ForeignKey("hub_source.id"), primary_key=True)
    repo: Mapped[str] = mapped_column(primary_key=True)
    commit: Mapped[str] = mapped_column(String(64), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    claim: Mapped[str] = mapped_column(String(71))
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"))
    size: Mapped[int]
    used_at: Mapped[datetime]
