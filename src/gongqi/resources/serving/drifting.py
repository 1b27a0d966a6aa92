"""Whether the calls of a model are still what they were: ADWIN over a window of figures. Pure thought.

A stream is one figure of a model's calls: tokens in and out, how long they took, whether they failed, how they were rated.
ADWIN (Bifet and Gavaldà, SIAM Data Mining 2007) looks for a place that cuts the window into two parts whose means differ
by more than chance allows, at DELTA. It wants values from 0 to 1: what grows without bound is taken by its logarithm, so
that ratios are watched, and shares are taken as they are.

Invariants
- What is kept between two looks is the figures themselves, at most WINDOW of them, and each look replays them. Nothing of
  the library's own state is kept, so a process that comes back, or a newer library, starts from the same facts.
- A full window loses its older half, so that no figure is judged from more than two beginnings: to judge the same figures
  anew at every look would find something in the end.
- A change that is certain but less than the stream's `least` is none: nobody should be called for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import log2
from statistics import fmean, median
from typing import NamedTuple

# ADWIN itself. `river.drift` wraps it, and with it loads scikit-learn and pandas: a second, and a hundred megabytes.
from river._river_rust.drift import AdaptiveWindowing

DELTA = 0.002  # of ADWIN: how probable a false cut is, each time it looks
CLOCK = 32  # figures between two looks for a cut
WINDOW = 4000  # figures of a stream that are kept
FEWEST = 50  # figures on either side of a change, for it to be spoken of
MILLION = 10**6  # shares are kept in millionths
MAX_CUTS = 50  # in one window; changes too small to tell of cut it, too


@dataclass(frozen=True, slots=True)
class Stream:
    """`ceiling`: the largest figure there can be, 1 for a share. `least`: the least change that is told of: a ratio, or of
    shares a difference."""

    ceiling: int
    least: float

    @property
    def is_share(self) -> bool:
        return self.ceiling == 1

    def scaled(self, figure: int) -> float:
        return float(figure) if self.is_share else log2(1 + min(figure, self.ceiling)) / log2(1 + self.ceiling)

    def summed(self, figures: Sequence[int]) -> int:
        """What is said of many: the median, or of a share its millionths."""
        return round(fmean(figures) * MILLION) if self.is_share else round(median(figures))

    def is_told(self, before: int, after: int) -> bool:
        if self.is_share:
            return abs(after - before) >= self.least * MILLION
        low, high = sorted((before, after))
        return high >= (low + 1) * self.least


STREAMS = {
    "input-tokens": Stream(10**7, 1.25),
    "output-tokens": Stream(10**7, 1.25),
    "latency": Stream(10**10, 1.5),  # microseconds, of calls that came to their end
    "errors": Stream(1, 0.05),
    "down-ratings": Stream(1, 0.1),
}


class Change(NamedTuple):
    """From `begins` on the figures are others: what they were and what they are, of how many each."""

    begins: int
    before: int
    after: int
    before_count: int
    after_count: int


def change_in(name: str, figures: Sequence[int]) -> Change | None:
    """The first change of this stream that is worth telling."""
    stream, start = STREAMS[name], 0
    for _ in range(MAX_CUTS):
        detector = AdaptiveWindowing(
            delta=DELTA, clock=CLOCK, max_buckets=5, min_window_length=FEWEST, grace_period=2 * FEWEST
        )
        for place in range(start, len(figures)):
            if detector.update(stream.scaled(figures[place])):
                break
        else:
            return None
        begins = start + _turn([stream.scaled(figure) for figure in figures[start : place + 1]])
        before, after = figures[start:begins], figures[begins : place + 1]
        found = Change(begins, stream.summed(before), stream.summed(after), len(before), len(after))
        if stream.is_told(found.before, found.after):
            return found
        start = begins
    return None


def _turn(values: Sequence[float]) -> int:
    """Where the mean turned: the place, from 1, at which the sum of what deviates from it is farthest from zero. ADWIN knows
    that there is one, and where only to within its buckets, which double."""
    mean = fmean(values)
    sums = list(accumulate(value - mean for value in values[:-1]))
    return 1 + max(range(len(sums)), key=lambda place: abs(sums[place]))


def kept(figures: Sequence[int]) -> list[int]:
    """What of a window is carried on: all of it, or when it is full its newer half."""
    return list(figures[-WINDOW // 2 :]) if len(figures) > WINDOW else list(figures)
