"""The packs that an operator has loaded. Rows are ended, never changed: what held on a day can be told later."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class LoadedPack(Base):
    """One loading. `state`: loaded, replaced (by a later loading), unloaded. `regions`: those that it speaks of; None where
    nobody wrote them down. Personal data: none but who did it."""

    __tablename__ = "pack"
    __table_args__ = (Index(None, "state", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    edition: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    regions: Mapped[list[Any] | None]
    state: Mapped[str]
    loaded_by: Mapped[str]
    loaded_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    evidence: Mapped[str]
