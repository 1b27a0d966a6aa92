"""A roll-out as one process knows it: which calls try the new server first, and how both sides fare.

A call is counted by the server that it is sent to first, and by that alone, so that the two sides are drawn from the same
calls. Where the new one fails before it has said anything, or turns down what the old one then answers, the caller has the
old one's answer. Sums are of this life of the process and are reported to the control plane, which compares those of all
processes (`serving.rollouts`); the brake acts here and at once (`serving.climbing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gongqi.kernel.errors import Unavailable
from gongqi.resources.serving import metering
from gongqi.resources.serving.climbing import Brake, Share
from gongqi.resources.serving.plane.health import Health, by_chance
from gongqi.resources.serving.plane.snapshot import Rollout, Route, Target

MAX_CLIMBS = 256  # remembered, if they are not open: calls may still be under way there
BROKEN_OFF = frozenset((metering.CUT, metering.TIMED_OUT))


class Tally:
    """Of the calls that one side was to answer. `brake` is the new side's."""

    __slots__ = ("brake", "calls", "faults", "slow")

    def __init__(self, brake: Brake | None = None) -> None:
        self.calls = self.faults = self.slow = 0
        self.brake = brake

    def good(self, *, is_slow: bool) -> None:
        self.calls += 1
        self.slow += is_slow
        if self.brake is not None:
            self.brake.good()

    def fault(self) -> None:
        """A server that does not answer is slow, too."""
        self.calls += 1
        self.faults += 1
        self.slow += 1
        if self.brake is not None:
            self.brake.fault()

    def left(self) -> None:
        """The caller did not wait for the first of the answer: held against the server, and not by the brake, since callers
        have other reasons as well."""
        self.calls += 1
        self.faults += 1
        self.slow += 1

    def told(self) -> list[int]:
        return [self.calls, self.faults, self.slow]


class Climb:
    """One roll-out."""

    __slots__ = ("new", "old", "reported", "rollout", "share")

    def __init__(self, process: str, rollout: Rollout) -> None:
        self.rollout = rollout
        self.share = Share(f"{rollout.id} {process}", rollout.percent)
        self.old = Tally()
        self.new = Tally(Brake())
        self.reported: Any = None

    @property
    def is_stopped(self) -> bool:
        """Whether this process sends nothing there any more."""
        return self.new.brake is not None and self.new.brake.is_full

    def order(
        self, health: Health, route: Route, now: float, draw: Callable[[Target], float] = by_chance
    ) -> tuple[Trial | None, Sequence[Target]]:
        """(how the next call is counted, the targets that it may try). Raises Unavailable serving.upstream-resting."""
        if not self.share.takes():
            targets = health.order(route, now, draw)
            return Trial(self, self.old, now), targets
        target = self.rollout.target
        if self.is_stopped or not health.is_awake(target, now):
            return None, health.order(route, now, draw)
        try:
            others = health.order(route, now, draw)
        except Unavailable:
            others = ()
        return Trial(self, self.new, now, doubted=target if others else None), (target, *others)

    def told(self) -> dict[str, Any]:
        return {"old": self.old.told(), "new": self.new.told(), "is_stopped": self.is_stopped}


class Trial:
    """One call: counted once, by what became of its first attempt. `doubted`: the new server, where another would answer
    what it turns down."""

    __slots__ = ("_climb", "_doubted", "_is_doubted", "_since", "_tally")

    def __init__(self, climb: Climb, tally: Tally, since: float, *, doubted: Target | None = None) -> None:
        self._climb = climb
        self._tally: Tally | None = tally
        self._since = since
        self._doubted = doubted  # as this call knows it: with each snapshot the roll-out has another
        self._is_doubted = False

    def settles_for(self, target: Target, status: int) -> bool:
        """Whether this answer is the call's: all but a new server's word that the request itself is at fault, which the
        other server's answer bears out or not."""
        if self._is_doubted:
            if status == 200 and self._tally is not None:
                self._tally.fault()
            self._tally = None
        elif status != 200:
            self._is_doubted = target is self._doubted
            return not self._is_doubted
        return True

    def failed(self) -> None:
        """An attempt has. Of one whose request was turned down at first nobody will know whose fault that was."""
        if self._tally is not None and not self._is_doubted:
            self._tally.fault()
        self._tally = None

    def ended(self, ending: str, first_byte: float | None) -> None:
        tally, self._tally = self._tally, None
        if tally is None or self._is_doubted:
            return
        if ending == metering.CLIENT_GONE and first_byte is None:
            tally.left()
        elif ending in BROKEN_OFF:
            tally.fault()
        elif ending in (metering.COMPLETE, metering.CLIENT_GONE) and first_byte is not None:
            slow_us = self._climb.rollout.slow_us
            tally.good(is_slow=slow_us is not None and (first_byte - self._since) * 1e6 > slow_us)


class Climbs:
    """All roll-outs that this process has taken part in."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._known: dict[str, Climb] = {}  # oldest first

    def of(self, rollout: Rollout | None) -> Climb | None:
        return None if rollout is None else self._known[rollout.id]

    def go_by(self, rollouts: Iterable[Rollout]) -> None:
        """What a new snapshot says. A roll-out that it does not name is over, and so is its share."""
        named = {rollout.id: rollout for rollout in rollouts}
        for id in [id for id in self._known if id not in named][: max(0, len(self._known) - MAX_CLIMBS)]:
            del self._known[id]
        for rollout in named.values():
            climb = self._known.get(rollout.id)
            if climb is None:
                climb = self._known[rollout.id] = Climb(self._process, rollout)
            climb.rollout = rollout
            climb.share.becomes(rollout.percent)

    def unreported(self) -> dict[str, Any]:
        """What has changed since it was last reported."""
        news = {}
        for id, climb in self._known.items():
            told = climb.told()
            if told != climb.reported and climb.old.calls + climb.new.calls:
                news[id] = told
        return news

    def reported(self, news: dict[str, Any]) -> None:
        for id, told in news.items():
            if id in self._known:
                self._known[id].reported = told
