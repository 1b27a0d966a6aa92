"""`/metrics` and the page of a model: what is shown is what the calls were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gongqi.kernel.words import LANGUAGES
from gongqi.resources.serving import metrics
from gongqi.resources.serving.metering import exact
from gongqi.resources.serving.plane import health, meters
from gongqi.resources.serving.rollout_models import ModelRollout
from tests.resources.serving.gateway.conftest import Gateway, eventually

pytestmark = pytest.mark.heavy

DURATION, FIRST = "gen_ai_server_request_duration_seconds", "gen_ai_server_time_to_first_token_seconds"
USAGE, REFUSALS = "gen_ai_client_token_usage", "gongqi_gateway_refusals_total"


def read(gateway: Gateway) -> list[Any]:
    answer = gateway.operator.http.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]


def value(gateway: Gateway, name: str, **labels: str) -> float:
    found = [each for each in read(gateway) if each.name == name and labels.items() <= each.labels.items()]
    return sum(each.value for each in found)


def test_each_call_is_counted_once_with_its_time_and_its_tokens(gateway: Gateway) -> None:
    gateway.route("counted", "words=5")
    records = [gateway.settled(gateway.call("counted")) for _ in range(3)]
    records.append(gateway.settled(gateway.stream("counted")[0]))
    model = {"gen_ai_request_model": "counted", "gen_ai_operation_name": "chat"}
    eventually(lambda: value(gateway, f"{DURATION}_count", **model, error_type="") == 4)
    seconds = sum(record["duration_us"] for record in records) / 1e6
    assert value(gateway, f"{DURATION}_sum", **model) == pytest.approx(seconds)
    assert value(gateway, f"{DURATION}_bucket", **model, le="+Inf") == 4
    assert value(gateway, f"{DURATION}_bucket", **model, le="81.92") == 4
    assert value(gateway, f"{FIRST}_count", **model) == 4
    for side, tokens in (("input", 28), ("output", 20)):
        assert value(gateway, f"{USAGE}_sum", **model, gen_ai_token_type=side) == tokens
        assert value(gateway, f"{USAGE}_bucket", **model, gen_ai_token_type=side, le="4") == 0
        assert value(gateway, f"{USAGE}_bucket", **model, gen_ai_token_type=side, le="16") == 4


def test_sums_that_cannot_be_left_are_missed_and_nothing_else(tmp_path: Path) -> None:
    meters.leave(tmp_path, b"[1]")
    assert (tmp_path / meters.FILE).read_bytes() == b"[1]"
    meters.leave(tmp_path / "gone", b"[2]")
    assert list(tmp_path.iterdir()) == [tmp_path / meters.FILE]


def test_failures_are_told_by_how_calls_ended_refusals_by_their_code(gateway: Gateway) -> None:
    gateway.route("torn", "words=9+cut=3")
    gateway.stream("torn")
    assert gateway.call("nothing").status_code == 404
    eventually(lambda: value(gateway, f"{DURATION}_count", gen_ai_request_model="torn", error_type="cut") == 1)
    eventually(lambda: value(gateway, REFUSALS, code="serving.route-unknown") >= 1)
    gateway.route("ill", "status=500")
    for _ in range(health.FAILURES):
        gateway.call("ill")
    eventually(
        lambda: value(gateway, "gongqi_gateway_upstream_resting", endpoint=gateway.endpoint, model="status=500") == 1
    )


def test_the_state_of_the_process_is_told(gateway: Gateway) -> None:
    gateway.route("calm", "words=1")
    gateway.settled(gateway.call("calm"))
    eventually(lambda: value(gateway, "gongqi_gateway_settlement_lag_seconds") == 0)
    assert value(gateway, "gongqi_gateway_calls_under_way") == 0
    [depth] = [each for each in read(gateway) if each.name == "gongqi_gateway_spool_bytes"]
    assert depth.value > 0 and depth.labels == {"process": gateway.plane.name}


def test_who_may_not_watch_is_told_so(gateway: Gateway) -> None:
    assert gateway.owner.http.get("/metrics").status_code == 403
    assert httpx.get(f"{gateway.url}/metrics", trust_env=False).status_code == 401
    with gateway.http() as http:
        assert http.get("/metrics").status_code in (401, 403), "a key for models is none"


def test_values_fall_where_the_bounds_say() -> None:
    meter = meters.Meters().of("m", "chat")
    for first in (1, 1_000, 1_001, 10_000_001):
        meter.ended("complete", first, first, meters.Tokens(1, 0, 4))
    assert meter.first.counts[0] == 2 and meter.first.counts[1] == 1 and meter.first.counts[-1] == 1
    assert meter.input.counts[0] == 4 and meter.output.counts[1] == 4


def test_a_roll_out_is_told_by_its_share_its_state_and_how_both_sides_fare(gateway: Gateway) -> None:
    route = gateway.route("rolled", "words=5")
    given = {"route": route, "endpoint": gateway.endpoint, "model": "status=500+of=rolled", "steps": [50, 100]}
    rollout = gateway.operator.verb("serving:rollout:begin", hold_seconds=600, **given)["id"]
    gateway.seen()
    made = 0
    while not any(body["model"] == given["model"] for body in gateway.upstream.seen):
        assert gateway.call("rolled").status_code == 200
        made += 1
    model = {"gen_ai_request_model": "rolled"}
    names = [f"gongqi_gateway_rollout_{what}_total" for what in ("calls", "faults")]

    def told() -> list[float]:
        return [value(gateway, name, **model, side=side) for name in names for side in ("old", "new")]

    eventually(lambda: told() == [made - 1, 1, 0, 1])
    share = "gongqi_gateway_rollout_share"
    assert value(gateway, share, **model, state="climbing") == 0.5
    before = told()
    gateway.operator.verb("serving:rollout:rollback", rollout=rollout)
    assert [each.labels["state"] for each in read(gateway) if each.name == share] == ["rolled-back"]
    assert value(gateway, share, **model) == 0 and told() == before
    gateway.foundation.kernel.transact(lambda ctx: long_over(ctx, rollout), reason="test")
    assert not [each for each in read(gateway) if each.name.startswith("gongqi_gateway_rollout")]


def long_over(ctx: Any, rollout: str) -> None:
    ctx.session.get_one(ModelRollout, rollout).ended_at -= metrics.OVER


def test_a_shadow_is_told_by_its_share_and_what_became_of_its_calls(gateway: Gateway) -> None:
    route = gateway.route("mirrored", "words=5")
    given = {"route": route, "endpoint": gateway.endpoint, "percent": 100}
    shadow = gateway.operator.verb("serving:shadow:begin", model="words=9+of=mirrored", **given)["id"]
    gateway.seen()
    for _ in range(3):
        gateway.call("mirrored")
    model = {"gen_ai_request_model": "mirrored"}
    eventually(lambda: value(gateway, "gongqi_gateway_shadow_calls_total", **model, outcome="answered") == 3)
    assert value(gateway, "gongqi_gateway_shadow_calls_total", **model, outcome="failed") == 0
    assert value(gateway, "gongqi_gateway_shadow_share", **model) == 1
    gateway.operator.verb("serving:shadow:end", shadow=shadow)
    assert value(gateway, "gongqi_gateway_shadow_share", **model) == 0


# ---- the page of a model


def page(gateway: Gateway, path: str, *, who: Any = None, language: str = "en") -> str:
    given = {"cookies": {"gongqi_session": (who or gateway.owner).secret}, "headers": {"accept-language": language}}
    answer = httpx.get(f"{gateway.url}/serving/{path}", **given, trust_env=False)
    assert answer.status_code == 200
    return answer.text


def of_model(gateway: Gateway, model: str, **more: Any) -> str:
    return page(gateway, f"model/{gateway.routes[model]}", **more)


def test_the_page_of_a_model_tells_its_last_day_from_the_bill(gateway: Gateway) -> None:
    gateway.route("shown", "words=5")
    records = [gateway.settled(gateway.call("shown")) for _ in range(4)]
    gateway.route("shown", "words=9+cut=3")
    records.append(gateway.settled(gateway.stream("shown")[0]))
    told = of_model(gateway, "shown")
    cost = sum(record["cost_nanos"] for record in records)
    assert exact(cost, records[0]["unit"]) in told, "the sum of what was charged"
    assert "20.0%" in told and "Came to its end" in told and "The upstream broke off" in told
    slowest = max(record["duration_us"] for record in records if record["ending"] == "complete")
    assert f"{round(slowest / 1000, 1)} ms" in told, "the last percentile is the slowest call"
    assert "你好" not in told
    zh = of_model(gateway, "shown", language="zh")
    assert "最近一天" in zh and "上游断开" in zh and set(LANGUAGES) == {"zh", "en"}


def test_the_calls_of_a_model_are_followed_by_those_who_may_see_them(gateway: Gateway) -> None:
    gateway.route("followed", "words=9+cut=3")
    gateway.settled(gateway.stream("followed")[0])
    tail = f"model/{gateway.routes['followed']}/calls"
    told = page(gateway, tail)
    assert "The upstream broke off" in told and 'hx-trigger="every 3s"' in told and f'hx-get="/serving/{tail}"' in told
    other = gateway.foundation.organisation("west")
    stranger = gateway.foundation.person("western", other, "owner")
    assert "The upstream broke off" not in page(gateway, tail, who=stranger)


def test_who_may_see_no_calls_sees_the_model_alone(gateway: Gateway) -> None:
    gateway.route("private-calls", "words=5")
    gateway.settled(gateway.call("private-calls"))
    other = gateway.foundation.organisation("south")
    stranger = gateway.foundation.person("stranger", other, "owner")
    assert "no calls in the last 24 hours" in of_model(gateway, "private-calls", who=stranger)
    assert "Came to its end" in of_model(
        gateway, "private-calls", who=gateway.foundation.person("auditor", "*", "auditor")
    )
    link = f'href="/serving/model/{gateway.routes["private-calls"]}"'
    assert link in page(gateway, "models")
