"""The data planes of a home as Prometheus reads them: sums that each process left beside its spool, put into words.

Each process is told apart (`process`), since its sums begin with its life; those of a process that has ended are gone,
and what they counted is in the usage records. Names follow the OpenTelemetry semantic conventions for generative AI,
written as Prometheus writes them; what these do not know begins with `gongqi_gateway_`, and `gongqi_engine_` for the models
that the home runs itself.

Roll-outs and shadows are told as all processes have reported them, and by the model alone, which has one of each at a time:
their sums begin anew with the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gongqi.kernel.verbs import Read
from gongqi.resources.serving import metering, rollouts, shadows, tallies
from gongqi.resources.serving.climbing import HUNDRED
from gongqi.resources.serving.engines.host import READY, Host, State
from gongqi.resources.serving.models import SpoolMark
from gongqi.resources.serving.plane import meters, shadow, spool
from gongqi.resources.serving.routes import names_of

READ = "serving:metrics:read"
MAX_PROCESSES = 256  # of one home that are told of
MAX_SHADOWS = 256  # that are told of; of roll-outs `latest` has a limit
OVER = timedelta(hours=1)  # for so long it is told what became of a roll-out, so that an alarm can see it
OPERATIONS = {"completions": "text_completion"}  # as the conventions call what we call otherwise
MODEL = ["process", "gen_ai_request_model", "gen_ai_operation_name"]
PROCESS = ["process"]
ENGINE = ["endpoint", "engine"]
TRIED = ["gen_ai_request_model"]

log = structlog.get_logger("gongqi.serving.metrics")


def exposition(ctx: Read, root: Path) -> bytes:
    """All processes of this home, in the text format. Raises Refused."""
    ctx.require(READ)
    folders = [folder for folder in spool.folders(root) if (folder / meters.FILE).exists()][:MAX_PROCESSES]
    marks = {
        mark.plane: mark
        for mark in ctx.session.scalars(
            ctx.visible(SpoolMark, to=READ).where(SpoolMark.plane.in_([each.name for each in folders]))
        )
    }
    told: list[tuple[str, dict[str, Any], float]] = []
    for folder in folders:
        try:
            sums = orjson.loads((folder / meters.FILE).read_bytes())
            told.append((folder.name, sums, _lag(folder, marks.get(folder.name), sums["since"], ctx.now.timestamp())))
        except (OSError, ValueError) as error:  # it has just ended
            log.info("a process's sums cannot be read", process=folder.name, error=repr(error))
    registry = CollectorRegistry()
    engines = _engines(ctx.kernel.part(Host).states())
    registry.register(_Told([*_families(told), *engines, *_rollouts(ctx), *_shadows(ctx)]))
    return generate_latest(registry)


class _Told(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def _lag(folder: Path, mark: SpoolMark | None, since: float, now: float) -> float:
    """Seconds since the books last reached this spool, 0 when nothing waits there."""
    segment, offset = (mark.segment, mark.offset) if mark else (0, 0)
    sizes = [(number, path.stat().st_size) for number, path in spool.segments(folder)]
    waits = any((number > segment and size) or (number == segment and size > offset) for number, size in sizes)
    return max(0.0, now - (mark.at.timestamp() if mark else since)) if waits else 0.0


def _families(told: Sequence[tuple[str, dict[str, Any], float]]) -> Iterator[Metric]:
    duration = HistogramMetricFamily(
        "gen_ai_server_request_duration_seconds",
        "Calls, from their admission to their end",
        labels=[*MODEL, "error_type"],
    )
    first = HistogramMetricFamily(
        "gen_ai_server_time_to_first_token_seconds", "Until a model's server began to answer", labels=MODEL
    )
    usage = HistogramMetricFamily(
        "gen_ai_client_token_usage", "Tokens that calls were charged for", labels=[*MODEL, "gen_ai_token_type"]
    )
    refusals = CounterMetricFamily(
        "gongqi_gateway_refusals", "Requests that were answered with an error, by its code", labels=["process", "code"]
    )
    under_way = GaugeMetricFamily("gongqi_gateway_calls_under_way", "Calls under way", labels=PROCESS)
    depth = GaugeMetricFamily(
        "gongqi_gateway_spool_bytes", "Records that are kept until they are settled", labels=PROCESS
    )
    lag = GaugeMetricFamily(
        "gongqi_gateway_settlement_lag_seconds", "Since the books last reached this spool, 0 when nothing waits",
        labels=PROCESS,
    )  # fmt: skip
    resting = GaugeMetricFamily(
        "gongqi_gateway_upstream_resting", "1 while a model at a server is left alone after failures",
        labels=["process", "endpoint", "model"],
    )  # fmt: skip
    again = CounterMetricFamily(
        "gongqi_gateway_cached_answers", "Answers that were given again from the cache, at no cost", labels=MODEL
    )
    cache = GaugeMetricFamily("gongqi_gateway_cache_bytes", "Answers that are kept", labels=PROCESS)
    for process, sums, seconds in told:
        for model, kind, meter in sums["models"]:
            labels = [process, model, OPERATIONS.get(kind, kind)]
            for ending, values in meter["durations"].items():
                error = "" if ending == metering.COMPLETE else ending
                _add(duration, [*labels, error], meters.DURATION_US, values, 1e6)
            _add(first, labels, meters.FIRST_US, meter["first"], 1e6)
            again.add_metric(labels, meter["again"])
            for side in ("input", "output"):
                _add(usage, [*labels, side], meters.TOKENS, meter[side], 1)
        for code, count in sums["refusals"].items():
            refusals.add_metric([process, code], count)
        under_way.add_metric([process], sums["under_way"])
        depth.add_metric([process], sums["spool_bytes"])
        cache.add_metric([process], sums["cache_bytes"])
        lag.add_metric([process], seconds)
        for endpoint, model in sums["resting"]:
            resting.add_metric([process, endpoint, model], 1)
    yield from (duration, first, usage, refusals, under_way, depth, lag, resting, again, cache)


def _engines(states: Sequence[State]) -> Iterator[Metric]:
    """The models that this home runs itself, by the name of their endpoint."""
    ready = GaugeMetricFamily("gongqi_engine_ready", "1 while an engine answers", labels=ENGINE)
    restarts = CounterMetricFamily("gongqi_engine_restarts", "Times that an engine ended and began anew", labels=ENGINE)
    memory = GaugeMetricFamily("gongqi_engine_memory_bytes", "Memory of an engine's process", labels=ENGINE)
    waiting = GaugeMetricFamily(
        "gongqi_engine_waiting", "Tokens, or calls of models that write, that wait", labels=ENGINE
    )
    batches = CounterMetricFamily(
        "gongqi_engine_batches", "Runs of a model since its engine was started", labels=ENGINE
    )
    rows = CounterMetricFamily("gongqi_engine_rows", "Rows in all runs: by batches, the size of one", labels=ENGINE)
    for each in states:
        labels = [each.name, each.engine]
        ready.add_metric(labels, each.state == READY)
        restarts.add_metric(labels, each.restarts)
        memory.add_metric(labels, each.memory_bytes)
        waiting.add_metric(labels, each.waiting)
        batches.add_metric(labels, each.batches)
        rows.add_metric(labels, each.rows)
    yield from (ready, restarts, memory, waiting, batches, rows)


def _rollouts(ctx: Read) -> Iterator[Metric]:
    """Those that are open, and those that have just ended."""
    share = GaugeMetricFamily(
        "gongqi_gateway_rollout_share", "Of a model's calls, those that its new server is asked first",
        labels=[*TRIED, "state"],
    )  # fmt: skip
    sides = [*TRIED, "side"]
    calls = CounterMetricFamily(
        "gongqi_gateway_rollout_calls", "Calls that were to be answered by a side", labels=sides
    )
    faults = CounterMetricFamily("gongqi_gateway_rollout_faults", "Those of them that it failed", labels=sides)
    slow = CounterMetricFamily("gongqi_gateway_rollout_slow", "Those of them that were slow", labels=sides)
    rows = rollouts.latest(ctx, since=ctx.now - OVER)
    names = names_of(ctx, [row.route for row in rows])
    for row, pair in rollouts.with_totals(ctx, rows):
        share.add_metric([names[row.route], row.state], row.percent / HUNDRED)
        for side, sums in pair._asdict().items():
            for family, value in zip((calls, faults, slow), sums, strict=True):
                family.add_metric([names[row.route], side], value)
    yield from (share, calls, faults, slow)


def _shadows(ctx: Read) -> Iterator[Metric]:
    """Those that mirror."""
    share = GaugeMetricFamily(
        "gongqi_gateway_shadow_share", "Of a model's answered calls, those that are made once more", labels=TRIED
    )
    calls = CounterMetricFamily(
        "gongqi_gateway_shadow_calls", "Such calls, by what became of them", labels=[*TRIED, "outcome"]
    )
    rows = shadows.open_shadows(ctx)[:MAX_SHADOWS]
    names = names_of(ctx, [row.route for row in rows])
    reported = tallies.reported_of(ctx, [row.id for row in rows])
    for row in rows:
        sums: Counter[str] = Counter()
        for told in reported.get(row.id, ()):
            sums.update(told)
        share.add_metric([names[row.route]], row.percent / HUNDRED)
        for outcome in shadow.COUNTS:
            calls.add_metric([names[row.route], outcome], sums[outcome])
    yield from (share, calls)


def _add(
    family: HistogramMetricFamily, labels: list[str], bounds: Sequence[int], values: list[Any], unit: float
) -> None:
    counts, total = values
    names = [*(f"{bound / unit:g}" for bound in bounds), "+Inf"]
    family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total / unit)
