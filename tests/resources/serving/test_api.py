"""The Open Inference Protocol v2 over HTTP, with real tokens, and its faults in both languages."""

from __future__ import annotations

import threading

import anyio
import httpx
import pytest
from starlette.testclient import TestClient

from gongqi.doors.web.server import build as build_app
from gongqi.resources.serving.api import MAX_BODY_BYTES
from gongqi.resources.serving.engine import Engine

INFER = "/v2/models/diagnosis/infer"


@pytest.fixture
def app(market):
    return build_app(market.kernel)


@pytest.fixture
def stranger(app):
    return TestClient(app)


@pytest.fixture
def deployment(market):
    made = market.served()
    market.fund(1000)
    market.budget(made, 1000)
    return made


@pytest.fixture
def agent(app, market, deployment):
    """A real agent of the application, with the role of a developer and a token of its own."""
    values = {"handle": "agent", "name": "Agent", "org": market.orgs["application"], "role": "developer"}
    made = market.do(market.operator, "members:agent:create", **values)
    token = market.do(market.operator, "members:token:issue", party=made.id, label="test", days=1).secret
    return TestClient(app, headers={"authorization": f"Bearer {token}"})


@pytest.mark.heavy
def test_slow_models_leave_the_rest_of_the_server_its_threads(app, agent, sim, monkeypatch):
    let_go, run = threading.Event(), Engine.run

    def slow(self, *given):
        let_go.wait(20)
        return run(self, *given)

    monkeypatch.setattr(Engine, "run", slow)
    codes = []

    async def crowd():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=30) as client:

            async def call():
                answer = await client.post(INFER, content=sim.body([(1.0, 2.0)]), headers=dict(agent.headers))
                codes.append(answer.status_code)

            async with anyio.create_task_group() as calls:
                for _ in range(45):  # more than there are threads
                    calls.start_soon(call)
                try:
                    with anyio.fail_after(10):
                        for _ in range(3):
                            assert (await client.get("/v2/health/ready")).status_code == 200
                    assert not codes
                finally:
                    let_go.set()

    anyio.run(crowd)
    assert codes == [200] * 45


def test_the_server_says_what_it_is_to_everyone(stranger):
    assert stranger.get("/v2").json()["name"] == "gongqi"
    assert stranger.get("/v2/health/live").json() == {"live": True}
    assert stranger.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("path", ["/v2/models/diagnosis", "/v2/models/diagnosis/versions/1.0.0"])
def test_a_model_says_what_it_takes_and_costs(stranger, deployment, path):
    said = stranger.get(path).json()
    assert said["versions"] == ["1.0.0"] and said["platform"] == "onnx_onnxv1"
    assert said["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 2]}]
    assert said["outputs"][0] == {"name": "label", "datatype": "INT64", "shape": [-1]}
    assert said["parameters"]["price_per_row"] == 3
    assert stranger.get(f"{path}/ready").json() == {"name": "diagnosis", "ready": True}


def test_an_agent_calls_a_model_and_pays(agent, market, deployment, sim):
    got = agent.post(INFER, content=sim.body([(1.0, 2.0)]), headers={"idempotency-key": "k"})
    assert got.status_code == 200
    assert got.json()["outputs"][0]["data"] == [1]
    again = agent.post(INFER, content=sim.body([(1.0, 2.0)]), headers={"idempotency-key": "k"})
    assert again.json() == got.json() and market.balance("application") == 997


def test_the_same_key_with_another_body_is_a_conflict(agent, sim):
    headers = {"idempotency-key": "k"}
    assert agent.post(INFER, content=sim.body([(1.0, 2.0)]), headers=headers).status_code == 200
    got = agent.post(INFER, content=sim.body([(1.0, 3.0)]), headers=headers)
    assert got.status_code == 409 and got.json()["code"] == "kernel.idempotency-key-reused"


def test_a_fault_speaks_both_protocols_and_both_languages(agent, market):
    got = agent.post(INFER, content=b'{"inputs": []}', headers={"accept-language": "zh-CN"})
    said = got.json()
    assert got.status_code == 400 and got.headers["content-type"] == "application/problem+json"
    assert said["error"] == said["detail"] == said["localized"]["zh"]["detail"]
    assert said["localized"]["en"]["remedy"].startswith("Write the request")
    assert said["code"] == "serving.request-malformed" and said["request_id"] == got.headers["x-request-id"]
    assert market.calls() == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/models/nothing", 404, "serving.model-unknown"),
        ("/v2/models/nothing/ready", 404, "serving.model-unknown"),
        ("/v2/models/diagnosis/versions/2.0.0", 404, "serving.version-unknown"),
    ],
)
def test_what_is_not_served_is_not_found(stranger, deployment, path, status, code):
    got = stranger.get(path)
    assert (got.status_code, got.json()["code"]) == (status, code)


def test_a_retired_deployment_is_gone(agent, market, deployment, sim):
    market.do(market.operator, "serving:deployment:retire", deployment=deployment.id)
    got = agent.post(INFER, content=sim.body([(1.0, 2.0)]))
    assert (got.status_code, got.json()["code"]) == (410, "serving.deployment-retired")


def test_a_stranger_is_asked_to_sign_in_before_the_body_is_read(stranger, deployment, sim):
    got = stranger.post(INFER, content=sim.body([(1.0, 2.0)]))
    assert got.status_code == 401 and "www-authenticate" in got.headers
    assert got.json()["error"]


def test_a_token_that_is_none_is_said_as_the_protocol_says_errors(stranger, deployment):
    got = stranger.get("/v2/models/diagnosis", headers={"authorization": "Bearer nonsense"})
    assert got.status_code == 401 and got.json()["error"] == got.json()["detail"]


def test_the_binary_extension_is_refused(agent, sim):
    headers = {"inference-header-content-length": "10"}
    assert agent.post(INFER, content=sim.body([(1.0, 2.0)]), headers=headers).status_code == 415


def test_no_budget_is_payment_required(agent, market, deployment, sim):
    market.budget(deployment, 0)
    got = agent.post(INFER, content=sim.body([(1.0, 2.0)]))
    assert (got.status_code, got.json()["code"]) == (402, "serving.budget-zero")


def infer_by_stream(app, token, chunks, length=None):
    """POST a body chunk by chunk; returns (status, how many bytes were taken from the stream)."""
    headers = [(b"authorization", f"Bearer {token}".encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    taken, status = 0, 0

    async def receive():
        nonlocal taken
        chunk = next(chunks, None)
        taken += len(chunk or b"")
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message):
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": INFER, "raw_path": INFER.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    anyio.run(lambda: app(scope, receive, send))
    return status, taken


@pytest.mark.parametrize("declared", [None, 100 << 20])
def test_a_hundred_megabytes_are_refused_without_being_read(app, agent, declared):
    token = agent.headers["authorization"].split()[1]
    chunk = b" " * (1 << 20)
    status, taken = infer_by_stream(app, token, (chunk for _ in range(100)), declared)
    assert status == 413
    assert taken <= (0 if declared else MAX_BODY_BYTES + len(chunk))
