"""Laws of masking: nothing that a detector finds leaves; what comes back is what was written, wherever it is cut."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stdnum.cn import ric

from gongqi.kernel.errors import Refused
from gongqi.packs.cn import identifiers
from gongqi.packs.cn.identifiers import MOBILE, RESIDENT
from gongqi.resources.serving.metering import NONE
from gongqi.resources.serving.plane import anthropic, guard, messages, openai, request, responses, stream
from gongqi.resources.serving.plane.duties import Cited, Detector, Duty, Label, Recipe
from gongqi.resources.serving.plane.labels import Marked, Marks
from gongqi.resources.serving.plane.masking import LETTERS, MAX_LETTERS, MAX_MASKS, Masks
from gongqi.resources.serving.plane.revealing import Revealed

CITED = Cited("cn.mask", "PIPL", "38", "interpretation", "2021-11-01")
RECIPE = Recipe((RESIDENT, MOBILE), "refuse", CITED)
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


@st.composite
def residents(draw: st.DrawFn) -> str:
    region = draw(st.sampled_from(("110105", "440305", "820000")))
    day = draw(st.dates(date(1901, 1, 1), date(2026, 1, 1))).strftime("%Y%m%d")
    body = f"{region}{day}{draw(st.integers(0, 999)):03d}"
    check = "10X98765432"[sum(w * int(d) for w, d in zip(WEIGHTS, body, strict=True)) % 11]
    gap = draw(st.sampled_from(("", " ", "-")))
    number = body + draw(st.sampled_from((check, check.lower())))
    ends = draw(st.sampled_from(((6, 14), (6, 10, 14), (4, 8, 12, 16))))
    return gap.join(number[start:end] for start, end in zip((0, *ends), (*ends, 18), strict=True))


@st.composite
def mobiles(draw: st.DrawFn) -> str:
    number = f"1{draw(st.integers(3, 9))}{draw(st.integers(0, 999_999_999)):09d}"
    head = draw(st.sampled_from(("", "+86", "86 ", "0086-")))
    gap = draw(st.sampled_from(("", " ", "-", "\u00a0", "－")))
    number = f"{number[:3]}{gap}{number[3:7]}{gap}{number[7:]}"
    wide = {ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"}
    return head + (number.translate(wide) if draw(st.booleans()) else number)


FILLER = st.text(
    st.one_of(st.sampled_from('@-的号电话 \n"\\{}:,x9\u2028\ud7ff😀'), st.characters(exclude_categories=("Cs",))),
    max_size=12,
)
TEXTS = st.lists(st.one_of(FILLER, residents(), mobiles()), max_size=8).map("的".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)
SEPARATED = st.lists(st.one_of(residents(), mobiles()), min_size=1, max_size=6)


def finds(text: str) -> list[str]:
    return [text[start:end] for detector in RECIPE.detectors for start, end in detector.find(text)]


def leaves(value: Any) -> Iterator[str]:
    """All that is said anywhere in a document, names of members and what is JSON within it too."""
    if isinstance(value, str):
        yield value
        try:
            within = json.loads(value)
        except ValueError:
            return
        if isinstance(within, (dict, list, str)):
            yield from leaves(within)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from leaves(each)
    else:
        yield json.dumps(value)


# ---- texts


@given(TEXTS)
def test_nothing_is_found_in_what_was_masked_and_it_comes_back_as_it_was(text: str) -> None:
    masks = Masks(RECIPE)
    masked = masks.text(text)
    assert finds(masked) == []
    assert masks.reveal_text(masked) == text
    assert (masks.count == 0) == (masked == text)


@given(SEPARATED)
def test_each_number_has_a_placeholder_that_another_request_does_not_have(numbers: list[str]) -> None:
    first, second = Masks(RECIPE), Masks(RECIPE)
    text = " 的 ".join(numbers)
    told, other = first.text(text), second.text(text)
    assert first.count == second.count == len(numbers)
    assert told != other and second.reveal_text(told) == told, "another's placeholders stand for nothing"
    assert first.text(text) == told, "within a request the same stands for the same"


@given(FILLER, mobiles())
def test_a_caller_who_writes_a_placeholder_gets_nothing_for_it(before: str, number: str) -> None:
    forged = f"{before}@cntel-{'a' * LETTERS}-0000"
    masks = Masks(RECIPE)
    masked = masks.text(f"{forged} {number}")
    assert masks.reveal_text(forged) == forged
    assert masks.reveal_text(masked) == f"{forged} {number}"


@settings(deadline=None)  # the library reads its table of counties at the first number
@given(residents(), st.integers(0, 17), st.sampled_from("0123456789X"))
def test_what_the_library_takes_for_an_identity_number_is_found(number: str, at: int, other: str) -> None:
    plain = number.replace(" ", "").replace("-", "").upper()
    for each in (plain, plain[:at] + other + plain[at + 1 :]):
        if ric.is_valid(each):
            assert list(RESIDENT.find(each)) == [(0, 18)]


# ---- bodies: every API, any nesting, any escape

LEAVES = st.one_of(
    TEXTS, mobiles(), st.integers(), st.integers(13_000_000_000, 19_999_999_999), st.none(), st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
NAMES = st.one_of(st.sampled_from(("type", "text")), TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(NAMES, each, max_size=3)),
    max_leaves=8,
)


def dumped(value: Any, escapes: int) -> str:
    """As JSON in which every character may be an escape, as nobody writes it who does not want to hide something."""
    if escapes == 0:
        return json.dumps(value, ensure_ascii=False)
    text = json.dumps(value)
    return text if escapes == 1 else hidden(value)


def hidden(value: Any) -> str:
    if isinstance(value, str):
        units = value.encode("utf-16-be", "surrogatepass")
        return '"' + "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)) + '"'
    if isinstance(value, list):
        return f"[{','.join(map(hidden, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{hidden(name)}:{hidden(each)}' for name, each in value.items())}}}"
    return json.dumps(value)


@given(VALUES, st.integers(0, 2), st.integers(0, 2))
def test_nothing_that_is_found_leaves_at_any_nesting_and_under_any_escape(
    value: Any, escapes: int, within: int
) -> None:
    arguments = dumped({"given": value}, within)  # JSON within JSON, as the arguments of a tool are
    body = dumped({"messages": [{"content": value, "tool_calls": [{"function": {"arguments": arguments}}]}]}, escapes)
    masks = Masks(RECIPE)
    try:
        sent = masks.body(body.encode("utf-8", "surrogatepass"))
    except Refused as refused:
        assert refused.code in ("serving.unmaskable", "serving.request-unreadable")
        return
    found = [each for text in leaves(json.loads(sent)) for each in finds(text)]
    assert found == []
    if not masks.count:
        assert json.loads(sent) == json.loads(body)


def chat_body(text: str) -> Any:
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": hidden({"a": text})}}
    return {
        "model": "m", "max_tokens": 5, "messages": [
            {"role": "system", "content": text}, {"role": "user", "content": [{"type": "text", "text": text}]},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c", "content": text},
        ],
    }  # fmt: skip


def messages_body(text: str) -> Any:
    part = {"type": "text", "text": text}
    return {
        "model": "m", "max_tokens": 5, "system": [part], "metadata": {"user_id": text},
        "messages": [
            {"role": "user", "content": text},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": [text]}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [part]}]},
        ],
    }  # fmt: skip


def responses_body(text: str) -> Any:
    return {
        "model": "m", "instructions": text, "input": [
            {"role": "user", "content": [{"type": "input_text", "text": text}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": hidden({"a": text})},
            {"type": "function_call_output", "call_id": "c", "output": text},
        ],
    }  # fmt: skip


APIS = {
    "chat": (openai.CHAT, chat_body),
    "completions": (openai.COMPLETIONS, lambda text: {"model": "m", "prompt": [text, text], "suffix": text}),
    "embeddings": (openai.EMBEDDINGS, lambda text: {"model": "m", "input": [text]}),
    "messages": (anthropic.MESSAGES, messages_body),
    "count": (anthropic.COUNT_TOKENS, messages_body),
    "responses": (responses.RESPONSES, responses_body),
}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("api", "speaks"), [(name, speaks) for name, (dialect, _) in APIS.items() for speaks in dialect.ways]
)
@given(number=st.one_of(residents(), mobiles()))
def test_what_is_forwarded_by_any_way_has_nothing_that_is_found(api: str, speaks: str, number: str) -> None:
    dialect, made = APIS[api]
    body = orjson.dumps(made(f"打 {number} 找我"))
    way = dialect.ways[speaks](dialect.read(body, {}), body, "gen_1", NONE._replace(output=5))
    sent = Masks(RECIPE, is_constant=dialect.kind == "embeddings").body(way.forwarded("m"))
    assert [each for text in leaves(json.loads(sent)) for each in finds(text)] == []


# ---- answers, cut anywhere


def cut(text: str, places: list[int]) -> list[str]:
    at = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


def line(document: Any, *, ascii: bool = False) -> bytes:
    head = f"event: {document['type']}\n" if "type" in document else ""
    return f"{head}data: {json.dumps(document, ensure_ascii=ascii)}\n\n".encode("utf-8", "surrogatepass")


def chat_events(pieces: list[str], arguments: list[str], ascii: bool) -> bytes:
    """Two choices that take turns, the second calling a tool."""
    told = [line({"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})]
    for at in range(max(len(pieces), len(arguments))):
        choices = []
        if at < len(pieces) - 1:
            choices.append({"index": 0, "delta": {"content": pieces[at]}, "finish_reason": None})
        if at < len(arguments):
            call = {"index": 3, "function": {"arguments": arguments[at]}}
            choices.append({"index": 1, "delta": {"tool_calls": [call]}, "finish_reason": None})
        told += [line({"id": "c", "choices": [choice]}, ascii=ascii) for choice in choices]
    last = [{"content": pieces[-1]}, {}]  # some servers say the last of it and that it is over at once
    told += [
        line({"id": "c", "choices": [{"index": at, "delta": delta, "finish_reason": "stop"}]}, ascii=ascii)
        for at, delta in enumerate(last)
    ]
    return b"".join(told) + b"data: [DONE]\n\n"


def messages_events(pieces: list[str], arguments: list[str], ascii: bool) -> bytes:
    told = [line({"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}})]
    blocks = ({"type": "text", "text": ""}, {"type": "tool_use", "id": "t", "name": "f", "input": {}})
    deltas = ("text_delta", "text", pieces), ("input_json_delta", "partial_json", arguments)
    for number, (block, (kind, name, parts)) in enumerate(zip(blocks, deltas, strict=True)):
        at = {"index": number}
        told.append(line({"type": "content_block_start", **at, "content_block": block}))
        for part in parts:
            told.append(line({"type": "content_block_delta", **at, "delta": {"type": kind, name: part}}, ascii=ascii))
        told.append(line({"type": "content_block_stop", **at}))
    told.append(line({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}))
    return b"".join([*told, line({"type": "message_stop"})])


def responses_events(pieces: list[str], called: list[str], ascii: bool) -> bytes:
    told: list[Any] = [{"type": "response.created", "response": {}}]
    for number, (kind, parts) in enumerate((("output_text", pieces), ("function_call_arguments", called))):
        whose = {"item_id": f"i{number}", "output_index": number}
        more = {"content_index": 0} if number == 0 else {}
        told += [{"type": f"response.{kind}.delta", **whose, **more, "delta": part} for part in parts]
        whole = {"text" if number == 0 else "arguments": "".join(parts)}
        told.append({"type": f"response.{kind}.done", **whose, **more, **whole})
    told.append({"type": "response.completed", "response": {"usage": None, "output": []}})
    return b"".join(line(each | {"sequence_number": at}, ascii=ascii) for at, each in enumerate(told))


EVENTS = {
    "chat": (chat_events, lambda: stream.Events(keeps_usage=False)),
    "messages": (messages_events, messages.Events),
    "responses": (responses_events, responses.Events),
}


def read(told: bytes) -> tuple[str, str, list[Any]]:
    """(text, arguments, documents) as a client of any API puts them together."""
    text = arguments = ""
    documents = [json.loads(each) for each in stream.documents(told)]
    for document in documents:
        for choice in document.get("choices", ()):
            delta = choice.get("delta", {})
            text += delta.get("content") or ""
            arguments += "".join(call["function"]["arguments"] for call in delta.get("tool_calls", ()))
        kind, delta = document.get("type", ""), document.get("delta")
        if kind == "content_block_delta":
            text += delta.get("text", "")
            arguments += delta.get("partial_json", "")
        elif kind == "response.output_text.delta":
            text += delta
        elif kind == "response.function_call_arguments.delta":
            arguments += delta
    return text, arguments, documents


@pytest.mark.heavy
@pytest.mark.parametrize("api", EVENTS)
@given(TEXTS, CUTS, CUTS, st.booleans(), st.integers(1, 997))
@example("13812345678的@", [], [], False, 997)  # what looks like a placeholder at the very end
def test_a_stream_says_what_was_written_wherever_it_is_cut(
    api: str, text: str, places: list[int], others: list[int], ascii: bool, size: int
) -> None:
    masks = Masks(RECIPE)
    masked = masks.text(text)
    arguments = json.dumps({"say": masked}, ensure_ascii=False)
    wire, events = EVENTS[api]
    sent = wire(cut(masked, places), cut(arguments, others), ascii)
    revealed = Revealed(events(), masks)
    told = b"".join(revealed.feed(sent[at : at + size]) for at in range(0, len(sent), size))  # bytes are cut too
    said, called, documents = read(told)
    assert said == text
    assert json.loads(called) == {"say": text}
    numbers = [each["sequence_number"] for each in documents if "sequence_number" in each]
    assert numbers == list(range(len(numbers)))
    if not masks.count and b"@" not in sent:
        assert told == sent


@pytest.mark.parametrize("api", EVENTS)
@given(TEXTS, CUTS)
def test_a_label_for_people_stands_once_at_the_end_and_not_where_a_tool_is_called(
    api: str, text: str, places: list[int]
) -> None:
    wire, events = EVENTS[api]
    sent = wire(cut(text, places), cut('{"a":1}', places), False)
    marks = Marks([Label("AIGC", {"ProduceID": "{call}"}, CITED), Label("", True, CITED, "（生成）")], "gen_1", b"{}")
    told = Marked(events(), marks).feed(sent)
    said, called, documents = read(told)
    assert json.loads(called) == {"a": 1}
    assert documents[0]["AIGC"] == {"ProduceID": "gen_1"}
    assert said in (text, text + "（生成）") and (api != "messages" or said == text), "that one calls a tool"
    numbers = [each["sequence_number"] for each in documents if "sequence_number" in each]
    assert numbers == list(range(len(numbers)))


def marks(said: str = "（生成）") -> Marks:
    return Marks([Label("AIGC", True, CITED), Label("", True, CITED, said)], "gen_1", b"{}")


def test_a_stream_that_begins_with_a_comment_is_marked_in_its_first_document() -> None:
    told = Marked(stream.Events(keeps_usage=True), marks())
    assert told.feed(b": one moment\n\n") == b": one moment\n\n"
    first = told.feed(b'data: {"choices":[]}\n\n')
    assert json.loads(first[6:]) == {"AIGC": True, "choices": []}
    assert b"AIGC" not in told.feed(b'data: {"choices":[]}\n\n')


def test_what_a_stream_says_beside_its_choices_passes() -> None:
    told = Marked(stream.Events(keeps_usage=True), marks())
    told.feed(b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n')
    failure = b'data: {"error":{"message":"out of memory"}}\n\n'
    assert told.feed(failure) == failure


@pytest.mark.parametrize(
    ("answer", "is_shown"),
    [
        ({"choices": [{"message": {"content": "a"}}]}, b"yes"),
        ({"choices": [{"message": {"content": None, "reasoning": "a"}}]}, b"no"),
        ({"choices": [{"message": {"content": "a", "tool_calls": [{}]}}]}, b"no"),
        ({"choices": [{"message": {"content": "a", "function_call": {}, "tool_calls": [{}]}}]}, b"no"),
        ({"content": [{"type": "tool_use"}], "stop_reason": "tool_use"}, b"no"),
        ({"output": [{"type": "function_call"}]}, b"no"),
        ({"output": [{"content": [{"type": "output_text", "text": "a"}]}]}, b"yes"),
        ({}, b"no"),
    ],
)
def test_it_is_said_that_a_label_for_people_is_there_only_where_it_is(answer: Any, is_shown: bytes) -> None:
    made = marks()
    told = made.whole(orjson.dumps(answer))
    assert dict(made.lines())[b"gongqi-shown"] == is_shown
    assert ("（生成）".encode() in told) == (is_shown == b"yes")
    assert orjson.loads(told)["AIGC"] is True


@given(TEXTS)
def test_a_whole_answer_says_what_was_written(text: str) -> None:
    masks = Masks(RECIPE)
    masked = masks.text(text)
    answer = {
        "choices": [
            {"message": {"content": masked, "tool_calls": [{"function": {"arguments": json.dumps({"a": masked})}}]}}
        ]
    }
    told = json.loads(masks.reveal(orjson.dumps(answer)))["choices"][0]["message"]
    assert told["content"] == text
    assert json.loads(told["tool_calls"][0]["function"]["arguments"]) == {"a": text}


def test_big_numbers_and_unknown_members_are_forwarded_as_they_are() -> None:
    body = b'{"model":"m","seed":123456789012345678901234567890,"x":{"y":[1.5,null]},"messages":[{"content":"13812345678"}]}'
    sent = msgspec.json.decode(Masks(RECIPE).body(body))
    assert sent["seed"] == 123456789012345678901234567890 and sent["x"] == {"y": [1.5, None]} and sent["model"] == "m"
    assert request.read(Masks(RECIPE).body(body)).model == "m"


@given(st.one_of(TEXTS, st.text("12 -+.x８－", max_size=150)), st.integers(1, 60))
def test_where_a_text_is_cut_into_windows_makes_no_difference(text: str, size: int) -> None:
    whole = [list(detector.find(text)) for detector in RECIPE.detectors]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identifiers, "WINDOW", size)
        assert [list(detector.find(text)) for detector in RECIPE.detectors] == whole


def test_while_a_long_text_is_masked_others_go_on() -> None:
    """What it takes in all is not of this test: a step of the loop waits for a small part of it."""
    text = "11010519491231002" * (MAX_LETTERS // 17)
    body = orjson.dumps({"model": "m", "prompt": text})
    began = time.perf_counter()
    waits: list[float] = []

    async def masked() -> None:
        task = asyncio.ensure_future(guard.guarded(Duty(mask=RECIPE), openai.COMPLETIONS, "m", "gen_1", body))
        while not task.done():
            at = time.perf_counter()
            await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - at)
        assert task.result().masked == 0

    asyncio.run(masked())
    assert max(waits) < (time.perf_counter() - began) / 4


@pytest.mark.parametrize("row", ["1", "1 ", "19", "1 9 ", "１ ", "20010101", "2 0 0 1 0 1 0 1 "])
def test_a_long_row_of_digits_is_not_reckoned_through_at_each_of_them(
    monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(identifiers, "is_resident", asked.append)
    text = row * 1000
    assert list(RESIDENT.find(text)) == [] and len(asked) <= len(text) / 8


def test_more_numbers_than_are_masked_are_refused_before_the_rest_is_looked_for() -> None:
    seen = []

    def find(text: str) -> Iterator[tuple[int, int]]:
        for at in range(len(text)):
            seen.append(at)
            yield at, at + 1

    with pytest.raises(Refused, match=r"serving\.masks-too-many"):
        Masks(Recipe((Detector("each", "each", find),), "refuse", CITED)).text("1" * 5 * MAX_MASKS)
    assert len(seen) == MAX_MASKS + 1


@pytest.mark.parametrize("texts", [["a" * (MAX_LETTERS + 1)], ["a" * (MAX_LETTERS // 4)] * 5])
def test_more_text_than_a_model_reads_is_refused_where_it_must_be_looked_at(texts: list[str]) -> None:
    with pytest.raises(Refused, match=r"serving\.unmaskable.*size"):
        Masks(RECIPE).body(orjson.dumps({"model": "m", "prompt": texts}))
    assert Masks(RECIPE).body(orjson.dumps({"model": "m", "prompt": "a" * (MAX_LETTERS // 2)}))


@pytest.mark.parametrize("layers", [2, 6])
def test_json_that_is_deep_within_json_that_is_deep_is_refused_and_not_our_fault(layers: int) -> None:
    text = "\\u0031"
    for _ in range(layers):
        text = "[" * 150 + json.dumps(text) + "]" * 150
    with pytest.raises(Refused, match=r"serving\.unmaskable.*depth"):
        Masks(RECIPE).body(orjson.dumps({"model": "m", "user": text}))


def test_a_member_that_is_given_twice_does_not_hide_the_first_of_them() -> None:
    body = b'{"model":"m","messages":[{"content":"13812345678","content":"?"}],"user":"13812345678","user":"u"}'
    assert b"13812345678" not in Masks(RECIPE).body(body)


@given(st.binary(min_size=60, max_size=200), mobiles())
def test_where_pictures_pass_they_are_what_they_were_and_what_is_said_beside_them_is_masked(
    picture: bytes, number: str
) -> None:
    passing = Recipe((RESIDENT, MOBILE), "pass", CITED)
    code = base64.b64encode(picture + b"13812345678").decode()
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code}", "detail": number}}
    block = {"type": "image", "source": {"type": "base64", "data": code}, "title": number}
    sent = json.loads(Masks(passing).body(orjson.dumps({"model": "m", "messages": [url, block, number]})))
    assert sent["messages"][0]["image_url"]["url"] == url["image_url"]["url"]
    assert sent["messages"][1]["source"]["data"] == code
    assert finds(json.dumps(sent, ensure_ascii=False).replace(code, "")) == []
    for hidden_one in (url, block):
        with pytest.raises(Refused, match=r"serving\.unmaskable"):
            Masks(RECIPE).body(orjson.dumps({"model": "m", "messages": [[hidden_one]]}))
