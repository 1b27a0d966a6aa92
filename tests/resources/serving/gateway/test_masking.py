"""The gateway with a pack loaded: what leaves the caller's region is masked, what comes back is as it was, and marked."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gongqi.packs.shelf import shelf
from gongqi.resources.serving.plane.call import MAX_ATTEMPTS
from tests.resources.serving.gateway.conftest import CHAT, Gateway

MOBILE, RESIDENT = "+86 138-1234-5678", "11010519491231002X"
SAID = f"请联系{MOBILE}，证件{RESIDENT}。"
PATHS = {"chat": CHAT, "messages": "/v1/messages", "responses": "/v1/responses", "completions": "/v1/completions"}


@pytest.fixture(scope="module")
def abroad(gateway: Gateway) -> dict[str, str]:
    """Keys by where they call from, once the pack is loaded; models that echo, by what their servers speak."""
    pack = shelf()["cn"]
    there = {}
    for speaks in ("openai", "anthropic", "openai-responses"):
        given = {"name": f"us-{speaks}", "base_url": gateway.upstream.url, "private": True, "speaks": speaks}
        made = there[speaks] = gateway.operator.verb("serving:endpoint:add", region="US", **given)["id"]
        gateway.route(f"echo-{speaks}", targets=[{"endpoint": made, "model": "echo=3"}])
    gateway.route("vectors", targets=[{"endpoint": made, "model": "words=1"}], kind="embeddings")
    at_home = {"name": "cn-here", "base_url": gateway.upstream.url, "private": True, "region": "CN"}
    here = gateway.operator.verb("serving:endpoint:add", **at_home)["id"]
    gateway.route("echo-here", targets=[{"endpoint": here, "model": "echo=3"}])
    abroad = [{"endpoint": there["openai"], "model": f"echo={words}"} for words in range(3, 3 + MAX_ATTEMPTS)]
    gateway.route("echo-both", targets=[*abroad, {"endpoint": here, "model": "echo=3", "rank": 1}])
    gateway.operator.verb("packs:pack:load", name="cn", version=pack.version, digest=pack.digest)
    keys = {
        "CN": gateway.issue(region="CN", audience="internal")["secret"],
        "public": gateway.issue(region="CN", audience="public")["secret"],
        "US": gateway.issue(region="US")["secret"],
        "": gateway.key,
    }
    gateway.seen()
    return keys


def body(api: str, model: str, text: str, **more: Any) -> dict[str, Any]:
    if api == "responses":
        return {"model": model, "input": text, **more}
    if api == "completions":
        return {"model": model, "prompt": text, **more}
    told = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return told | {"max_tokens": 200} if api == "messages" else told


def said(api: str, document: dict[str, Any]) -> str:
    if api == "chat":
        return document["choices"][0]["message"]["content"]
    if api == "completions":
        return document["choices"][0]["text"]
    if api == "messages":
        return "".join(block["text"] for block in document["content"])
    return document["output"][0]["content"][0]["text"]


def streamed(api: str, lines: list[str]) -> tuple[str, list[Any]]:
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = ""
    for event in events:
        for choice in event.get("choices", ()):
            text += choice.get("delta", {}).get("content") or choice.get("text") or ""
        if event.get("type") == "content_block_delta":
            text += event["delta"].get("text", "")
        if event.get("type") == "response.output_text.delta":
            text += event["delta"]
    return text, events


def last(gateway: Gateway) -> str:
    return json.dumps(gateway.upstream.seen[-1], ensure_ascii=False)


WAYS = [
    (api, speaks)
    for api, all in (
        ("chat", ("openai", "anthropic")), ("messages", ("openai", "anthropic")),
        ("responses", ("openai", "anthropic", "openai-responses")), ("completions", ("openai",)),
    )
    for speaks in all
]  # fmt: skip


@pytest.mark.parametrize(("api", "speaks"), WAYS)
@pytest.mark.parametrize("streams", [False, True])
def test_numbers_do_not_leave_and_come_back_in_every_api(
    gateway: Gateway, abroad: dict[str, str], api: str, speaks: str, streams: bool
) -> None:
    asked = body(api, f"echo-{speaks}", SAID, **({"stream": True} if streams else {}))
    with gateway.http(abroad["CN"]) as http, http.stream("POST", PATHS[api], json=asked) as answer:
        answer.read()
    assert answer.status_code == 200, answer.text
    sent = last(gateway)
    assert "1234" not in sent and RESIDENT not in sent and "@cntel-" in sent and "@cnid-" in sent
    assert answer.headers["gongqi-masked"] == "2"
    mark = json.loads(answer.headers["gongqi-generated"])["AIGC"]
    assert (mark["Label"], mark["ProduceID"]) == ("1", answer.headers["x-request-id"])
    assert "gongqi-shown" not in answer.headers
    if streams:
        text, events = streamed(api, answer.text.split("\n"))
        assert text == SAID and events[0]["AIGC"] == mark
    else:
        assert said(api, answer.json()) == SAID and answer.json()["AIGC"] == mark
    assert "@cn" not in answer.text
    record = gateway.settled(answer)
    assert record["masked"] == 2 and record["ending"] == "complete"


@pytest.mark.parametrize(("api", "speaks"), WAYS)
@pytest.mark.parametrize("streams", [False, True])
def test_what_is_shown_to_the_public_ends_with_a_label(
    gateway: Gateway, abroad: dict[str, str], api: str, speaks: str, streams: bool
) -> None:
    asked = body(api, f"echo-{speaks}", "你好" * 3, **({"stream": True} if streams else {}))
    with gateway.http(abroad["public"]) as http, http.stream("POST", PATHS[api], json=asked) as answer:
        answer.read()
    assert answer.headers["gongqi-shown"] == "yes"
    text = streamed(api, answer.text.split("\n"))[0] if streams else said(api, answer.json())
    assert text == "你好" * 3 + "\n\n（以上内容由人工智能生成）"
    assert gateway.settled(answer)["output_tokens"] == 2, "nobody pays for the label"


def test_where_a_machine_reads_no_label_is_put(gateway: Gateway, abroad: dict[str, str]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    answer = gateway.call("echo-openai", key=abroad["public"], response_format=form)
    assert json.loads(answer.json()["choices"][0]["message"]["content"]) == {"city": "西安"}
    assert answer.headers["gongqi-shown"] == "no" and "AIGC" in answer.json()


def test_within_the_region_bytes_pass_and_from_elsewhere_nothing_is_asked(
    gateway: Gateway, abroad: dict[str, str]
) -> None:
    for key, model in (("CN", "echo-here"), ("US", "echo-openai")):
        answer = gateway.call(model, key=abroad[key], messages=[{"role": "user", "content": SAID}])
        assert MOBILE in last(gateway) and "gongqi-masked" not in answer.headers
        assert said("chat", answer.json()) == SAID
        assert ("gongqi-generated" in answer.headers) == (key == "CN")
        assert gateway.settled(answer)["masked"] == 0


def test_a_key_that_has_not_said_where_it_is_is_masked_until_it_has(gateway: Gateway, abroad: dict[str, str]) -> None:
    answer = gateway.call("echo-openai", key=abroad[""], messages=[{"role": "user", "content": SAID}])
    assert MOBILE not in last(gateway) and said("chat", answer.json()) == SAID


@pytest.mark.parametrize("streams", [False, True])
def test_arguments_of_tools_and_results_are_masked_and_come_back(
    gateway: Gateway, abroad: dict[str, str], streams: bool
) -> None:
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": json.dumps({"who": RESIDENT, "n": 13812345678})},
    }
    messages = [
        {"role": "system", "content": f"值班 {MOBILE}"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": SAID},
    ]
    for model in ("echo-openai", "echo-anthropic"):
        answer = gateway.call(model, key=abroad["CN"], messages=messages, stream=streams)
        assert answer.status_code == 200, answer.text
        sent = last(gateway)
        assert "1234" not in sent and RESIDENT not in sent
        assert answer.headers["gongqi-masked"] == "5"
        assert "@cn" not in answer.text


def test_what_cannot_be_looked_at_is_refused_with_the_rule_or_goes_to_a_server_in_the_region(
    gateway: Gateway, abroad: dict[str, str]
) -> None:
    picture = f"data:image/png;base64,{base64.b64encode(bytes(90)).decode()}"
    parts = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": picture}}]
    asked = {"messages": [{"role": "user", "content": parts}, {"role": "user", "content": "?"}]}
    before = len(gateway.upstream.seen)
    answer = gateway.call("echo-openai", key=abroad["CN"], **asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "serving.unmaskable")
    assert all(
        each in error["localized"]["en"]["message"] for each in ("article 38", "our interpretation", "2021-11-01")
    )
    tokens = gateway.call("echo-openai", key=abroad["CN"], path="/v1/completions", prompt=[1, 2, 3])
    assert tokens.json()["error"]["code"] == "serving.unmaskable"
    assert len(gateway.upstream.seen) == before, "nothing left"
    assert gateway.call("echo-both", key=abroad["CN"], **asked).status_code == 200
    assert gateway.call("echo-openai", key=abroad["US"], **asked).status_code == 200


def test_the_record_says_what_was_masked_where_it_was_answered(gateway: Gateway, abroad: dict[str, str]) -> None:
    [there] = gateway.operator.read("serving:route:targets", route=gateway.routes["echo-openai"])["targets"]
    [here] = gateway.operator.read("serving:route:targets", route=gateway.routes["echo-here"])["targets"]
    fails = there | {"model": "status=500"}
    asked = {"messages": [{"role": "user", "content": SAID}]}
    for name, last, masked in (("then-there", there, 2), ("then-here", here, 0)):
        gateway.plane.health._states.clear()
        gateway.route(name, targets=[fails, last | {"rank": 1}])
        for stream in (False, True):
            answer = gateway.call(name, key=abroad["CN"], stream=stream, **asked)
            record = gateway.settled(answer)
            assert (record["attempts"], record["masked"]) == (2, masked)
            assert answer.headers.get("gongqi-masked") == (str(masked) if masked else None)
            assert "@cn" not in answer.text


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (CHAT, {"logprobs": True}), ("/v1/completions", {"logprobs": 0}), (CHAT, {"prompt_logprobs": 0}),
        ("/v1/responses", {"top_logprobs": 2}), ("/v1/responses", {"include": ["message.output_text.logprobs"]}),
    ],
)  # fmt: skip
def test_probabilities_of_placeholders_are_told_to_nobody(
    gateway: Gateway, abroad: dict[str, str], path: str, more: dict[str, Any]
) -> None:
    api = {path: api for api, path in PATHS.items()}[path]
    for text, status in ((SAID, 422), ("nothing to mask", 200)):
        with gateway.http(abroad["CN"]) as http:
            answer = http.post(path, json=body(api, "echo-openai-responses", text, **more))
        assert answer.status_code == status, answer.text
        if status == 422:
            assert answer.json()["error"]["code"] == "serving.logprobs-masked"
            assert "cn.mask.crossing" in answer.json()["error"]["message"]
    asked = body(api, "echo-openai-responses", SAID, **dict.fromkeys(more, None if path != CHAT else False))
    with gateway.http(abroad["CN"]) as http:
        assert http.post(path, json=asked).status_code == 200, "who asks for none gets an answer"


def test_more_numbers_than_are_masked_are_refused(gateway: Gateway, abroad: dict[str, str]) -> None:
    gateway.route(
        "wide",
        context_tokens=1_000_000,
        targets=gateway.operator.read("serving:route:targets", route=gateway.routes["echo-openai"])["targets"],
    )
    numbers = " ".join(f"138{number:08d}" for number in range(10_001))
    answer = gateway.call("wide", key=abroad["CN"], messages=[{"role": "user", "content": numbers}])
    assert answer.json()["error"]["code"] == "serving.masks-too-many"


def test_embeddings_of_a_masked_text_do_not_differ_from_call_to_call(gateway: Gateway, abroad: dict[str, str]) -> None:
    for _ in range(2):
        answer = gateway.call("vectors", key=abroad["CN"], path="/v1/embeddings", input=SAID)
        assert answer.status_code == 200 and "gongqi-generated" not in answer.headers
        assert gateway.upstream.seen[-1]["input"] == "请联系@cntel，证件@cnid。"


@pytest.mark.parametrize("streams", [False, True])
def test_a_response_that_is_kept_is_kept_as_the_caller_knows_it(
    gateway: Gateway, abroad: dict[str, str], streams: bool
) -> None:
    for speaks, times in (("openai", 5), ("openai-responses", 3)):  # the second says less of what is done
        asked = body("responses", f"echo-{speaks}", SAID, store=True, stream=streams)
        with gateway.http(abroad["CN"]) as http:
            answer = http.post("/v1/responses", json=asked)
            assert "@cn" not in answer.text
            document = streamed("responses", answer.text.split("\n"))[1][-1]["response"] if streams else answer.json()
            kept = http.get(f"/v1/responses/{document['id']}").json()
            assert said("responses", kept) == SAID
            given = http.get(f"/v1/responses/{document['id']}/input_items").json()["data"]
            assert given[0]["content"][0]["text"] == SAID
        with gateway.http(abroad["public"]) as http:
            shown = http.post("/v1/responses", json=asked).text
        assert shown.count("人工智能生成") == (times if streams else 1), "a delta, what is done, and the whole"


def test_what_a_server_says_against_a_request_is_told_in_the_callers_words(
    gateway: Gateway, abroad: dict[str, str]
) -> None:
    [target] = gateway.operator.read("serving:route:targets", route=gateway.routes["echo-openai"])["targets"]
    gateway.route("no", targets=[target | {"model": "status=400"}])
    answer = gateway.call("no", key=abroad["CN"], messages=[{"role": "user", "content": SAID}])
    assert answer.status_code == 400 and answer.headers["gongqi-masked"] == "2"
    assert "gongqi-generated" not in answer.headers


def test_the_list_of_models_tells_the_rules_that_act_on_a_keys_calls(gateway: Gateway, abroad: dict[str, str]) -> None:
    told = {}
    for place in ("CN", "US"):
        with gateway.http(abroad[place]) as http:
            told[place] = http.get("/v1/models/echo-openai").json()["gongqi"].get("rules", [])
            listed = {each["id"]: each["gongqi"] for each in http.get("/v1/models").json()["data"]}
            assert listed["echo-openai"].get("rules", []) == told[place]
    assert [rule["id"] for rule in told["CN"]] == ["cn.mask.crossing", "cn.label.implicit"]
    rule = told["CN"][0]
    assert rule["does"] == "mask" and rule["zh"] and rule["en"] and rule["is_certain"]
    assert [cite["authority"] for cite in rule["cites"]][:2] == ["interpretation", "statute"]
    assert told["US"] == []
    page = gateway.operator.http.get(f"/serving/model/{gateway.routes['echo-openai']}")
    assert "cn.mask.crossing" in page.text


def test_a_pack_that_is_altered_denies_calls_that_it_may_concern(
    gateway: Gateway, abroad: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from gongqi.packs import service

    other = {name: replace(pack, digest="f" * 64) for name, pack in shelf().items()}
    monkeypatch.setattr(service, "shelf", lambda: other)
    gateway.issue()  # and with it a new snapshot
    answer = gateway.call("echo-openai", key=abroad["CN"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (451, "serving.crossing-denied")
    assert "cn.altered" in answer.json()["error"]["message"]
    assert gateway.call("echo-openai", key=abroad["US"]).status_code == 200
    monkeypatch.undo()
    gateway.issue()
    assert gateway.call("echo-openai", key=abroad["CN"]).status_code == 200


def test_an_answer_that_is_kept_is_not_given_to_whom_other_rules_act_on(
    gateway: Gateway, abroad: dict[str, str]
) -> None:
    keys = {
        audience: gateway.issue(region="CN", audience=audience, cache="always")["secret"]
        for audience in ("public", "internal")
    }
    asked = {"messages": [{"role": "user", "content": SAID}], "temperature": 0}
    for audience, shown in (("internal", None), ("public", "yes"), ("internal", None), ("public", "yes")):
        answer = gateway.call("echo-openai", key=keys[audience], **asked)
        assert answer.headers.get("gongqi-shown") == shown
        assert said("chat", answer.json()).startswith(SAID)
    assert "hit" in answer.headers["cache-status"]
    assert (gateway.settled(answer)["masked"], gateway.settled(answer)["cost_nanos"]) == (0, 0), "nothing left"


def test_when_the_pack_is_unloaded_bytes_pass_again(gateway: Gateway, abroad: dict[str, str]) -> None:
    [row] = [each for each in gateway.operator.read("packs:pack:list")["items"] if each["state"] == "loaded"]
    gateway.operator.verb("packs:pack:unload", pack=row["id"])
    gateway.seen()
    assert gateway.plane.snapshot.duties == {}
    answer = gateway.call("echo-openai", key=abroad["public"], messages=[{"role": "user", "content": SAID}])
    assert MOBILE in last(gateway)
    assert not [name for name in answer.headers if name.startswith("gongqi-")]
