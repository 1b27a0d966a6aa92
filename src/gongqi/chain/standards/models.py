"""The tables of standards: what was read in files, once for each file's bytes.

Invariant: a row follows from the bytes, the form they are read in and the recipe, so it is never changed, and two that
read the same write the same. It holds a part of the file: only who may have the file is shown it (previews.py), and it goes
when the file is in no revision any more (flows.py).

Personal data: whatever the rows of a file hold, as the file itself; basis and purpose are those of the file.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Reading(Base):
    """What one file was found to hold: of a table what tables/profile.py says, of a description what donated.py does."""

    __tablename__ = "reading"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    form: Mapped[str] = mapped_column(primary_key=True)
    recipe: Mapped[int] = mapped_column(primary_key=True)
    found: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class Difference(Base):
    """What changed from one table to another (tables/difference.py)."""

    __tablename__ = "table_difference"

    before: Mapped[str] = mapped_column(String(64), primary_key=True)
    after: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    form: Mapped[str] = mapped_column(primary_key=True)
    recipe: Mapped[int] = mapped_column(primary_key=True)
    found: Mapped[dict[str, Any]]
    at: Mapped[datetime]
