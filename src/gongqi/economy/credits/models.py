"""The tables of credits: the policies by which fees are divided, and every fee's division.

Invariants
- A policy is never changed; a new one takes its place for what is settled after it.
- A settled call has one split. It waits only while no policy was ever published; once done it is never changed.
- The lines of a done split sum to its fee.

No personal data: owners are organisations.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from gongqi.kernel.db import Base


class SplitPolicy(Base):
    """Weights in basis points, summing to 10,000. `number` counts the policies; the highest is in force."""

    __tablename__ = "split_policy"

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    service: Mapped[int]
    model: Mapped[int]
    datasets: Mapped[int]
    compute: Mapped[int]
    foundation: Mapped[int]
    published_at: Mapped[datetime]
    published_by: Mapped[str]


class SplitLine(Base):
    """What one owner got of one fee. `asset` names the dataset it was for."""

    __tablename__ = "split_line"

    split: Mapped[str] = mapped_column(ForeignKey("split.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    share: Mapped[str]
    owner: Mapped[str] = mapped_column(index=True)
    asset: Mapped[str | None]
    amount: Mapped[int]


class Split(Base):
    """`state`: waiting (no policy yet) or done. `revisions` are the model's revision and those it was made from.

    `whole` is False when the lineage was too large to be followed to its end.
    """

    __tablename__ = "split"
    __table_args__ = (Index(None, "state", "id"), Index(None, "deployment", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    call: Mapped[str] = mapped_column(unique=True)
    deployment: Mapped[str]
    release: Mapped[str]
    payer: Mapped[str] = mapped_column(index=True)
    unit: Mapped[str]
    fee: Mapped[int]
    state: Mapped[str]
    policy: Mapped[int | None]
    weights: Mapped[dict[str, Any] | None]
    revisions: Mapped[list[Any]]
    whole: Mapped[bool]
    transaction: Mapped[str | None]
    evidence: Mapped[str | None]
    settled_at: Mapped[datetime]
    split_at: Mapped[datetime | None]
    lines: Mapped[list[SplitLine]] = relationship(order_by=SplitLine.position, lazy="selectin")
