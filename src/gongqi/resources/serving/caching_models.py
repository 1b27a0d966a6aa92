"""The table of caching: since when an organisation's answers are kept. The answers are in memory alone (`plane.cache`)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class CacheSince(Base):
    """The gateway's version `number` from which on answers to calls of `org` are kept: none from before is given again."""

    __tablename__ = "model_cache"

    org: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    at: Mapped[datetime]
