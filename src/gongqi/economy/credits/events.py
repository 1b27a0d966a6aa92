"""What has happened in credits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gongqi.kernel.events import Event


@dataclass(frozen=True, slots=True)
class FeeSplit(Event):
    """The fee of a call now stands on the accounts of those who earned it."""

    kind: ClassVar[str] = "credits.fee-split.v1"
    split: str
    call: str
    unit: str
    fee: int

    @property
    def subject(self) -> str:
        return self.call
