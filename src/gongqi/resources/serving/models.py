"""The tables of serving: deployments with their price, budgets of those who call, and the calls.

Invariants
- A call is reserved, then settled, released or failed. It pays at most once: each attempt has a hold of its own, and a
  new attempt begins only after the hold of the one before has ended without paying.
- A call names the release, the price and the price's version it was made under; later changes do not touch it.
- What was asked and answered is not kept: only a digest of each, so that a repeated request can be recognised.

No personal data beyond `caller`, a party id; kept as long as the ledger's entries that it explains.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Deployment(Base):
    """A release that answers calls under `name`. `state`: ready, retired. `org` hosts it.

    `agreement` is {text_zh, text_en, purpose, retention_days, version}: on what terms outcomes may be sent back.
    """

    __tablename__ = "deployment"
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    org: Mapped[str]
    asset: Mapped[str]
    release: Mapped[str] = mapped_column(index=True)
    release_name: Mapped[str]
    blob: Mapped[str] = mapped_column(String(64))
    unit: Mapped[str]
    price_per_row: Mapped[int]
    price_version: Mapped[int]
    state: Mapped[str]
    agreement: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Budget(Base):
    """How much an organisation lets its people and agents spend on one deployment, in the deployment's unit."""

    __tablename__ = "budget"
    __table_args__ = (UniqueConstraint("deployment", "org"),)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(ForeignKey("deployment.id"))
    org: Mapped[str]
    unit: Mapped[str]
    limit_amount: Mapped[int]
    spent: Mapped[int]


class Call(Base):
    """One request: `state` reserved, settled, released (its process died) or failed (the model did).

    `evidence`: the entry of its settlement. (None before revision 0004.)
    """

    __tablename__ = "call"
    __table_args__ = (
        Index(None, "deployment", "org", "state"),
        Index(None, "deployment", "id"),
        Index(None, "deployment", "state", "rows"),
        Index(None, "state", "rows"),
        Index(None, "org", "id"),
        Index(None, "state", "expires_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(ForeignKey("deployment.id"))
    release: Mapped[str]
    release_name: Mapped[str]
    blob: Mapped[str] = mapped_column(String(64))
    caller: Mapped[str]
    org: Mapped[str]
    rows: Mapped[int]
    unit: Mapped[str]
    fee: Mapped[int]
    price_version: Mapped[int]
    request_sha256: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int]
    hold: Mapped[str]
    state: Mapped[str]
    at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    latency_us: Mapped[int | None]
    result_sha256: Mapped[str | None] = mapped_column(String(64))
    evidence: Mapped[str | None]
