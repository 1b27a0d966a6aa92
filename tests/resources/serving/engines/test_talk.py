"""OpenAI's chat and completions over a model that writes what it is told to: what is read, said, counted and refused.

What llama.cpp itself does is tested in `test_writer.py`, where it is installed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.kernel.words import Words
from gongqi.resources.serving.engines import talk as module
from gongqi.resources.serving.engines.door import Door, Visit
from gongqi.resources.serving.engines.talk import CHAT, COMPLETIONS, Talk
from gongqi.resources.serving.engines.template import Template
from gongqi.resources.serving.engines.writer import Likely, Step, Text, Wishes

TEMPLATE = """{% for message in messages %}{% if message.role == "tool" %}{{ raise_exception("no tools") }}{% endif -%}
<{{ message.role }}>{{ message.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"""


class Scripted:
    """A writer whose tokens are the bytes of what is read, and who writes `script`, then ends."""

    vocabulary = 256
    context = 200

    def __init__(
        self, script: Sequence[bytes] = (b"He", b"llo", "，世".encode()[:4], "，世".encode()[4:], b"!")
    ) -> None:
        self.script = script
        self.template: Template | None = Template(TEMPLATE, bos_token="<s>", eos_token="</s>")
        self.read: list[bytes] = []
        self.wished: list[Wishes] = []
        self.written = 0

    def tokens(self, text: str) -> list[int]:
        self.read.append(text.encode())
        return list(text.encode())

    prompt = tokens

    def steps(self, tokens: Sequence[int], wishes: Wishes, limit: int) -> Iterator[Step]:
        self.wished.append(wishes)
        for piece in self.script[:limit]:
            self.written += 1
            likely = Likely(piece, -0.5)
            yield Step(piece) if wishes.logprobs is None else Step(piece, likely, (likely,) * wishes.logprobs)


async def attend(talk: Talk, path: str, asked: Any, leaves: bool = False, output_tokens: int = 0) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        if not leaves:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    await talk.attend(Visit(path, json.dumps(asked).encode(), receive, send, output_tokens=output_tokens))
    return (sent[0]["status"] if sent else 0), b"".join(message.get("body", b"") for message in sent)


def ask(writer: Any, path: str = CHAT, leaves: bool = False, **asked: Any) -> bytes:
    if path == CHAT:
        asked = {"messages": [{"role": "user", "content": "hi"}]} | asked

    async def asking() -> bytes:
        return (await attend(Talk(writer, asyncio.get_running_loop()), path, {"model": "m"} | asked, leaves))[1]

    return asyncio.run(asking())


def answer(writer: Any, path: str = CHAT, **asked: Any) -> dict[str, Any]:
    return json.loads(ask(writer, path, **asked))


def events(writer: Any, path: str = CHAT, **asked: Any) -> list[dict[str, Any]]:
    *told, done = ask(writer, path, stream=True, **asked).strip().split(b"\n\n")
    assert done == b"data: [DONE]"
    return [json.loads(each.removeprefix(b"data: ")) for each in told]


def refused(path: str = CHAT, writer: Any = None, **asked: Any) -> str:
    with pytest.raises(GongqiError) as caught:
        ask(writer or Scripted(), path, **asked)
    return caught.value.code


def test_a_conversation_is_written_as_the_model_s_template_says_and_answered_whole() -> None:
    writer = Scripted()
    parts = [{"type": "text", "text": "公"}, {"type": "text", "text": "器"}]
    turns = [{"role": "developer", "content": "brief"}, {"role": "user", "content": parts}]
    told = answer(writer, messages=turns)
    assert writer.read == ["<system>brief<user>公器<assistant>".encode()]
    [choice] = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello，世!"} and choice["finish_reason"] == "stop"
    prompt = len(writer.read[0])
    assert told["usage"] == {"prompt_tokens": prompt, "completion_tokens": 5, "total_tokens": prompt + 5}
    assert told["object"] == "chat.completion" and told["model"] == "m" and told["id"].startswith("chatcmpl-")


def test_a_stream_says_the_same_in_whole_characters_and_counts_when_asked_to() -> None:
    told = events(Scripted(), stream_options={"include_usage": True})
    *news, last, usage = told
    assert news[0]["choices"][0]["delta"] == {"role": "assistant", "content": "He"}
    assert [each["choices"][0]["delta"]["content"] for each in news] == ["He", "llo", "，", "世", "!"]
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 5
    assert len({each["id"] for each in told}) == 1
    assert "usage" not in events(Scripted())[-1]


def test_an_answer_ends_where_it_was_told_to() -> None:
    whole = answer(Scripted(), stop="lo")
    assert whole["choices"][0]["message"]["content"] == "Hel" and whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == 2, "those that were written, the stop included"
    told = events(Scripted(), stop=["，世", "x"])
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in told) == "Hello"
    short = answer(Scripted(), max_completion_tokens=2)["choices"][0]
    assert (short["message"]["content"], short["finish_reason"]) == ("Hello", "length")
    assert answer(Scripted(), max_tokens=1)["choices"][0]["message"]["content"] == "He"


def test_who_bounds_nothing_gets_no_more_than_the_gateway_has_set_aside_for() -> None:
    async def asking(**asked: Any) -> dict[str, Any]:
        asked |= {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        talk = Talk(Scripted(), asyncio.get_running_loop())  # type: ignore[arg-type]
        return json.loads((await attend(talk, CHAT, asked, output_tokens=3))[1])

    told = asyncio.run(asking())
    assert told["usage"]["completion_tokens"] == 3 and told["choices"][0]["finish_reason"] == "length"
    assert asyncio.run(asking(max_tokens=1))["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize(("said", "heard"), [([], 0), ([(b"gongqi-output-tokens", b"512")], 512)])
def test_the_door_hears_how_much_was_set_aside_for(said: list[tuple[bytes, bytes]], heard: int) -> None:
    visits: list[Visit] = []

    class Engine:
        paths, waiting, since = (CHAT,), 0, None

        async def attend(self, visit: Visit) -> None:
            visits.append(visit)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(_message: dict[str, Any]) -> None:
        raise AssertionError("nothing is answered")

    async def visiting() -> None:
        door = Door(Engine(), Words(), asyncio.get_running_loop().time)
        await door({"method": "POST", "path": CHAT, "headers": said}, receive, send)

    asyncio.run(visiting())
    assert [visit.output_tokens for visit in visits] == [heard]


def test_a_completion_goes_on_from_a_text_or_from_tokens() -> None:
    writer = Scripted()
    for prompt in ("once", ["once"], list(b"once"), [list(b"once")]):
        told = answer(writer, COMPLETIONS, prompt=prompt)
        assert told["choices"][0]["text"] == "Hello，世!" and told["object"] == "text_completion"
        assert told["usage"]["prompt_tokens"] == 4
    assert "".join(each["choices"][0]["text"] for each in events(writer, COMPLETIONS, prompt="once")) == "Hello，世!"
    long = Scripted([b"x"] * 100)
    assert answer(long, COMPLETIONS, prompt="once")["usage"]["completion_tokens"] == 16, "as OpenAI has it"


def test_likelihoods_are_told_in_the_form_of_each_api() -> None:
    told = answer(Scripted(), logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert told[0] == {"token": "He", "logprob": -0.5, "bytes": [72, 101], "top_logprobs": [
        {"token": "He", "logprob": -0.5, "bytes": [72, 101]}] * 2}  # fmt: skip
    assert len(told) == 5
    news = events(Scripted(), logprobs=True)
    assert sum(len(each["choices"][0].get("logprobs", {}).get("content", [])) for each in news) == 5
    told = answer(Scripted(), COMPLETIONS, prompt="once", logprobs=1)["choices"][0]["logprobs"]
    assert told["tokens"][:2] == ["He", "llo"] and told["top_logprobs"][0] == {"He": -0.5}


def test_wishes_are_handed_on_and_have_openai_s_defaults() -> None:
    writer = Scripted()
    answer(writer)
    asked = {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 7,
        "frequency_penalty": 1,
        "response_format": {"type": "json_object"},
    }
    answer(writer, **asked)
    schema = {"type": "object"}
    answer(writer, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    assert writer.wished[0] == Wishes() == Wishes(temperature=1.0, top_p=1.0, top_k=0)
    assert writer.wished[1] == Wishes(temperature=0, top_p=0.5, seed=7, frequency_penalty=1, schema="")
    assert json.loads(writer.wished[2].schema or "") == schema


@pytest.mark.parametrize(
    "asked",
    [
        {"n": 2}, {"tools": [{"type": "function"}]}, {"functions": [{}]}, {"logit_bias": {"1": 2}}, {"stop": ["a"] * 17},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(asked: dict[str, Any]) -> None:
    assert refused(**asked) == "serving.engine-lacks"


@pytest.mark.parametrize("asked", [{"echo": True}, {"suffix": "x"}, {"prompt": ["a", "b"]}, {"best_of": 2}])
def test_nor_is_it_of_completions(asked: dict[str, Any]) -> None:
    assert refused(COMPLETIONS, **({"prompt": "once"} | asked)) == "serving.engine-lacks"


@pytest.mark.parametrize(
    "asked",
    [
        {"messages": []},
        {"messages": [{"role": "king", "content": "x"}]},
        {"temperature": 9},
        {"top_p": -1},
        {"max_tokens": 0},
    ],
)
def test_what_is_no_request_is_unreadable(asked: dict[str, Any]) -> None:
    assert refused(**asked) == "serving.request-unreadable"


def test_what_the_model_cannot_read_is_refused() -> None:
    without = Scripted()
    without.template = None
    assert refused(writer=without) == "serving.engine-no-template"
    assert refused(messages=[{"role": "tool", "content": "x"}]) == "serving.conversation-unfit"
    assert refused(messages=[{"role": "user", "content": "x" * 300}]) == "serving.prompt-too-long"
    assert refused(COMPLETIONS, prompt=[300]) == refused(COMPLETIONS, prompt="") == "serving.prompt-invalid"
    large = {"type": "json_schema", "json_schema": {"schema": {"description": "x" * 70_000}}}
    assert refused(response_format=large) == "serving.schema-unusable"


@pytest.mark.parametrize("text", ["{% for %}", "{{ ''.__class__.__mro__ }}", "x" * (257 << 10)])
def test_a_template_is_a_stranger_s_program(text: str) -> None:
    with pytest.raises(Refused) as caught:
        Template(text, bos_token="", eos_token="").written([])
    assert caught.value.code in ("serving.engine-unloadable", "serving.conversation-unfit")


def test_templates_have_what_transformers_gives_them() -> None:
    text = "{% generation %}{{ messages | tojson }}{% endgeneration %}"
    text += "{% for m in messages %}{% break %}{% endfor %}{{ bos_token }}"
    assert Template(text, bos_token="<s>", eos_token="").written([{"a": "公"}]) == '[{"a": "公"}]<s>'


def test_one_writes_at_a_time_and_the_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    writer = Scripted([b"x"] * 50)
    body = {"messages": [{"role": "user", "content": "hi"}]}

    async def asking() -> list[Any]:
        talk = Talk(writer, asyncio.get_running_loop())  # type: ignore[arg-type]
        return await asyncio.gather(*(attend(talk, CHAT, body) for _ in range(3)), return_exceptions=True)

    first, second, third = asyncio.run(asking())
    assert first[0] == second[0] == 200
    assert isinstance(third, Unavailable) and third.code == "serving.engine-busy"


def test_a_caller_who_has_left_is_written_nothing() -> None:
    writer = Scripted([b"x"] * 50)
    assert ask(writer, leaves=True) == b"" and writer.written <= 1


@given(
    st.lists(st.text("abc，", max_size=4)),
    st.lists(st.text("abc，", min_size=1, max_size=3), max_size=3),
    st.integers(1, 4),
)
def test_what_is_said_is_all_that_comes_before_the_first_stop(pieces: list[str], stops: list[str], size: int) -> None:
    """Whatever the pieces it comes in, of which some end within a character."""
    content = "".join(pieces)
    raw = content.encode()
    text, said = Text(stops), ""
    for start in range(0, len(raw), size):
        said += text.feed(raw[start : start + size])
        assert all(stop not in said for stop in stops)
        if text.has_stopped:
            break
    said += text.end()
    ends = [content.find(stop) for stop in stops if stop in content]
    assert text.has_stopped == bool(ends)
    assert content.startswith(said) and all(stop not in said for stop in stops)
    assert said == content or ends
