"""What has happened in the hub. Ids and digests only; whoever wants more asks the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gongqi.kernel.events import Event


@dataclass(frozen=True, slots=True)
class AssetCreated(Event):
    kind: ClassVar[str] = "hub.asset-created.v1"
    asset: str
    org: str

    @property
    def subject(self) -> str:
        return self.asset


@dataclass(frozen=True, slots=True)
class RevisionCommitted(Event):
    kind: ClassVar[str] = "hub.revision-committed.v1"
    asset: str
    revision: str
    digest: str

    @property
    def subject(self) -> str:
        return self.asset


@dataclass(frozen=True, slots=True)
class _ReleaseEvent(Event):
    release: str
    asset: str
    revision: str
    digest: str
    org: str

    @property
    def subject(self) -> str:
        return self.release


@dataclass(frozen=True, slots=True)
class ReleaseSubmitted(_ReleaseEvent):
    kind: ClassVar[str] = "hub.release-submitted.v1"


@dataclass(frozen=True, slots=True)
class ReleasePublished(_ReleaseEvent):
    kind: ClassVar[str] = "hub.release-published.v1"


@dataclass(frozen=True, slots=True)
class ReleaseWithdrawn(_ReleaseEvent):
    kind: ClassVar[str] = "hub.release-withdrawn.v1"
