"""How much a key may do in a minute, whichever processes it calls: a bucket a key, drawn from in rations. Pure thought.

A limit of so many a minute is a bucket that holds a minute's worth and is refilled as time passes (the token bucket of
ITU-T I.371). No process asks it for every call: each draws a ration, spends it from memory, and gives back what it does
not need. What was used beyond what had been drawn is a debt, and is taken from the bucket with the next draw.

Law: what all processes together draw and do not give back within T seconds is at most a bucket and T seconds' refill,
and so what they spend at most that and a ration in each one's hands, in whatever order they come. Time is told by
whichever clock is ahead: while clocks disagree nothing is refilled twice.

A level is in units times milliseconds of a minute, so that nothing is ever rounded.
"""

from __future__ import annotations

from typing import NamedTuple

MINUTE = 60_000  # milliseconds
RATIONS = 32  # in a minute's worth: so often a minute a busy process asks, and so coarse a share is


class Bucket(NamedTuple):
    """`level` may be below zero: then what was used is more than there was."""

    level: int
    at: int


class Want(NamedTuple):
    """`back` is given back, or below zero owed; at least `least` is needed, and `most` is wished for."""

    back: int = 0
    least: int = 0
    most: int = 0


class Drawn(NamedTuple):
    """`wait`: milliseconds until what is needed is there, 0 when it has been granted."""

    granted: int
    wait: int


class Ask(NamedTuple):
    """What one process wants for one key."""

    key: str
    requests_per_minute: int
    tokens_per_minute: int
    requests: Want
    tokens: Want


class Answer(NamedTuple):
    requests: Drawn
    tokens: Drawn


def ration(limit: int) -> int:
    return max(1, limit // RATIONS)


def full(limit: int, now: int) -> Bucket:
    return Bucket(limit * MINUTE, now)


def draw(bucket: Bucket, limit: int, now: int, want: Want) -> tuple[Bucket, Drawn]:
    """What is granted now, and the bucket after it. What is needed above the limit itself waits for a full bucket."""
    refilled = bucket.level + limit * max(0, now - bucket.at)
    level = min(limit * MINUTE, min(limit * MINUTE, refilled) + want.back * MINUTE)
    needed = min(want.least, limit) * MINUTE
    granted = wait = 0
    if level < needed:
        wait = -(-(needed - level) // limit)
    else:
        granted = max(want.least, min(want.most, level // MINUTE))
    return Bucket(level - granted * MINUTE, max(bucket.at, now)), Drawn(granted, wait)
