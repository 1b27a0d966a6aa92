"""What has happened in the ethics review."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gongqi.kernel.events import Event


@dataclass(frozen=True, slots=True)
class ReviewDecided(Event):
    """The board's first decision on a case. `state`: approved, refused, or expired when it was read too late."""

    kind: ClassVar[str] = "ethics.review-decided.v1"
    case: str
    release: str
    digest: str
    org: str
    state: str

    @property
    def subject(self) -> str:
        return self.case
