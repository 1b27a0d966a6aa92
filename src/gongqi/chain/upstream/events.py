"""What has happened upstream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gongqi.kernel.events import Event


@dataclass(frozen=True, slots=True)
class _DonationEvent(Event):
    donation: str
    asset: str
    org: str

    @property
    def subject(self) -> str:
        return self.donation


@dataclass(frozen=True, slots=True)
class DonationOffered(_DonationEvent):
    kind: ClassVar[str] = "upstream.donation-offered.v1"


@dataclass(frozen=True, slots=True)
class DonationAccepted(_DonationEvent):
    kind: ClassVar[str] = "upstream.donation-accepted.v1"


@dataclass(frozen=True, slots=True)
class DonationDeclined(_DonationEvent):
    kind: ClassVar[str] = "upstream.donation-declined.v1"
