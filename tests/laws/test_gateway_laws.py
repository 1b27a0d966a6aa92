"""The laws of the gateway's money and bytes, over whatever the machine can think of."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.kernel.errors import Refused
from gongqi.resources.serving import metering
from gongqi.resources.serving.metering import ENDINGS, NANO, Tariff, Tokens
from gongqi.resources.serving.plane import chat_as_messages, request, responses, responses_as_chat, spool, stream
from gongqi.resources.serving.plane.messages_as_chat import Retelling
from gongqi.resources.serving.plane.pool import is_allowed

counts = st.integers(0, 10**6)
nanos = st.integers(0, 10**9)
tariffs = st.builds(Tariff, st.just("p"), st.just(1), st.just("CNY-fen"), nanos, nanos, nanos)
tokens = st.builds(lambda i, c, o: Tokens(i, min(c, i), o), counts, counts, counts)


@given(st.lists(st.tuples(tokens, tariffs), max_size=30), st.lists(st.integers(1, 5), min_size=1, max_size=10))
def test_however_calls_are_cut_into_batches_the_sum_is_rounded_once(calls: Any, sizes: list[int]) -> None:
    costs = [metering.cost(*call) for call in calls]
    charged = owed = 0
    at = 0
    for number in range(len(costs) + 1):
        size = sizes[number % len(sizes)]
        whole, owed = metering.book(owed, sum(costs[at : at + size]))
        charged += whole
        at += size
    assert charged == sum(costs) // NANO and owed == sum(costs) % NANO


NAMES = st.sampled_from(("n", "model", "max_tokens", "模", 'a"b', "")) | st.text(max_size=3)
SPACES = st.text(" \t\r\n", max_size=2)
MEMBERS = st.lists(st.tuples(NAMES, st.recursive(st.sampled_from((1, 12, "n", "", None)), st.lists)), max_size=5)


@given(MEMBERS, st.lists(SPACES, min_size=24, max_size=24), st.booleans(), st.booleans())
def test_a_body_is_refused_if_and_only_if_it_gives_a_name_twice(
    members: list[tuple[str, Any]], spaces: list[str], ascii: bool, wide: bool
) -> None:
    gap = iter(spaces if wide else [""] * len(spaces))
    told = [
        f"{next(gap)}{json.dumps(name, ensure_ascii=ascii)}{next(gap)}:{next(gap)}{json.dumps(value)}{next(gap)}"
        for name, value in members
    ]
    body = f"{next(gap)}{{{','.join(told)}}}".encode()
    twice = {name for at, (name, _) in enumerate(members) if name in [name for name, _ in members[:at]]}
    if twice:
        with pytest.raises(Refused, match=r"serving\.request-unreadable") as refused:
            request.require_once(body)
        assert refused.value.params["why"] in {f'"{name}" × 2' for name in twice}
    else:
        request.require_once(body)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 50))
def test_a_tab_that_is_not_paid_in_full_still_owes_the_rest(owed: int, added: int, limit: int) -> None:
    whole, rest = metering.book(owed, added, limit)
    assert whole <= limit and whole * NANO + rest == owed + added


@given(st.sampled_from(ENDINGS), tariffs, tokens, st.none() | tokens, counts, counts)
def test_nobody_pays_more_than_was_reserved_nor_for_nothing(
    ending: str, tariff: Tariff, bound: Tokens, reported: Tokens | None, prompt: int, delivered: int
) -> None:
    bound = bound._replace(cached=0)
    charge = metering.charge(ending, tariff=tariff, bound=bound, reported=reported, prompt=prompt, delivered=delivered)
    assert 0 <= charge.nanos <= metering.reserve(bound, tariff)
    assert charge.nanos == metering.cost(charge.tokens, tariff)
    if ending == "refused" or (ending != "complete" and not delivered):
        assert charge.nanos == 0 and charge.tokens == metering.NONE
    if ending in ("cut", "timed-out", "killed"):
        assert charge.tokens.input == 0, "the prompt of an answer that broke off is not paid"
    if ending not in ("refused", "complete"):
        assert charge.tokens.output >= min(delivered, bound.output), "what was delivered is paid"


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.integers()), counts)
def test_what_cannot_be_a_number_of_tokens_is_not_taken_for_one(value: Any, count: int) -> None:
    read = metering.sensible(value, 0, count)
    assert (read is not None) == (type(value) is int and 0 <= value <= metering.MAX_TOKENS)


def answer(words: list[str], *, usage: bool, line: bytes) -> bytes:
    events: list[dict[str, Any]] = [{"choices": [{"delta": {"role": "assistant", "content": ""}}]}]
    events += [{"choices": [{"delta": {"content": word}}], "usage": None} for word in words]
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    if usage:
        events.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(words)}})
    told = b"".join(b"data: " + json.dumps(event, separators=(",", ":")).encode() + line for event in events)
    return told + b"data: [DONE]" + line


@given(
    st.lists(st.text(min_size=1, max_size=8), max_size=12), st.booleans(), st.booleans(),
    st.sampled_from([b"\n\n", b"\r\n\r\n"]), st.lists(st.integers(1, 40), min_size=1, max_size=20),
)  # fmt: skip
def test_however_a_stream_is_cut_into_pieces_the_same_is_delivered_and_counted(
    words: list[str], usage: bool, keeps: bool, line: bytes, sizes: list[int]
) -> None:
    data = answer(words, usage=usage, line=line)
    events, out, at, number = stream.Events(keeps_usage=keeps), b"", 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        out += events.feed(data[at : at + size])
        at, number = at + size, number + 1
    assert out == answer(words, usage=usage and keeps, line=line)
    assert events.done
    assert events.reported == (Tokens(3, 0, len(words)) if usage else None)
    assert events.events in (len(words) + 1, 0 if not words else len(words) + 1), "the last only says why it ended"


names = st.text(min_size=1, max_size=20)


@given(
    names,
    names,
    st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.lists(st.integers()), max_size=4),
    st.booleans(),
)
def test_only_the_name_and_the_wish_for_usage_change(old: str, new: str, more: dict[str, Any], ascii: bool) -> None:
    known = {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "best_of"}
    whole = {**{key: value for key, value in more.items() if key not in known}, "model": old, "stream": True}
    whole["messages"] = [{"content": f'"model":"{old}"', "model": old}]
    body = json.dumps(whole, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    try:
        body.decode()
    except UnicodeDecodeError:
        return
    sent = json.loads(request.forwarded(request.read(body), body, new, wants_usage=True))
    assert sent == whole | {"model": new, "stream_options": {"include_usage": True}}


@given(
    st.lists(st.lists(st.none() | st.integers(-(2**53), 2**53) | st.text(max_size=20), max_size=5), max_size=20),
    st.data(),
)
def test_a_spool_cut_anywhere_is_read_up_to_its_last_whole_line(records: list[list[Any]], data: Any) -> None:
    lines = [spool.line_of(record) for record in records]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    with tempfile.NamedTemporaryFile() as file:
        file.write(whole[:cut])
        file.flush()
        read, end = spool.read_from(Path(file.name), 0, 1 << 20)
    assert read == records[: len(read)]
    assert end == sum(len(line) for line in lines[: len(read)]) <= cut
    assert len(read) == len(lines) or end + len(lines[len(read)]) > cut


@given(st.binary(max_size=60))
def test_what_is_no_record_is_not_taken_for_one(line: bytes) -> None:
    assert spool.record_of(line + b"\n") is None


@given(st.ip_addresses())
def test_no_server_is_where_clouds_keep_their_secrets_nor_at_home_unless_that_is_allowed(address: Any) -> None:
    if is_allowed(str(address), private=False):
        carried = getattr(address, "sixtofour", None) or address  # Python 3.11.2 calls all of 6to4 private, 3.11.7 none
        assert carried.is_global and is_allowed(str(address), private=True)
    for secret in ("169.254.169.254", "::ffff:169.254.169.254", "168.63.129.16", "192.0.0.192", "fd20:ce::254"):
        assert not is_allowed(secret, private=True)
    for carried in ("64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "::7f00:1"):
        assert not is_allowed(carried, private=False)
    for at_home in ("64:ff9b:1::808:808", "fec0::1"):
        assert is_allowed(at_home, private=True) and not is_allowed(at_home, private=False)
    assert is_allowed("::1", private=True) and not is_allowed("::1", private=False)
    assert is_allowed("127.0.0.1", private=True) and not is_allowed("127.0.0.1", private=False)


def thoughtful(words: list[str]) -> bytes:
    """A chat stream that thinks, speaks and calls two tools."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"reasoning_content": "hm"}]
    deltas += [{"content": word} for word in words]
    for number in range(2):
        called = {"index": number, "id": f"t{number}", "function": {"name": "f", "arguments": ""}}
        deltas += [{"tool_calls": [called]}, {"tool_calls": [{"index": number, "function": {"arguments": "{}"}}]}]
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}})
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


