"""Benchmarks: each `bench_<name>.py` has `run() -> list[Figure]`; `python -m bench` runs them all and prints one table.

A figure stands beside a peer, or the raw limit of the machine, measured in the same run: the machine is then part of
both, and their ratio says something elsewhere too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. `target` is what was promised: "≤ 1", "≥ 1,000", or with more to it in words behind a semicolon.

    `ratio` is value to peer_value; `least_ratio` is promised of it where the target says so.
    """

    name: str
    value: float
    unit: str
    target: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    least_ratio: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the promise was kept in this run; None where nothing was promised."""
        sign, _, rest = self.target.partition(" ")
        if sign not in ("≤", "≥"):
            return None
        limit = float(rest.partition(";")[0].replace(",", ""))
        kept = self.value <= limit if sign == "≤" else self.value >= limit
        return kept and (self.least_ratio is None or (self.ratio or 0.0) >= self.least_ratio)
