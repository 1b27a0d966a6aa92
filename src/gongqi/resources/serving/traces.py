"""A span for each call of the gateway, sent to a collector of OpenTelemetry where the operator names one.

Spans are made from what is settled, on the thread that settles, so a call pays nothing for them, sent or not; and each
call is in one span, at most. They are sent by the SDK's own thread (OTLP over HTTP, protobuf), as its standard variables
say. Of a collector that is away the latest MAX_WAITING spans are kept, unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise. What
was said is in no span, nor whose call it was: only the model, how long, how many tokens, how it ended.

Without OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT there is none of this, and the SDK is not imported.
Source: OpenTelemetry's environment variable specification; its semantic conventions for generative AI (client spans).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.resources.serving import metering
from gongqi.resources.serving.models import ModelRoute, Usage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

PREFIX = "OTEL_EXPORTER_OTLP_"
PROTOCOL = "http/protobuf"
QUEUE_SIZE = "OTEL_BSP_MAX_QUEUE_SIZE"
PROVIDER = "gongqi"
OPERATIONS = {"completions": "text_completion"}  # as the conventions call what we call otherwise
MAX_WAITING = 20_000  # spans: some 20 MB; books are kept in batches, and one must fit in whole
_COLUMNS = [column.name for column in Usage.__table__.columns]
ID, ROUTE, ENDING, AT, DURATION, FIRST, INPUT, CACHED, OUTPUT = map(
    _COLUMNS.index,
    ("id", "route", "ending", "at", "duration_us", "first_byte_us", "input_tokens", "cached_tokens", "output_tokens"),
)

log = structlog.get_logger("gongqi.serving.traces")


def tracing(environment: Mapping[str, str]) -> Traces | None:
    """As the standard variables say: none where no collector is named, or traces are turned off.

    Raises Refused serving.traces-protocol for a collector that is to be spoken to otherwise.
    """
    if not any(environment.get(f"{PREFIX}{name}") for name in ("TRACES_ENDPOINT", "ENDPOINT")):
        return None
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    protocol = environment.get(f"{PREFIX}TRACES_PROTOCOL") or environment.get(f"{PREFIX}PROTOCOL") or PROTOCOL
    if protocol != PROTOCOL:
        raise Refused("serving.traces-protocol", protocol=protocol[:40], known=PROTOCOL)
    return Traces(None if QUEUE_SIZE in environment else MAX_WAITING)


class Traces:
    """`tell` of what was settled, and `stop`."""

    def __init__(self, max_waiting: int | None) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = Resource.create({"service.name": "gongqi"} | dict(OTELResourceDetector().detect().attributes))
        self._scope = InstrumentationScope("gongqi.gateway")
        self._processor = BatchSpanProcessor(OTLPSpanExporter(), max_queue_size=max_waiting)

    def stop(self) -> None:
        """What waits is sent, for as long as the SDK gives it."""
        self._processor.shutdown()

    def tell(self, kernel: Any, records: Sequence[Sequence[Any]]) -> None:
        """What was settled: records of a spool, of which the ends of calls are spans. Never raises: books do not wait."""
        try:
            ended = [record[1:] for record in records if record[0] == "e"]
            models = kernel.look(lambda ctx: _models(ctx, {call[ROUTE] for call in ended})) if ended else {}
            for call in ended:
                self._processor.on_end(self._span(call, *models.get(call[ROUTE], ("", ""))))
        except Exception as error:
            log.warning("calls could not be made spans", error=repr(error))

    def _span(self, call: Sequence[Any], model: str, kind: str) -> ReadableSpan:
        """Its ids are made from that of the call, so twice is once."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        digest = sha256(call[ID].encode()).digest()
        trace, span = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
        operation = OPERATIONS.get(kind, kind)
        told: dict[str, str | int] = {
            "gen_ai.operation.name": operation, "gen_ai.provider.name": PROVIDER, "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": call[INPUT], "gen_ai.usage.output_tokens": call[OUTPUT],
        }  # fmt: skip
        if call[CACHED]:
            told["gen_ai.usage.cache_read.input_tokens"] = call[CACHED]
        if call[FIRST] is not None:
            told["gongqi.first_byte_us"] = call[FIRST]
        is_whole = call[ENDING] == metering.COMPLETE
        if not is_whole:
            told["error.type"] = call[ENDING]
        return ReadableSpan(
            f"{operation} {model}", SpanContext(trace, span, False, TraceFlags(TraceFlags.SAMPLED)),
            resource=self._resource, attributes=told, kind=SpanKind.CLIENT,
            status=Status() if is_whole else Status(StatusCode.ERROR), start_time=call[AT] * 1000,
            end_time=(call[AT] + call[DURATION]) * 1000, instrumentation_scope=self._scope,
        )  # fmt: skip


def _models(ctx: Read, routes: set[str]) -> dict[str, tuple[str, str]]:
    found = ctx.session.execute(
        select(ModelRoute.id, ModelRoute.name, ModelRoute.kind).where(ModelRoute.id.in_(routes))
    )
    return {row.id: (row.name, row.kind) for row in found}
