"""The tables of what callers say of answers. Content is bytes that nobody here looks into; the rest says what became of it.

Invariants
- Of a call, each kind of feedback waits at most once, and is returned at most once.
- Feedback is in exactly one of four states; what is returned or removed has no content any more.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Feedback(Base):
    """What a caller said of an answer it got: `kinds` are some of rating, outcome, correction (`serving.feedback`).

    `state`: waiting; claimed, by `batch` that brings it into a dataset; returned, with that; removed, for `reason`. Only
    what waits or is claimed has `content`, JSON: personal data may be in it, from whoever sent it. Purpose, basis and
    retention are those of the agreement it was given under, by its digest; it is seen by the organisation that gave it.
    """

    __tablename__ = "model_feedback"
    __table_args__ = (
        Index(None, "call"),
        Index(None, "key", "state"),
        Index(None, "org", "id"),
        Index(None, "route", "state", "id"),
        Index(None, "batch"),
        Index(None, "state", "until"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    call: Mapped[str]
    org: Mapped[str]
    key: Mapped[str] = mapped_column(ForeignKey("model_key.id"))
    route: Mapped[str] = mapped_column(ForeignKey("model_route.id"))
    release: Mapped[str | None]
    called_at: Mapped[datetime]
    kinds: Mapped[list[Any]]
    rating: Mapped[str | None]
    agreement: Mapped[str] = mapped_column(String(64))
    content: Mapped[bytes | None]
    state: Mapped[str]
    batch: Mapped[str | None]
    reason: Mapped[str | None]
    at: Mapped[datetime]
    until: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    evidence: Mapped[str]
