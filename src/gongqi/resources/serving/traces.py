"""A span for each call of the gateway, sent to a collector of OpenTelemetry where the operator names one.

Spans are made from what is settled, on the thread that settles, so a call pays nothing for them, sent or
not; and each call is in one span, at most. They are sent as OTLP over HTTP, in JSON, by a thread of their own. Of a
collector that is away MAX_WAITING spans are kept, the oldest are dropped and counted. What was said is in no span,
nor whose call it was: only the model, how long, how many tokens, how it ended.

Without OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT there is none of this.
Source: OTLP 1.x (opentelemetry-proto, JSON mapping); OpenTelemetry semantic conventions for generative AI (client spans).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import httpx
import structlog
from sqlalchemy import select

from gongqi.kernel.verbs import Read
from gongqi.resources.serving import metering
from gongqi.resources.serving.models import ModelRoute, Usage

PREFIX = "OTEL_EXPORTER_OTLP_"
PROVIDER = "gongqi"
OPERATIONS = {"completions": "text_completion"}  # as the conventions call what we call otherwise
CLIENT, FAILED = 3, 2  # SpanKind, StatusCode
SEND_SECONDS = 2.0
TIMEOUT_SECONDS = 10.0
BATCH = 500
MAX_WAITING = 20_000  # spans: some 10 MB, minutes of a busy gateway
_COLUMNS = [column.name for column in Usage.__table__.columns]
ID, ROUTE, ENDING, AT, DURATION, FIRST, INPUT, CACHED, OUTPUT = map(
    _COLUMNS.index,
    ("id", "route", "ending", "at", "duration_us", "first_byte_us", "input_tokens", "cached_tokens", "output_tokens"),
)

log = structlog.get_logger("gongqi.serving.traces")


class Traces:
    """`start`, `tell` of what was settled, `stop`."""

    def __init__(self, address: str, headers: Mapping[str, str], resource: Mapping[str, str]) -> None:
        self.address = address
        self._headers = dict(headers)
        self._resource = _attributes(resource)
        self._waiting: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="traces", daemon=True)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Traces | None:
        """As the standard variables say: none where no collector is named, or traces are turned off."""
        named = environment.get(f"{PREFIX}TRACES_ENDPOINT")
        base = environment.get(f"{PREFIX}ENDPOINT")
        is_off = (
            environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
            or environment.get("OTEL_TRACES_EXPORTER") == "none"
        )
        if is_off or not (named or base):
            return None
        headers = environment.get(f"{PREFIX}TRACES_HEADERS") or environment.get(f"{PREFIX}HEADERS", "")
        resource = {"service.name": "gongqi"} | _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        if name := environment.get("OTEL_SERVICE_NAME"):
            resource["service.name"] = name
        return cls(named or f"{str(base).rstrip('/')}/v1/traces", _pairs(headers), resource)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(TIMEOUT_SECONDS + SEND_SECONDS)

    def tell(self, kernel: Any, records: Sequence[Sequence[Any]]) -> None:
        """What was settled: records of a spool, of which the ends of calls are spans. Never raises: books do not wait."""
        try:
            ended = [record[1:] for record in records if record[0] == "e"]
            models = kernel.look(lambda ctx: _models(ctx, {call[ROUTE] for call in ended})) if ended else {}
            self._waiting.extend(span(call, *models.get(call[ROUTE], ("", ""))) for call in ended)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._dropped += 1
        except Exception as error:
            log.warning("calls could not be made spans", error=repr(error))

    def _loop(self) -> None:
        with httpx.Client(headers=self._headers, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            is_last = False
            while not is_last:
                is_last = self._stopping.wait(SEND_SECONDS)
                try:
                    while self._waiting:
                        self._send(http)
                except httpx.HTTPError as error:
                    log.warning("spans could not be sent", error=repr(error), waiting=len(self._waiting))
                if self._dropped:
                    log.warning("spans were dropped", count=self._dropped)
                    self._dropped = 0

    def _send(self, http: httpx.Client) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        scope = {"scope": {"name": "gongqi.gateway"}, "spans": batch}
        document = {"resourceSpans": [{"resource": {"attributes": self._resource}, "scopeSpans": [scope]}]}
        try:
            answer = http.post(self.address, json=document)
        except httpx.HTTPError:
            self._waiting.extendleft(reversed(batch))
            raise
        if answer.is_error:  # what a collector refuses it would refuse again
            log.warning("spans were refused", status=answer.status_code, count=len(batch))


def span(call: Sequence[Any], model: str, kind: str) -> dict[str, Any]:
    """A settled call as OTLP has it in JSON. Its ids are made from that of the call, so twice is once."""
    digest = sha256(call[ID].encode()).hexdigest()
    operation = OPERATIONS.get(kind, kind)
    told: dict[str, str | int] = {
        "gen_ai.operation.name": operation, "gen_ai.provider.name": PROVIDER, "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": call[INPUT], "gen_ai.usage.output_tokens": call[OUTPUT],
    }  # fmt: skip
    if call[CACHED]:
        told["gen_ai.usage.cache_read.input_tokens"] = call[CACHED]
    if call[FIRST] is not None:
        told["gongqi.first_byte_us"] = call[FIRST]
    if call[ENDING] != metering.COMPLETE:
        told["error.type"] = call[ENDING]
    made = {
        "traceId": digest[:32], "spanId": digest[32:48], "name": f"{operation} {model}", "kind": CLIENT,
        "startTimeUnixNano": str(call[AT] * 1000), "endTimeUnixNano": str((call[AT] + call[DURATION]) * 1000),
        "attributes": _attributes(told),
    }  # fmt: skip
    return made if call[ENDING] == metering.COMPLETE else made | {"status": {"code": FAILED}}


def _models(ctx: Read, routes: set[str]) -> dict[str, tuple[str, str]]:
    found = ctx.session.execute(
        select(ModelRoute.id, ModelRoute.name, ModelRoute.kind).where(ModelRoute.id.in_(routes))
    )
    return {row.id: (row.name, row.kind) for row in found}


def _attributes(told: Mapping[str, str | int]) -> list[dict[str, Any]]:
    """Integers are strings there, as JSON readers hold them exactly."""
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in told.items()
    ]


def _pairs(text: str) -> dict[str, str]:
    """`key=value,key=value`, percent-encoded, as the variables have it."""
    pairs = (each.partition("=") for each in text.split(",") if "=" in each)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}