@given(st.lists(st.text(min_size=1, max_size=8), max_size=6), st.lists(st.integers(1, 200), min_size=1, max_size=9))
def test_a_translated_stream_is_whole_however_it_is_cut_and_each_block_is_opened_and_closed_once(
    words: list[str], sizes: list[int]
) -> None:
    retelling = Retelling("msg_1", "m", 7, wants_thought=True)
    data, out, at, number = thoughtful(words), b"", 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        out += retelling.feed(data[at : at + size])
        at, number = at + size, number + 1
    told = [json.loads(document) for document in stream.documents(out)]
    kinds = [event["type"] for event in told]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    open_block = -1
    for event in told[1:-2]:
        if event["type"] == "content_block_start":
            open_block += 1
        assert event["index"] == open_block
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 3 + bool(words)
    said = [event["delta"].get("text", "") for event in told if event["type"] == "content_block_delta"]
    assert "".join(said) == "".join(words)
    assert told[-2]["delta"]["stop_reason"] == "tool_use" and told[-2]["usage"]["output_tokens"] == 9


def spoken_by_anthropic(words: list[str]) -> bytes:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
    ]
    events.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    events += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words
    ]
    events.append({"type": "content_block_stop", "index": 0})
    events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}})
    events.append({"type": "message_stop"})
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


