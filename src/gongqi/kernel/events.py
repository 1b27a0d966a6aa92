"""Events: what has happened, told downward-to-upward after the commit.

An event is a frozen, versioned dataclass in the past tense. `emit` writes it to the outbox in the verb's own transaction,
together with one delivery flow per handler, so it is delivered if and only if the verb committed: at least once, with
retries and a dead letter like any other flow. A handler's database work commits together with the mark that it ran.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base

if TYPE_CHECKING:
    from gongqi.kernel.verbs import Write


@dataclass(frozen=True, slots=True)
class Event:
    """Subclass with `kind` (`hub.release-published.v1`) and fields of JSON types; `subject` is what waiters wait on."""

    kind: ClassVar[str]

    @property
    def subject(self) -> str:
        raise NotImplementedError  # each event names the id it is about


@dataclass(frozen=True, slots=True)
class Handler:
    """`name` is stable: it is part of the delivery's idempotency key."""

    event: type[Event]
    name: str
    handle: Callable[[Write, Any], None]


class EventRow(Base):
    """The outbox. Holds no personal data beyond ids; kept while a delivery or a waiting flow may need it: `retention`."""

    __tablename__ = "event"
    __table_args__ = (Index(None, "kind", "subject"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    payload: Mapped[dict[str, Any]]
    emitted_at: Mapped[datetime]
