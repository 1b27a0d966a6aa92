"""Benchmarks: each `bench_<name>.py` has `run() -> list[Figure]`; `python -m bench` runs them all and prints one table.

A figure stands beside a peer, or the raw limit of the machine, measured in the same run: the machine is then part of
both, and their ratio says something elsewhere too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. `target` is what was promised, in words; `ratio` is value to peer_value."""

    name: str
    value: float
    unit: str
    target: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
