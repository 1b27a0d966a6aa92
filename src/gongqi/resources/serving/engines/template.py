"""The template by which a model's file says how a conversation is written, rendered in Jinja's immutable sandbox.

It is a stranger's program, so it runs in the engine's process alone; one that never ends is ended with it. What it may use
is what `transformers` gives it (`utils/chat_template_utils.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gongqi.kernel.errors import Refused

MAX_CHARACTERS = 256 << 10


class _Generation(Extension):
    """A mark that templates set for training, and that says nothing here."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Template:
    """Raises Refused serving.engine-unloadable when it is no template."""

    def __init__(self, text: str, *, bos_token: str, eos_token: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            if len(text) > MAX_CHARACTERS:
                raise ValueError("too long")
            self._template = environment.from_string(text)
        except (jinja2.TemplateError, ValueError, RecursionError) as error:
            raise Refused("serving.engine-unloadable", reason="chat_template", detail=str(error)[:500]) from error

    def written(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Up to where the model is to answer. Raises Refused serving.conversation-unfit."""
        try:
            return self._template.render(messages=list(messages), add_generation_prompt=True, **self._tokens)
        except Exception as error:  # a template raises what it likes
            raise Refused("serving.conversation-unfit", why=str(error)[:200]) from error


def _raise(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
