"""What has happened in serving: ids, counts and amounts only. Events stay in the house; the log says less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gongqi.kernel.events import Event


@dataclass(frozen=True, slots=True)
class DriftFound(Event):
    """A `stream` of a model's calls is not what it was; what to make of it is for a person to say."""

    kind: ClassVar[str] = "serving.drift-found.v1"
    drift: str
    route: str
    org: str
    release: str | None
    stream: str

    @property
    def subject(self) -> str:
        return self.drift


@dataclass(frozen=True, slots=True)
class RolloutClimbed(Event):
    """`percent` of a model's calls go to a new server from now on."""

    kind: ClassVar[str] = "serving.rollout-climbed.v1"
    rollout: str
    route: str
    org: str
    release: str | None
    percent: int

    @property
    def subject(self) -> str:
        return self.rollout


@dataclass(frozen=True, slots=True)
class RolloutCompleted(Event):
    """A new server stands in the place of the old one."""

    kind: ClassVar[str] = "serving.rollout-completed.v1"
    rollout: str
    route: str
    org: str
    release: str | None

    @property
    def subject(self) -> str:
        return self.rollout


@dataclass(frozen=True, slots=True)
class RolloutRolledBack(Event):
    """All calls are the old server's again, for a `reason` (`serving.rollouts`)."""

    kind: ClassVar[str] = "serving.rollout-rolled-back.v1"
    rollout: str
    route: str
    org: str
    release: str | None
    reason: str

    @property
    def subject(self) -> str:
        return self.rollout


@dataclass(frozen=True, slots=True)
class CallSettled(Event):
    """A call was answered and paid: `fee` booked `unit`s now stand on the deployment's clearing account."""

    kind: ClassVar[str] = "serving.call-settled.v1"
    call: str
    deployment: str
    release: str
    org: str
    unit: str
    fee: int
    rows: int

    @property
    def subject(self) -> str:
        return self.call
