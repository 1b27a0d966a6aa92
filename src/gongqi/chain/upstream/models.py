"""Donations: what somebody gives to the foundation, and what they promise with it.

Holds no personal data: parties by id. `provenance` and `patent_text` are the donor's public words about the work.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Donation(Base):
    """One donation of one asset. `state`: offered, accepted, declined. `visibility`: how far it has opened.

    `schedule`: [{audience: members | public, opens_at: ISO time or null for at once}].
    """

    __tablename__ = "donation"
    __table_args__ = (
        Index(None, "org", "id"), Index(None, "state", "id"), Index(None, "state", "visibility"),
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


class Pledge(Base):
    """One patent pledge, with its terms as they were made (pledges.py). `ends_at`: when its notice is over, once it was
    given; `ended_for`: those against whom it was ended in defence. `named`: the beneficiaries, in words."""

    __tablename__ = "patent_pledge"
    __table_args__ = (Index(None, "asset"), Index(None, "org", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    asset: Mapped[str | None]
    donation: Mapped[str | None] = mapped_column(unique=True)
    patent_scope: Mapped[str]
    patent_text: Mapped[str]
    beneficiaries: Mapped[str]
    named: Mapped[list[Any]]
    basis: Mapped[str]
    patents: Mapped[list[Any]]
    effective_at: Mapped[datetime]
    revocation: Mapped[str]
    notice_days: Mapped[int | None]
    revocation_text: Mapped[str]
    ends_at: Mapped[datetime | None]
    ended_for: Mapped[list[Any]]
    end_reason: Mapped[str | None]
    made_at: Mapped[datetime]
    made_by: Mapped[str]
