"""The tables of drift: what is watched of each model, and the changes that were found."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class DriftWatch(Base):
    """What is kept of a model's calls to judge the next ones by: of each stream its latest figures, up to the time `upto`.

    No personal data: figures without whose they are.
    """

    __tablename__ = "model_drift_watch"

    route: Mapped[str] = mapped_column(ForeignKey("model_route.id"), primary_key=True)
    upto: Mapped[datetime]
    streams: Mapped[dict[str, Any]]


class Drift(Base):
    """A change in a `stream` of a model's calls (`serving.drifting`): what it was and what it is, of how many calls each.

    `org` offers the model; `release` stood behind it when the change was found.
    """

    __tablename__ = "model_drift"
    __table_args__ = (Index(None, "route", "id"), Index(None, "org", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(ForeignKey("model_route.id"))
    org: Mapped[str]
    release: Mapped[str | None]
    stream: Mapped[str]
    before: Mapped[int]
    after: Mapped[int]
    before_count: Mapped[int]
    after_count: Mapped[int]
    at: Mapped[datetime]
    evidence: Mapped[str]