def test_a_tool_that_is_called_with_nothing_is_called_with_an_empty_object() -> None:
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    events: list[dict[str, Any]] = [{"type": "content_block_start", "index": 0, "content_block": block}]
    events += [{"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}}]
    events += [{"type": "content_block_stop", "index": 0}] * 2
    told = chat_as_messages.Retelling("c1", "m", wants_usage=False).feed(
        b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)
    )
    deltas = [json.loads(document)["choices"][0]["delta"] for document in stream.documents(told)]
    said = [call["function"]["arguments"] for delta in deltas for call in delta["tool_calls"]]
    assert said == ["", "{}"]


RETELLINGS = {  # how a stream is retold, and in which API it comes
    "messages": (lambda: Retelling("msg_1", "m", 7, wants_thought=True), thoughtful),
    "responses": (lambda: responses_as_chat.Retelling(responses_as_chat.Telling("1", RESPONSE, 7)), thoughtful),
    "chat": (lambda: chat_as_messages.Retelling("c1", "m", wants_usage=True), spoken_by_anthropic),
}
RESPONSE = responses.Asked("m")
TIMES = re.compile(rb'"(?:created|created_at|completed_at)":\d+')


@pytest.mark.parametrize("into", RETELLINGS)
@given(words=st.lists(st.text(min_size=1, max_size=8), max_size=5), size=st.integers(1, 90))
def test_however_a_stream_is_cut_into_pieces_it_is_retold_the_same(into: str, words: list[str], size: int) -> None:
    make, speak = RETELLINGS[into]
    data, at_once, cut = speak(words), make(), make()
    whole = at_once.feed(data)
    pieces = b"".join(cut.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert TIMES.sub(b"", pieces) == TIMES.sub(b"", whole)
    assert (cut.reported, cut.events, cut.done) == (at_once.reported, at_once.events, True)
    assert cut.reported == Tokens(3, 0, 9)
