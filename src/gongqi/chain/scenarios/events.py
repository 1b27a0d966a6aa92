"""What has happened in scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gongqi.kernel.events import Event


@dataclass(frozen=True, slots=True)
class OutcomesReturned(Event):
    """`count` outcomes of a deployment have become part of a dataset's next revision."""

    kind: ClassVar[str] = "scenarios.outcomes-returned.v1"
    back: str
    deployment: str
    asset: str
    revision: str
    count: int

    @property
    def subject(self) -> str:
        return self.back


@dataclass(frozen=True, slots=True)
class FeedbackGathered(Event):
    """`count` pieces of feedback on a model's answers have become part of a dataset's next revision."""

    kind: ClassVar[str] = "scenarios.feedback-gathered.v1"
    gathering: str
    route: str
    asset: str
    revision: str
    count: int

    @property
    def subject(self) -> str:
        return self.gathering
