"""The Open Inference Protocol v2 over REST (KServe, "Predict Protocol - Version 2").

A model is a deployment's name, its version the name of the release that answers. Errors are one JSON body that both the
protocol's clients and ours can read: the protocol's `error`, and the members of an RFC 9457 problem. Beside it,
`/metrics` of the gateway, and the stream of its latest calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version as version_of
from typing import Any

import anyio
import anyio.to_thread
import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Endpoint
from gongqi.resources.serving import service
from gongqi.resources.serving.engine import Engine
from gongqi.resources.serving.following import follow
from gongqi.resources.serving.metrics import exposition
from gongqi.resources.serving.settlement import SPOOL

MAX_BODY_BYTES = 8 << 20  # some 400,000 numbers as JSON text
PLATFORM = "onnx_onnxv1"
MAX_AT_ONCE = 16  # of the server's 40 threads; while slow models have these, people still sign in
BINARY_HEADER = "inference-header-content-length"  # announces the binary tensor extension, which we do not speak

Answer = Callable[[Request], Awaitable[Response]]

_turns = anyio.CapacityLimiter(MAX_AT_ONCE)


def problem(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error as this protocol knows it: one member `error`, a sentence."""
    return {"error": document["detail"], **document}


async def server(request: Request) -> Response:
    return _json({"name": "gongqi", "version": version_of("gongqi"), "extensions": []})


async def live(request: Request) -> Response:
    return _json({"live": True})


async def ready(request: Request) -> Response:
    """Ready when the database answers; a model is loaded when it is first asked for."""
    return _json({"ready": await anyio.to_thread.run_sync(request.state.kernel.look, service.is_reachable)})


async def model(request: Request) -> Response:
    """What a model takes and gives: names, datatypes and shapes; -1 is a length that the request chooses."""
    return await anyio.to_thread.run_sync(_model, request, limiter=_turns)


async def model_ready(request: Request) -> Response:
    return await anyio.to_thread.run_sync(_model_ready, request, limiter=_turns)


async def infer(request: Request) -> Response:
    """Answer a request and charge for it. An `Idempotency-Key` makes a retry safe: it is never charged twice."""
    caller = request.state.caller
    service.require_caller(caller.actor)  # before megabytes travel; which organisation pays is in the body
    if BINARY_HEADER in request.headers:
        raise Refused("serving.binary-unsupported")
    body = await _read_body(request)
    path = request.path_params
    answer = await anyio.to_thread.run_sync(
        lambda: service.infer(request.state.kernel, caller, name=path["name"], version=path.get("version"), body=body),
        limiter=_turns,
    )
    return _json(answer)


async def metrics(request: Request) -> Response:
    """The data planes of the gateway, as Prometheus reads them."""
    kernel, caller = request.state.kernel, request.state.caller
    root = kernel.settings.home / SPOOL
    told = await anyio.to_thread.run_sync(kernel.look, lambda ctx: exposition(ctx, root), caller, limiter=_turns)
    return Response(told, media_type=CONTENT_TYPE_LATEST)


def _both(method: str, tail: str, handle: Answer) -> tuple[Endpoint, Endpoint]:
    return (
        Endpoint(method, f"/v2/models/{{name}}{tail}", handle, problem),
        Endpoint(method, f"/v2/models/{{name}}/versions/{{version}}{tail}", handle, problem),
    )


ENDPOINTS = (
    Endpoint("GET", "/v2", server, problem),
    Endpoint("GET", "/v2/health/live", live, problem),
    Endpoint("GET", "/v2/health/ready", ready, problem),
    Endpoint("GET", "/metrics", metrics),
    Endpoint("GET", "/api/v1/serving/tail", follow),
    *_both("GET", "", model),
    *_both("GET", "/ready", model_ready),
    *_both("POST", "/infer", infer),
)


def _model(request: Request) -> Response:
    deployment, ports = _look(request)
    tensors = [
        [{"name": port.name, "datatype": port.datatype, "shape": list(port.shape)} for port in side]
        for side in (ports.inputs, ports.outputs)
    ]
    parameters = {
        "release": deployment.release, "unit": deployment.unit, "price_per_row": deployment.price_per_row,
        "price_version": deployment.price_version,
    }  # fmt: skip
    return _json(
        {
            "name": deployment.name, "versions": [deployment.release_name], "platform": PLATFORM,
            "inputs": tensors[0], "outputs": tensors[1], "parameters": parameters,
        }
    )  # fmt: skip


def _model_ready(request: Request) -> Response:
    deployment, _ = _look(request)
    return _json({"name": deployment.name, "ready": True})


def _look(request: Request) -> tuple[service.DeploymentOut, Any]:
    kernel, path = request.state.kernel, request.path_params
    name, version = path["name"], path.get("version")
    deployment = kernel.look(lambda ctx: service.deployment_named(ctx, name, version), request.state.caller)
    return deployment, kernel.part(Engine).ports(deployment.blob)


async def _read_body(request: Request) -> bytes:
    """The whole body, refused as soon as it is known to be too large; the rest is not read."""
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
        raise Refused("kernel.body-too-large", limit_bytes=MAX_BODY_BYTES)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refused("kernel.body-too-large", limit_bytes=MAX_BODY_BYTES)
    return bytes(body)


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
