"""The tables of credits: the policies by which fees are divided, every fee's division, and what is carried between.

Invariants
- A policy is never changed; a new one takes its place for what is settled after it.
- A settled call has one split. It waits only while no policy was ever published; once done it is never changed.
- The lines of a done split sum to its fee. Fees divided by the same claims are one tally: its `fees` and `paid` are the
  sums of its splits' fees and of their lines. A reversal in the ledger undoes a payment, not a division.

No personal data: owners are organisations.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
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


class Tally(Base):
    """All that was divided on one deployment by one set of claims, whose digest is `claims`.

    `paid` is what each claim has got, in the order of the claims; what does not divide is carried by being missing here.
    """

    __tablename__ = "split_tally"

    deployment: Mapped[str] = mapped_column(primary_key=True)
    claims: Mapped[str] = mapped_column(String(64), primary_key=True)
    fees: Mapped[int]
    paid: Mapped[list[Any]]


class SplitLine(Base):
    """What one claim got of one fee, perhaps nothing yet. `asset` names the dataset it was for.

    Of all fees of the tally so far, the claim is to `weight` / `whole` and has got `total`. (None before revision 0004.)
    """

    __tablename__ = "split_line"

    split: Mapped[str] = mapped_column(ForeignKey("split.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    share: Mapped[str]
    owner: Mapped[str] = mapped_column(index=True)
    asset: Mapped[str | None]
    amount: Mapped[int]
    weight: Mapped[int | None]
    whole: Mapped[int | None]
    total: Mapped[int | None]


class Split(Base):
    """`state`: waiting (no policy yet) or done. `revisions` are the model's revision and those it was made from.

    `whole` is False when the lineage was too large to be followed to its end. `fees` are all fees of the tally, this one
    included: they number a tally's splits in the order in which they were made. (None before revision 0004.)
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
    fees: Mapped[int | None]
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
