"""What a data plane counts of its calls for whoever watches it: how many, how long, how many tokens, what was refused.

A call is counted once, when it has ended, in about a microsecond: no lock, no label to be looked up, nothing rounded. The
process leaves its sums beside its spool, where the server reads those of all processes of a home (`serving.metrics`). They
are of this life of the process: what was charged is in the usage records.

Names and bounds are those of the OpenTelemetry semantic conventions for generative AI (gen_ai.server.request.duration,
gen_ai.server.time_to_first_token, gen_ai.client.token.usage).
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog

from gongqi.resources.serving.metering import Tokens

FILE = "meters.json"  # in the folder of the spool
DURATION_US = tuple(10_000 * 2**step for step in range(14))  # 0.01 s to 81.92 s
FIRST_US = tuple(
    1000 * ms for ms in (1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000)
)  # fmt: skip
TOKENS = tuple(4**step for step in range(14))  # 1 to 67,108,864

log = structlog.get_logger("gongqi.serving.meters")


class Histogram:
    """`counts` of values up to each bound, the last of those above all; their `sum`."""

    __slots__ = ("counts", "sum")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0

    def told(self) -> list[Any]:
        return [self.counts, self.sum]


class Meter:
    """Of one model, asked in one way (chat, completions, embeddings): durations by ending; `again`: answers that were given
    again from the cache, which are in no other figure."""

    __slots__ = ("again", "durations", "first", "input", "output")

    def __init__(self) -> None:
        self.again = 0
        self.durations: dict[str, Histogram] = {}
        self.first = Histogram(FIRST_US)
        self.input = Histogram(TOKENS)
        self.output = Histogram(TOKENS)

    def ended(self, ending: str, duration_us: int, first_us: int | None, tokens: Tokens) -> None:
        """Written out, since four calls of a method would cost as much again."""
        seen = self.durations.get(ending)
        if seen is None:
            seen = self.durations[ending] = Histogram(DURATION_US)
        seen.counts[bisect_left(DURATION_US, duration_us)] += 1
        seen.sum += duration_us
        if first_us is not None:
            seen = self.first
            seen.counts[bisect_left(FIRST_US, first_us)] += 1
            seen.sum += first_us
        input, _, output = tokens
        if input or output:
            seen = self.input
            seen.counts[bisect_left(TOKENS, input)] += 1
            seen.sum += input
            seen = self.output
            seen.counts[bisect_left(TOKENS, output)] += 1
            seen.sum += output

    def told(self) -> dict[str, Any]:
        durations = {ending: each.told() for ending, each in self.durations.items()}
        return {
            "durations": durations, "first": self.first.told(), "input": self.input.told(),
            "output": self.output.told(), "again": self.again,
        }  # fmt: skip


class Meters:
    """Of one process."""

    def __init__(self) -> None:
        self._since = time.time()
        self._meters: dict[tuple[str, str], Meter] = {}
        self._refusals: dict[str, int] = {}

    def of(self, model: str, kind: str) -> Meter:
        meter = self._meters.get((model, kind))
        if meter is None:
            meter = self._meters[(model, kind)] = Meter()
        return meter

    def refused(self, code: str) -> None:
        self._refusals[code] = self._refusals.get(code, 0) + 1

    def told(self, **gauges: Any) -> bytes:
        models = [[*name, meter.told()] for name, meter in self._meters.items()]
        return orjson.dumps({"since": self._since, "models": models, "refusals": self._refusals, **gauges})


def leave(folder: Path, told: bytes) -> None:
    """Put the sums where they are read, whole or not at all."""
    made = folder / f"{FILE}.tmp"
    try:
        made.write_bytes(told)
        os.replace(made, folder / FILE)
    except OSError as error:  # whoever watches will miss it; calls do not
        log.warning("the sums of this process cannot be left", error=str(error))
