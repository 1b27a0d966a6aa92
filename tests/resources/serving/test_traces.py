"""Spans of settled calls, as a collector of OpenTelemetry gets them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.plane import spool
from gongqi.resources.serving.settlement import drain
from gongqi.resources.serving.traces import Traces, tracing
from tests.sim.desk import Client, Desk, open_desk

NAMED = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Collector(HTTPServer):
    """Keeps what it is sent; answers with `status`."""

    status = 200

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], Any]] = []
        super().__init__(("127.0.0.1", 0), _Take)

    @property
    def spans(self) -> list[Any]:
        return [span for _, _, said in self.got for span in said.resource_spans[0].scope_spans[0].spans]


def attributes(each: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in each.attributes}


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, dict(self.headers), ExportTraceServiceRequest.FromString(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("traces")
    with new_database(folder) as url, open_desk(folder, url) as made:
        yield made


def settled(desk: Desk, folder: Path, traces: Traces | None) -> list[Any]:
    """One call that came to its end and one that did not, settled from a spool."""
    client = Client(desk, desk.organisation(100))
    route = desk.priced_route()
    client.call(route, 5, 3)
    client.call(route, 5, 2)
    client.records[1][7] = "cut"
    for record, at in zip(client.records, (1_000_000, 2_000_000), strict=True):
        record[8], record[9], record[10] = at, 250_000, 40_000
    place = folder / client.plane
    place.mkdir()
    (place / "00000001.log").write_bytes(b"".join(map(spool.line_of, client.records)))
    drain(desk.kernel, place, traces)
    return client.records


def test_each_settled_call_is_a_span_of_the_conventions(
    desk: Desk, tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        NAMED: f"http://127.0.0.1:{collector.server_port}/", "OTEL_SERVICE_NAME": "a gateway",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%20b", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    traces = tracing(environment)
    assert traces is not None
    settled(desk, tmp_path, traces)
    traces.stop()
    path, headers, said = collector.got[0]
    assert path == "/v1/traces" and headers["x-team"] == "a b"
    about = attributes(said.resource_spans[0].resource)
    assert about["service.name"] == "a gateway" and about["deployment.environment"] == "test"
    whole, cut = collector.spans
    told = attributes(whole)
    assert whole.name == f"chat {told['gen_ai.request.model']}" and whole.kind == Span.SPAN_KIND_CLIENT
    assert (told["gen_ai.operation.name"], told["gen_ai.usage.input_tokens"]) == ("chat", 3)
    assert (whole.start_time_unix_nano, whole.end_time_unix_nano) == (1_000_000_000, 1_250_000_000)
    assert whole.status.code == Status.STATUS_CODE_UNSET
    assert attributes(cut)["error.type"] == "cut" and cut.status.code == Status.STATUS_CODE_ERROR
    assert len(whole.trace_id) == 16 and len(whole.span_id) == 8 and whole.trace_id != cut.trace_id


@pytest.mark.parametrize(
    "environment",
    [{}, {NAMED: "http://x", "OTEL_SDK_DISABLED": "true"}, {NAMED: "http://x", "OTEL_TRACES_EXPORTER": "none"}],
)
def test_without_a_collector_there_are_no_spans(environment: dict[str, str]) -> None:
    assert tracing(environment) is None


def test_a_collector_that_is_to_be_spoken_to_otherwise_is_refused_at_the_start() -> None:
    with pytest.raises(Refused, match=r"serving\.traces-protocol"):
        tracing({NAMED: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_the_books_do_not_wait_for_a_collector_that_is_away(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {NAMED: "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    traces = tracing(environment)
    assert traces is not None
    records = settled(desk, tmp_path, traces)
    assert desk.ask("serving:usage:get", usage=records[0][1]).ending == "complete"
    traces.stop()
