"""Donations: what somebody gives to the foundation, and what they promise with it.

Holds no personal data: parties by id. `provenance` and `patent_text` are the donor's public words about the work.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base

# Word for word in the index and in whatever asks, or SQLite does not see that the index serves.
PLEDGED = text("patent_scope <> 'none'")


class Donation(Base):
    """One donation of one asset. `state`: offered, accepted, declined. `visibility`: how far it has opened.

    `schedule`: [{audience: members | public, opens_at: ISO time or null for at once}].
    """

    __tablename__ = "donation"
    __table_args__ = (
        Index(None, "org", "id"), Index(None, "state", "id"), Index(None, "state", "visibility"),
        Index("ix_donation_pledged", "state", "id", sqlite_where=PLEDGED, postgresql_where=PLEDGED),
    )  # fmt: skip
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    asset: Mapped[str] = mapped_column(unique=True)
    org: Mapped[str]
    license: Mapped[str]
    provenance: Mapped[str]
    patent_scope: Mapped[str]
    patent_text: Mapped[str]
    schedule: Mapped[list[Any]]
    state: Mapped[str]
    visibility: Mapped[str]
    offered_at: Mapped[datetime]
    offered_by: Mapped[str]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    decline_reason: Mapped[str | None]
