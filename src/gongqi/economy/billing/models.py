"""The table of billing: price lists, written once. No personal data; kept for ever, as the bills that name them are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Price(Base):
    """Version `number` of what a model's tokens cost. A new version takes the place of the last; none is ever changed.

    `tiers`: {tier: {input_nanos, cached_nanos, output_nanos}} for those that pay another price than the general one.
    """

    __tablename__ = "price"
    __table_args__ = (UniqueConstraint("route", "number"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str]
    number: Mapped[int]
    unit: Mapped[str]
    input_nanos: Mapped[int]
    cached_nanos: Mapped[int]
    output_nanos: Mapped[int]
    tiers: Mapped[dict[str, Any]]
    evidence: Mapped[str]
    published_at: Mapped[datetime]
