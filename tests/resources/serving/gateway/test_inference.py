"""Models that take tensors, at servers that speak the Open Inference Protocol: the same keys, budgets, retries, records."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from gongqi.doors.cli.client import Problem
from gongqi.doors.web.server import build as build_app
from gongqi.resources.serving.control import CREDENTIALS
from tests.resources.serving.conftest import load_market
from tests.resources.serving.gateway.conftest import Gateway

pytestmark = pytest.mark.heavy

ROW_NANOS, ANSWER_NANOS = 1000, 50
SPEAKS = "open-inference"


@pytest.fixture(autouse=True)
def healthy(gateway: Gateway) -> None:
    gateway.plane.health._states.clear()


@pytest.fixture(scope="module")
def endpoint(gateway: Gateway) -> str:
    at = gateway.upstream.url.removesuffix("/v1")
    given = {"name": "sim-oip", "base_url": at, "private": True, "speaks": SPEAKS}
    return gateway.operator.verb("serving:endpoint:add", **given)["id"]


def model(gateway: Gateway, endpoint: str, name: str, *scripts: str, rows: int = 100, **more: Any) -> str:
    targets = [
        {"endpoint": endpoint, "model": script, "rank": rank} for rank, script in enumerate(scripts or ("plain",))
    ]
    given = {"kind": "inference", "context_tokens": rows, "output_tokens": 1, "price": (ROW_NANOS, ANSWER_NANOS)}
    return gateway.route(name, targets=targets, **given | more)


def tensor(*shape: int, name: str = "x") -> dict[str, Any]:
    count = 1
    for size in shape:
        count *= size
    return {"name": name, "datatype": "FP32", "shape": list(shape), "data": [0.5] * count}


def infer(gateway: Gateway, name: str, *tensors: dict[str, Any], key: str | None = None, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    with gateway.http(key) as http:
        return http.post(
            f"/v2/models/{name}/infer", json={"inputs": list(tensors) or [tensor(3, 2)]} | more, headers=headers
        )


def test_a_call_is_answered_and_paid_by_row_and_by_answer(gateway: Gateway, endpoint: str) -> None:
    model(gateway, endpoint, "scores", "model-a/versions/3")
    answer = infer(gateway, "scores", tensor(3, 2), tensor(3, name="more"), id="seven", parameters={"threshold": 1})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "model_name": "model-a", "id": "seven", "outputs": [tensor(3, 2, name="y") | {"data": [1.0] * 6}],
    }  # fmt: skip
    assert gateway.upstream.heads[-1].startswith(b"POST /v2/models/model-a/versions/3/infer HTTP/1.1")
    assert gateway.upstream.seen[-1]["parameters"] == {"threshold": 1}
    record = gateway.settled(answer)
    assert (record["input_tokens"], record["output_tokens"]) == (3, 1)
    assert record["cost_nanos"] == 3 * ROW_NANOS + ANSWER_NANOS and not record["is_estimated"]


def test_a_model_says_what_it_is_and_whether_it_is_ready(gateway: Gateway, endpoint: str) -> None:
    model(gateway, endpoint, "vision/eyes:2", "refuse", "plain")
    with gateway.http() as http:
        told = http.get("/v2/models/vision/eyes:2").json()
        assert told["name"] == "vision/eyes:2" and told["inputs"][0]["shape"] == [-1, 2]
        assert http.get("/v2/models/vision/eyes:2/ready").json() == {"name": "vision/eyes:2", "ready": True}
        assert http.get("/v2/health/ready").json() == {"ready": True}
        assert http.get("/v2/health/live").json() == {"live": True}
        assert http.get("/v2").json()["name"] == "gongqi"
        gone = http.get("/v2/models/nothing/ready", headers={"accept-language": "en"})
        assert gone.status_code == 404 and gone.json()["code"] == "serving.route-unknown"
        assert gone.json()["error"].startswith("There is no model nothing")
    model(gateway, endpoint, "away", "status=503")
    with gateway.http() as http:
        assert http.get("/v2/models/away/ready").status_code == 502
        assert http.get("/v2/models/away").json()["code"] == "serving.upstream-unreachable"
        assert http.put("/v2/models/away/infer").status_code == 405
        assert http.get("/v2/elsewhere").json()["code"] == "serving.path-unknown"


def test_who_shows_no_virtual_key_is_the_control_planes(gateway: Gateway, endpoint: str) -> None:
    model(gateway, endpoint, "mine")
    with httpx.Client(base_url=gateway.url, trust_env=False) as http:
        assert http.get("/v2/models/mine").json()["code"] == "serving.model-unknown"
        assert http.get("/v2/health/ready").json() == {"ready": True}
        bad = {"x-api-key": "gqk_wrong"}
        assert http.post("/v2/models/mine/infer", json={}, headers=bad).json()["code"] == "serving.key-invalid"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"inputs": []}, "serving.request-unreadable"), ({"inputs": [{"name": "x"}]}, "serving.request-unreadable"),
        ({"inputs": [tensor(3, 2) | {"shape": [-3]}]}, "serving.request-unreadable"),
        ({"inputs": [tensor(101)]}, "serving.rows-out-of-range"), ({"inputs": [tensor(0)]}, "serving.rows-out-of-range"),
    ],
)  # fmt: skip
def test_what_has_no_rows_or_too_many_is_refused_before_it_is_forwarded(
    gateway: Gateway, endpoint: str, body: dict[str, Any], code: str
) -> None:
    if "bounded" not in gateway.routes:
        model(gateway, endpoint, "bounded")
    asked = len(gateway.upstream.seen)
    with gateway.http() as http:
        answer = http.post("/v2/models/bounded/infer", json=body)
        binary = http.post("/v2/models/bounded/infer", json=body, headers={"inference-header-content-length": "5"})
    assert answer.json()["code"] == code and binary.json()["code"] == "serving.binary-unsupported"
    assert len(gateway.upstream.seen) == asked


X = b'{"name":"x","datatype":"FP32","shape":[%s],"data":[0.5]%s}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[%s],"inputs":[%s]}' % (X % (b"1000", b""), X % (b"1", b"")),
        b'{"inputs":[%s]}' % (X % (b"1000", b',"shape" :[1]')),
        b'{"inputs":[%s],"\\u0069nputs":[%s]}' % (X % (b"1000", b""), X % (b"1", b"")),
    ],
)
def test_a_server_computes_the_rows_that_are_paid_for_whichever_of_two_names_it_takes(
    gateway: Gateway, endpoint: str, body: bytes
) -> None:
    if "rows-twice" not in gateway.routes:
        model(gateway, endpoint, "rows-twice")
    with gateway.http() as http:
        answer = http.post("/v2/models/rows-twice/infer", content=body)
    assert gateway.settled(answer)["input_tokens"] == 1
    sent = gateway.upstream.bodies[-1]
    assert sent.count(b'"inputs"') == sent.count(b'"shape"') == 1 and b"1000" not in sent and b"\\u" not in sent


@pytest.mark.parametrize(
    ("more", "is_binary"),
    [
        ({"parameters": {"binary_data_output": True}}, True), ({"parameters": {"binary_data_output": False}}, False),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}, True),
        ({"inputs": [tensor(3) | {"parameters": {"binary_data_size": 12}}]}, True),
        ({"id": '"binary_data": true, \n"shape":'}, False), ({"parameters": {"shape": 3}}, False),
    ],
)  # fmt: skip
def test_who_asks_for_an_answer_in_binary_is_refused_and_no_server_is_taken_for_broken(
    gateway: Gateway, endpoint: str, more: dict[str, Any], is_binary: bool
) -> None:
    if "in-json" not in gateway.routes:
        model(gateway, endpoint, "in-json")
    asked = len(gateway.upstream.seen)
    answer = infer(gateway, "in-json", **more)
    if is_binary:
        assert (answer.status_code, answer.json()["code"]) == (415, "serving.binary-unsupported")
        assert len(gateway.upstream.seen) == asked
    else:
        assert answer.status_code == 200 and gateway.upstream.seen[-1] == {"inputs": [tensor(3, 2)]} | more


def test_a_model_of_one_kind_is_not_asked_as_another(gateway: Gateway, endpoint: str) -> None:
    model(gateway, endpoint, "tensors")
    gateway.route("words", "words=5")
    assert gateway.call("tensors").json()["error"]["code"] == "serving.kind-differs"
    assert infer(gateway, "words").json()["code"] == "serving.kind-differs"
    with pytest.raises(Problem, match=re.escape("serving.endpoint-unfit")):
        gateway.route("wrong", "words=5", kind="inference")
    with pytest.raises(Problem, match=re.escape("serving.endpoint-unfit")):
        gateway.route("wrong-too", targets=[{"endpoint": endpoint, "model": "plain"}])


@pytest.mark.parametrize("tail", ["/infer", "/ready"])
def test_a_model_that_would_be_called_as_an_address_of_another_is_called_otherwise(
    gateway: Gateway, endpoint: str, tail: str
) -> None:
    with pytest.raises(Problem, match=re.escape("serving.route-name-reserved")):
        model(gateway, endpoint, f"org/tensors{tail}")
    gateway.route(f"org/words{tail}", "words=1")
    assert gateway.call(f"org/words{tail}").status_code == 200, "of other kinds it is no address"
    model(gateway, endpoint, "org/versions/3")
    assert infer(gateway, "org/versions/3").status_code == 200


def test_servers_that_remember_no_prompts_are_given_no_salt(gateway: Gateway) -> None:
    at = gateway.upstream.url.removesuffix("/v1")
    given = {"name": "salty", "base_url": at, "private": True, "speaks": SPEAKS, "cache_salt": True}
    with pytest.raises(Problem, match=re.escape("serving.salt-unfit")):
        gateway.operator.verb("serving:endpoint:add", **given)


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("status=500", 502, "serving.upstream-broken"), ("status=404", 502, "serving.upstream-broken"),
        ("status=429+after=7", 503, "serving.upstream-busy"), ("refuse", 502, "serving.upstream-unreachable"),
        ("broken", 502, "serving.upstream-broken"), ("gzip", 502, "serving.upstream-broken"),
        ("redirect", 502, "serving.upstream-broken"),
    ],
)  # fmt: skip
def test_a_server_that_fails_costs_nothing_and_the_next_answers(
    gateway: Gateway, endpoint: str, script: str, status: int, code: str
) -> None:
    name = script.replace("=", "-").replace("+", "-")
    model(gateway, endpoint, f"only-{name}", script)
    failed = infer(gateway, f"only-{name}")
    assert (failed.status_code, failed.json()["code"]) == (status, code)
    assert gateway.settled(failed)["cost_nanos"] == 0
    gateway.plane.health._states.clear()
    model(gateway, endpoint, f"then-{name}", script, "plain")
    answer = infer(gateway, f"then-{name}")
    record = gateway.settled(answer)
    assert answer.status_code == 200 and (record["attempts"], record["cost_nanos"]) == (2, 3 * ROW_NANOS + ANSWER_NANOS)


def test_what_the_server_says_against_the_request_is_passed_on_and_costs_nothing(
    gateway: Gateway, endpoint: str
) -> None:
    model(gateway, endpoint, "picky", "status=400")
    answer = infer(gateway, "picky")
    assert answer.status_code == 400 and "scripted 400" in answer.text
    assert gateway.settled(answer)["cost_nanos"] == 0


def test_a_server_that_fails_again_and_again_is_left_alone(gateway: Gateway, endpoint: str) -> None:
    model(gateway, endpoint, "failing", "status=500")
    for _ in range(5):
        infer(gateway, "failing")
    asked = len(gateway.upstream.seen)
    assert infer(gateway, "failing").json()["code"] == "serving.upstream-resting"
    assert len(gateway.upstream.seen) == asked


def test_budgets_names_and_kept_answers_are_as_for_all_calls(gateway: Gateway, endpoint: str) -> None:
    model(gateway, endpoint, "dear", price=(10**9, 0))
    poor = gateway.issue(budget_day=5)["secret"]
    assert infer(gateway, "dear", tensor(6), key=poor).status_code == 402
    assert infer(gateway, "dear", tensor(5), key=poor).status_code == 200
    asked = len(gateway.upstream.seen)
    named = [infer(gateway, "dear", headers={"idempotency-key": "one"}) for _ in range(2)]
    assert named[0].content == named[1].content and len(gateway.upstream.seen) == asked + 1
    keeps = gateway.issue(cache="always")["secret"]
    first, again, other = (infer(gateway, "dear", tensor(n), key=keeps) for n in (2, 2, 3))
    assert "hit" in again.headers["cache-status"] and "miss" in other.headers["cache-status"]
    assert first.content == again.content != other.content


def test_addresses_that_are_not_allowed_are_not_connected_to(gateway: Gateway) -> None:
    at = gateway.upstream.url.removesuffix("/v1")
    given = {"name": "inside", "base_url": at, "speaks": SPEAKS}
    inside = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    model(gateway, inside, "inside")
    asked = len(gateway.upstream.seen)
    assert infer(gateway, "inside").status_code == 502
    with gateway.http() as http:
        assert http.get("/v2/models/inside/ready").status_code == 502
    assert len(gateway.upstream.seen) == asked


@pytest.fixture
def market(build: Any, clock: Any) -> Any:
    return load_market().open_market(build, clock=clock)


@pytest.fixture
def elsewhere(market: Any) -> Iterator[tuple[str, str]]:
    """(address, token) of another foundation that serves a released model by the protocol."""
    made = market.served()
    market.fund(1000)
    market.budget(made, 1000)
    values = {"handle": "agent", "name": "Agent", "org": market.orgs["application"], "role": "developer"}
    agent = market.do(market.operator, "members:agent:create", **values)
    token = market.do(market.operator, "members:token:issue", party=agent.id, label="test", days=1).secret
    config = uvicorn.Config(build_app(market.kernel, ()), port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", token
    server.should_exit = True
    thread.join(10)


def test_a_deployment_of_another_foundation_is_a_server_like_any(
    gateway: Gateway, elsewhere: tuple[str, str], market: Any
) -> None:
    """Real on both sides: our gateway before our own deployments, which run a released ONNX model."""
    at, token = elsewhere
    folder = gateway.foundation.settings.home / CREDENTIALS
    folder.mkdir(exist_ok=True)
    (folder / "neighbour").write_text(token)
    given = {"name": "neighbour", "base_url": at, "private": True, "speaks": SPEAKS, "credential": "neighbour"}
    there = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    model(gateway, there, "triage", "diagnosis")
    features = tensor(2, 2) | {"name": "features"}
    with gateway.http() as http:
        assert http.get("/v2/models/triage").json()["inputs"][0]["name"] == "features"
        assert http.get("/v2/models/triage/ready").json() == {"name": "triage", "ready": True}
        answer = http.post("/v2/models/triage/infer", json={"inputs": [features]})
    assert answer.status_code == 200, answer.text
    outputs = {each["name"]: each for each in answer.json()["outputs"]}
    assert outputs["label"]["shape"] == [2] and outputs["label"]["datatype"] == "INT64"
    assert gateway.settled(answer)["cost_nanos"] == 2 * ROW_NANOS + ANSWER_NANOS
    [call] = market.calls()
    assert (call.rows, call.state) == (2, "settled"), "and there it is paid by whose credential it is"
    wrong = infer(gateway, "triage", tensor(2, 3))
    assert wrong.status_code in (400, 422, 502) and gateway.settled(wrong)["cost_nanos"] == 0
