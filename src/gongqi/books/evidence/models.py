"""Tables of the evidence book.

`evidence_entry` holds what happened as the exact bytes that the log hashes (`leaf`); the other columns repeat parts of
them so that they can be searched, and `gongqi verify log` compares them. A row is written by the verb it is about;
later the sequencer sets `index`, once. `private` stays outside the log, which holds only its digest: it may be erased
(set to NULL) without harm to the log. Purpose: to show who did what; basis: the foundation's statutes; retention: the
row for ever, `private` for as long as its owner allows.

`evidence_checkpoint` keeps signed checkpoints: the two newest, and the last one of each bundle of 256 entries. One is
kept before it is published, and only if it continues the newest: so no size is ever signed twice.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class EntryRow(Base):
    __tablename__ = "evidence_entry"

    id: Mapped[str] = mapped_column(primary_key=True)
    index: Mapped[int | None] = mapped_column(unique=True)
    kind: Mapped[str]
    actor: Mapped[str]
    verb: Mapped[str]
    subject: Mapped[str]
    at: Mapped[datetime]
    leaf: Mapped[bytes]
    private: Mapped[bytes | None]

    __table_args__ = (
        Index(None, "kind", "id"),
        Index(None, "subject", "id"),
        Index(
            "ix_evidence_entry_unsequenced",
            "at",
            "id",
            sqlite_where=index.column.is_(None),
            postgresql_where=index.column.is_(None),
        ),
    )

    @property
    def public(self) -> dict[str, Any]:
        return orjson.loads(self.leaf)

    @property
    def facts(self) -> dict[str, Any]:
        return self.public["facts"]

    @property
    def private_digest(self) -> str | None:
        return self.public.get("private_digest")

    @property
    def request_id(self) -> str | None:
        return self.public.get("request_id")


class CheckpointRow(Base):
    __tablename__ = "evidence_checkpoint"

    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str]
