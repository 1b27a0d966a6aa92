"""Which server is worth trying: lower ranks first, by weight among equals, none that has just failed again and again.

A model at a server that failed FAILURES times in a row rests for REST_SECONDS, or for as long as the server asked for
(Retry-After), and is then tried by one call before all come back. Other models there go on. (The circuit breaker of
M. Nygard, Release It!, 2007.)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from gongqi.kernel.errors import Unavailable
from gongqi.resources.serving.plane.snapshot import Route, Target

FAILURES = 5
REST_SECONDS = 5.0
MAX_REST_SECONDS = 120  # however long a server asks to be left alone


class _State:
    __slots__ = ("failures", "rests_until")

    def __init__(self) -> None:
        self.failures = 0
        self.rests_until = 0.0


def by_chance(_target: Target) -> float:
    return random.random()


class Health:
    def __init__(self) -> None:
        self._states: dict[tuple[str, str], _State] = {}

    def order(self, route: Route, now: float, draw: Callable[[Target], float] = by_chance) -> Sequence[Target]:
        """The targets that may be tried, in this order: by rank, and of one rank as they `draw`, by weight.

        Raises Unavailable serving.upstream-resting when all rest.
        """
        if not self._states and len(route.targets) == 1:
            return route.targets
        awake = [target for target in route.targets if self.is_awake(target, now)]
        if not awake:
            until = min(self._states[_place(target)].rests_until for target in route.targets)
            raise Unavailable(
                "serving.upstream-resting", retry_after_seconds=max(1, round(until - now)), model=route.name
            )
        if len(awake) == 1:
            return awake
        return sorted(awake, key=lambda target: (target.rank, -(draw(target) ** (1 / target.weight))))

    def worked(self, target: Target) -> None:
        if self._states:
            self._states.pop(_place(target), None)

    def failed(self, target: Target, now: float, rest_seconds: float | None = None) -> None:
        """`rest_seconds`: how long it asked for, at most MAX_REST_SECONDS."""
        state = self._states.setdefault(_place(target), _State())
        state.failures += 1
        if rest_seconds is not None:
            state.rests_until = now + rest_seconds
        elif state.failures >= FAILURES:
            state.rests_until = now + REST_SECONDS

    def tries(self, target: Target, now: float) -> bool:
        """Whether a call may try it now. Of one that has rested one call tries; the others wait for what it finds."""
        if not self._states:
            return True
        if not self.is_awake(target, now):
            return False
        state = self._states.get(_place(target))
        if state is not None and state.rests_until:
            state.rests_until = now + REST_SECONDS
        return True

    def resting(self, now: float) -> list[tuple[str, str]]:
        """The models that are left alone, each with its server."""
        return [place for place, state in self._states.items() if now < state.rests_until]

    def is_awake(self, target: Target, now: float) -> bool:
        if not self._states:
            return True
        state = self._states.get(_place(target))
        return state is None or now >= state.rests_until


def _place(target: Target) -> tuple[str, str]:
    return target.server.id, target.model
