"""How a model's calls go over to a new server step by step, and when they come back. Pure thought.

Which calls. Of each hundred calls of a process exactly so many as the share says go to the new server, in an order that
SHA-256 makes of the roll-out, the process and the hundred: so the share is exact, and no caller's rhythm falls in with it.
Law: of any n calls in a row of one process, the number that went is within `bound` of n times the share.

When they come back. At each look the calls since the last one are compared: of those whose first server was the new one how
many it failed, and likewise of the old. The measure is the e-variable of Turner, Ly and Grünwald (Generic E-variables for
exact sequential k-sample tests that allow for optional stopping, JSPI 2024) for two proportions: of n_a calls with k_a
faults at the old and n_b with k_b at the new,

    E = (a/o)^k_a ((1-a)/(1-o))^(n_a-k_a) (b/o)^k_b ((1-b)/(1-o))^(n_b-k_b),   o = (n_a a + n_b b) / (n_a + n_b)

with a < b chosen before those calls were looked at. Where the new is no worse than the old, E is 1 on average at most; so
the product over all looks is a supermartingale that begins at 1, and by Ville's inequality it ever reaches 1/ALARM with a
probability of ALARM at most, however often it is looked at and however the rates move together in the course of a day.
Several b are followed side by side, and their mean goes by the same law. Faults and slowness have half of ALARM each.

At the whole share there is no old beside it. The new is then held against the highest rate that the old can well have had
(Wilson's bound, one-sided, at Z): a test of one proportion by the same kind of product.

And whatever nobody computes, each process has a brake of its own: faults fill it, good answers empty it, a full one sends no
call to the new server any more. Law: faults <= BRAKE_FAULTS + good answers / BRAKE_GOOD, and those under way when it filled.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from hashlib import sha256
from math import exp, log, sqrt
from typing import NamedTuple

HUNDRED = 100
STEPS = (5, 25, 50, HUNDRED)  # percent
HOLD_SECONDS = 600  # of a step, unless said otherwise: one look for drift falls into it
CALLS = 100  # of the new server in a step, unless said otherwise

ALARM = 0.01  # how probable it is that a roll-out comes back though the new server is no worse
WORSE = (0.02, 0.08, 0.3)  # by how much more of all calls it may fail: what is looked for
RULES = ("faults", "slow")
Z = 1.6449  # of the standard normal, one-sided 95 percent

BRAKE_FAULTS = 20
BRAKE_GOOD = 10  # good answers that make up for a fault
MOST_LOG = 700.0  # beyond, a double cannot be raised to it


class Share:
    """Which calls of one process are among `percent` of a hundred. `name` makes its order its own."""

    __slots__ = ("_name", "_number", "_order", "_place", "percent")

    def __init__(self, name: str, percent: int) -> None:
        self._name = name
        self._number = 0
        self._place = HUNDRED
        self._order: Sequence[bool] = ()
        self.percent = percent

    def takes(self) -> bool:
        """Whether the next call is one of them."""
        if self._place == HUNDRED:
            seed = sha256(f"{self._name} {self.percent} {self._number}".encode()).digest()
            self._order = [place < self.percent for place in range(HUNDRED)]
            random.Random(seed).shuffle(self._order)
            self._place = 0
            self._number += 1
        self._place += 1
        return self._order[self._place - 1]

    def becomes(self, percent: int) -> None:
        """From the next call on, in a hundred of its own."""
        if percent != self.percent:
            self.percent, self._place = percent, HUNDRED


def bound(percent: int) -> float:
    """How far the number of calls that went can be from their share, in any row of calls at this share: that many at one end
    of the row and as many at the other."""
    return 2 * percent * (HUNDRED - percent) / HUNDRED


class Brake:
    __slots__ = ("_level",)

    def __init__(self) -> None:
        self._level = 0

    @property
    def is_full(self) -> bool:
        """Whether one fault more could be more than the law allows."""
        return self._level > (BRAKE_FAULTS - 1) * BRAKE_GOOD

    def fault(self) -> None:
        self._level += BRAKE_GOOD

    def good(self) -> None:
        if self._level and not self.is_full:
            self._level -= 1


class Side(NamedTuple):
    """Of the calls whose first server this was: how many it answered or failed, how many it failed, how many were slow."""

    calls: int = 0
    faults: int = 0
    slow: int = 0

    def since(self, before: Side) -> Side:
        return Side(*(now - then for now, then in zip(self, before, strict=True)))


class Pair(NamedTuple):
    old: Side = Side()
    new: Side = Side()


def steps_of(steps: Sequence[int]) -> tuple[int, ...]:
    """The steps as they are climbed: rising, the last the whole. Raises ValueError."""
    climbed = tuple(steps)
    if not climbed or any(not 0 < step <= HUNDRED for step in climbed) or climbed[-1] != HUNDRED:
        raise ValueError("steps are 1 to 100 percent, and the last is 100")
    if any(earlier >= later for earlier, later in itertools.pairwise(climbed)):
        raise ValueError("each step is higher than the one before")
    return climbed


def is_comparable(before: Pair, now: Pair, percent: int) -> bool:
    """Whether there is something to weigh since `before`: calls of both, or of the new one where it has them all."""
    return now.new.calls > before.new.calls and (percent == HUNDRED or now.old.calls > before.old.calls)


def weighed(logs: Sequence[float], before: Pair, now: Pair, rule: str) -> list[float]:
    """The logarithms of the products, one for each of WORSE, after the calls since `before`, which are comparable."""
    old, new = now.old.since(before.old), now.new.since(before.new)
    k_old, k_new, k_before = (getattr(each, rule) for each in (old, new, before.old))
    n_before = before.old.calls
    if old.calls:
        usual = (k_before + 0.5) / (n_before + 1) if n_before else 0.01
        usual = min(max(usual, 0.001), 0.9)
        grown = [two(usual, _worse(usual, by), old.calls, k_old, new.calls, k_new) for by in WORSE]
    else:
        most = highest(k_before, n_before)
        grown = [one(most, _worse(most, by), new.calls, k_new) for by in WORSE]
    return [max(-MOST_LOG, log_before + growth) for log_before, growth in zip(logs, grown, strict=True)]


def is_worse(logs: Sequence[float]) -> bool:
    """Whether the mean of the products has reached what it reaches by chance once in 2/ALARM roll-outs."""
    return sum(exp(min(each, MOST_LOG)) for each in logs) / len(logs) >= len(RULES) / ALARM


def two(usual: float, worse: float, n_old: int, k_old: int, n_new: int, k_new: int) -> float:
    """The logarithm of E above."""
    both = (n_old * usual + n_new * worse) / (n_old + n_new)
    return _ratio(usual, both, n_old, k_old) + _ratio(worse, both, n_new, k_new)


def one(most: float, worse: float, n: int, k: int) -> float:
    """The logarithm of the ratio of likelihoods: at most 1 on average where the rate is `most` or less."""
    return _ratio(worse, most, n, k)


def highest(faults: int, calls: int) -> float:
    """The highest rate that is not out of the question for `faults` of `calls`: the upper end of Wilson's interval."""
    if not calls:
        return 0.05
    rate, spread = faults / calls, Z * Z / calls
    middle = rate + spread / 2
    width = Z * sqrt(rate * (1 - rate) / calls + spread / (4 * calls))
    return min(0.95, max(0.001, (middle + width) / (1 + spread)))


def _worse(rate: float, by: float) -> float:
    return min(rate + by, (1 + rate) / 2)


def _ratio(rate: float, against: float, n: int, k: int) -> float:
    return k * log(rate / against) + (n - k) * log((1 - rate) / (1 - against))
