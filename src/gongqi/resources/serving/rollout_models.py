"""The tables of roll-outs and shadows: what is tried behind a model's name, and how it fares in each process.

No personal data: counts of calls, without whose they are.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base, Json


class ModelRollout(Base):
    """A new target of a route, and how much of its calls it has (`serving.climbing`). `state`: climbing; held, at its
    share; complete, in the place of the old one; rolled-back, for `reason`.

    `seen`, `weights`: the sums that were last compared, and what came of it, by rule. `path`: each share with its time and
    the sums at its beginning. While it is open calls went to `endpoint` under the gateway's versions from `began_version`
    to `ended_version`, and what answered them was `release`.
    """

    __tablename__ = "model_rollout"
    __table_args__ = (Index(None, "route", "id"), Index(None, "state"), Index(None, "endpoint", "state"))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(ForeignKey("model_route.id"))
    org: Mapped[str]
    endpoint: Mapped[str] = mapped_column(ForeignKey("model_endpoint.id"))
    model: Mapped[str]
    release: Mapped[str | None]
    steps: Mapped[list[Any]]
    hold_seconds: Mapped[int]
    calls: Mapped[int]
    slow_ms: Mapped[int | None]
    state: Mapped[str]
    percent: Mapped[int]
    step_at: Mapped[datetime]
    step_calls: Mapped[int]
    seen: Mapped[dict[str, Any]]
    weights: Mapped[dict[str, Any]]
    path: Mapped[list[Any]]
    reason: Mapped[str | None]
    began_version: Mapped[int]
    ended_version: Mapped[int | None]
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    evidence: Mapped[str]


class ModelTally(Base):
    """How a roll-out or a shadow (`subject`) fared in the life of one process so far: sums, as it last reported them."""

    __tablename__ = "model_tally"
    __table_args__ = (Index(None, "at"),)

    subject: Mapped[str] = mapped_column(primary_key=True)
    plane: Mapped[str] = mapped_column(primary_key=True)
    figures: Mapped[dict[str, Any]] = mapped_column(Json)
    at: Mapped[datetime]


class ModelShadow(Base):
    """Where `percent` of a route's calls are made once more, for nobody. `state`: mirroring, ended; one a route mirrors.
    `release` is what runs there, None for an outside model."""

    __tablename__ = "model_shadow"
    __table_args__ = (Index(None, "route", "id"), Index(None, "state"))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(ForeignKey("model_route.id"))
    org: Mapped[str]
    endpoint: Mapped[str] = mapped_column(ForeignKey("model_endpoint.id"))
    model: Mapped[str]
    release: Mapped[str | None]
    percent: Mapped[int]
    state: Mapped[str]
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    evidence: Mapped[str]
