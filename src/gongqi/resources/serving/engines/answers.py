"""What is asked of a model that writes, and its answer in OpenAI's documents: whole, or news by news.

What cannot be met is refused by name, never left out in silence. Fields that change nothing here (`user`, `metadata` and
their like) pass unread.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.engines.writer import Likely, Step, Wishes, Writer
from gongqi.resources.serving.plane.request import decoded

MAX_STOPS = 16
MAX_SCHEMA_BYTES = 64 << 10
COMPLETION_TOKENS = 16  # where a completion does not say, as OpenAI has it

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Others = Annotated[int, msgspec.Meta(ge=0, le=20)]


class Part(msgspec.Struct):
    type: str
    text: str = ""


class Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None


class Schema(msgspec.Struct):
    schema: msgspec.Raw = msgspec.Raw()


class Form(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: Schema | None = None


class Streaming(msgspec.Struct):
    include_usage: bool | None = None


class Asked(msgspec.Struct):
    """What both APIs share. The fields of type Any are looked at only to say that they are not possible here."""

    model: str = ""
    stream: bool | None = None
    stream_options: Streaming | None = None
    max_tokens: Positive | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    min_p: Share | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: int | None = None
    stop: Stop | list[Stop] | None = None
    n: Positive | None = None
    best_of: Positive | None = None
    logit_bias: Any = None

    def lacking(self) -> str | None:
        """The first wish that cannot be met."""
        for name in ("n", "best_of"):
            if (getattr(self, name) or 1) > 1:
                return name
        return next((name for name in ("logit_bias", *self.UNMET) if getattr(self, name)), None)

    UNMET = ()


class AskedChat(Asked):
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)] = []
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Others | None = None
    response_format: Form | None = None
    tools: Any = None
    functions: Any = None
    audio: Any = None
    UNMET = ("tools", "functions", "audio")


class AskedCompletion(Asked):
    prompt: str | list[str | int | list[int]] = ""
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    UNMET = ("echo", "suffix")


class Answer:
    """One answer as it grows. Made of a request's body; raises Refused: serving.request-unreadable, serving.engine-lacks."""

    decoder: msgspec.json.Decoder[Any]
    kind: tuple[str, str]  # of a whole answer, of one in news
    prefix: str

    def __init__(self, body: bytes) -> None:
        self.asked = asked = decoded(self.decoder, body)
        if lacking := asked.lacking():
            raise Refused("serving.engine-lacks", what=lacking)
        stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        if len(stops) > MAX_STOPS:
            raise Refused("serving.engine-lacks", what="stop")
        self.stops: Sequence[str] = stops
        self.streams = bool(asked.stream)
        self.written = 0
        self._id = f"{self.prefix}-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._said: list[str] = []
        self._steps: list[Step] = []
        self._reported = 0  # of what was said, and of the steps
        self._reported_steps = 0

    @property
    def limit(self) -> int | None:
        return self.asked.max_tokens

    @property
    def wishes(self) -> Wishes:
        asked = self.asked
        given = {
            "temperature": asked.temperature, "top_p": asked.top_p, "top_k": asked.top_k, "min_p": asked.min_p,
            "frequency_penalty": asked.frequency_penalty, "presence_penalty": asked.presence_penalty, "seed": asked.seed,
            "logprobs": self.others, "schema": self.schema,
        }  # fmt: skip
        return Wishes(**{name: value for name, value in given.items() if value is not None})

    @property
    def others(self) -> int | None:
        return self.asked.logprobs

    @property
    def schema(self) -> str | None:
        return None

    def tokens(self, writer: Writer) -> list[int]:
        raise NotImplementedError

    # ---- as it grows

    def begin(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens

    def say(self, text: str, step: Step | None = None) -> None:
        if text:
            self._said.append(text)
        if step is not None:
            self.written += 1
            if step.chosen is not None:
                self._steps.append(step)

    def end(self, reason: str) -> None:
        self._reason = reason

    @property
    def has_news(self) -> bool:
        return len(self._said) > self._reported or len(self._steps) > self._reported_steps

    # ---- as documents

    def whole(self) -> bytes:
        choice = self._choice("".join(self._said), self._steps, whole=True) | {"finish_reason": self._reason}
        return self._document(self.kind[0], [choice], usage=self._usage())

    def news(self) -> bytes:
        """What was said since the last of them."""
        said, steps = self._said[self._reported :], self._steps[self._reported_steps :]
        is_first = not self._reported
        self._reported, self._reported_steps = len(self._said), len(self._steps)
        choice = self._choice("".join(said), steps, whole=False, is_first=is_first) | {"finish_reason": None}
        return self._document(self.kind[1], [choice])

    def last_events(self) -> Iterator[bytes]:
        if self.has_news:
            yield self.news()
        yield self._document(self.kind[1], [self._choice(None, (), whole=False) | {"finish_reason": self._reason}])
        if self.asked.stream_options is not None and self.asked.stream_options.include_usage:
            yield self._document(self.kind[1], [], usage=self._usage())

    def _document(self, kind: str, choices: list[Any], **more: Any) -> bytes:
        told = {"id": self._id, "object": kind, "created": self._created, "model": self.asked.model}
        return orjson.dumps(told | {"choices": choices} | more)

    def _usage(self) -> dict[str, int]:
        total = self._prompt_tokens + self.written
        return {"prompt_tokens": self._prompt_tokens, "completion_tokens": self.written, "total_tokens": total}

    def _choice(
        self, text: str | None, steps: Sequence[Step], *, whole: bool, is_first: bool = False
    ) -> dict[str, Any]:
        raise NotImplementedError


class Chat(Answer):
    decoder = msgspec.json.Decoder(AskedChat)
    kind = ("chat.completion", "chat.completion.chunk")
    prefix = "chatcmpl"

    @property
    def limit(self) -> int | None:
        return self.asked.max_completion_tokens or self.asked.max_tokens

    @property
    def others(self) -> int | None:
        return (self.asked.top_logprobs or 0) if self.asked.logprobs else None

    @property
    def schema(self) -> str | None:
        form = self.asked.response_format
        if form is None or form.type == "text":
            return None
        schema = bytes(form.json_schema.schema) if form.json_schema is not None else b""
        if len(schema) > MAX_SCHEMA_BYTES:
            raise Refused("serving.schema-unusable", why="size")
        return schema.decode()

    def tokens(self, writer: Writer) -> list[int]:
        """Raises Refused: serving.engine-no-template, serving.engine-lacks, serving.conversation-unfit."""
        if writer.template is None:
            raise Refused("serving.engine-no-template")
        return writer.tokens(writer.template.written([_turn(message) for message in self.asked.messages]))

    def _choice(
        self, text: str | None, steps: Sequence[Step], *, whole: bool, is_first: bool = False
    ) -> dict[str, Any]:
        said = {} if text is None else {"content": text}
        said |= {"role": "assistant"} if whole or is_first else {}
        choice = {"index": 0, "message" if whole else "delta": said}
        if self.others is not None and (whole or steps):
            choice["logprobs"] = {"content": [_likely(step) for step in steps]}
        return choice


class Completion(Answer):
    decoder = msgspec.json.Decoder(AskedCompletion)
    kind = ("text_completion", "text_completion")
    prefix = "cmpl"

    @property
    def limit(self) -> int | None:
        return self.asked.max_tokens or COMPLETION_TOKENS

    def tokens(self, writer: Writer) -> list[int]:
        """Raises Refused: serving.engine-lacks for several prompts, serving.prompt-invalid."""
        prompt: Any = self.asked.prompt
        if isinstance(prompt, list) and not all(isinstance(each, int) for each in prompt):
            if len(prompt) != 1:
                raise Refused("serving.engine-lacks", what="prompt")
            [prompt] = prompt
        return writer.prompt(prompt) if isinstance(prompt, str) else prompt

    def _choice(
        self, text: str | None, steps: Sequence[Step], *, whole: bool, is_first: bool = False
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "text": text or ""}
        if self.others is not None and (whole or steps):
            choice["logprobs"] = {
                "tokens": [_shown(step.chosen) for step in steps],
                "token_logprobs": [step.chosen.logprob for step in steps if step.chosen is not None],
                "top_logprobs": [{_shown(other): other.logprob for other in step.others} for step in steps],
            }
        return choice


def _turn(message: Message) -> dict[str, Any]:
    """As templates read it. Raises Refused serving.engine-lacks for what is no text."""
    content = message.content
    if isinstance(content, list):
        if other := next((part.type for part in content if part.type != "text"), None):
            raise Refused("serving.engine-lacks", what=other[:40])
        content = "".join(part.text for part in content)
    return {"role": "system" if message.role == "developer" else message.role, "content": content or ""}


def _likely(step: Step) -> dict[str, Any]:
    assert step.chosen is not None, "it was asked for"
    others = [_named(other) for other in step.others]
    return _named(step.chosen) | {"top_logprobs": others}


def _named(likely: Likely) -> dict[str, Any]:
    return {"token": _shown(likely), "logprob": likely.logprob, "bytes": list(likely.text)}


def _shown(likely: Likely | None) -> str:
    return "" if likely is None else likely.text.decode("utf-8", "replace")
