"""A request's body: the few fields that matter to the gateway, and the two changes that are made to its bytes.

The body is read once, by a decoder that builds only the fields named here, and is then passed on as it came. What may
change is the model's name (a route may be called otherwise at its server) and `stream_options.include_usage`; both are
spliced into the bytes. Only where splicing could be mistaken (the name occurs more than once, or letters are written as
escapes) is the body read whole and written anew.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import Tokens, estimated_tokens
from gongqi.resources.serving.plane.snapshot import Route

MAX_CHOICES = 128  # `n` times prompts: each is an answer of full length, and reserved for
_ESCAPED = b"\\u00"  # an ASCII letter written as an escape could hide a second name
_NOT_TEXT = (b'"image_url"', b'"input_audio"', b'"file"', b'"video_url"')  # few bytes, many tokens


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Asked(msgspec.Struct):
    """What is read of a request. Other fields pass unread."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | msgspec.UnsetType | None = msgspec.UNSET
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(Asked)


def read(body: bytes) -> Asked:
    """Raises Refused serving.request-unreadable."""
    try:
        asked = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("serving.request-unreadable", why=str(error)[:200]) from error
    for name in ("max_tokens", "max_completion_tokens", "n", "best_of"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            raise Refused("serving.request-unreadable", why=f"{name} < 1")
    return asked


def bound(asked: Asked, body: bytes, route: Route) -> Tokens:
    """The most tokens that the answer can be charged for: the reserve.

    A token is at least one byte, so a text has no more tokens than bytes; pictures and sound may, and count as a full
    context. Raises Refused: serving.output-too-long, serving.choices-too-many.
    """
    context = route.context_tokens
    text = not any(mark in body for mark in _NOT_TEXT)
    prompt = len(body) if route.kind == "embeddings" else min(len(body), context) if text else context
    if route.kind == "embeddings":
        return Tokens(prompt)
    wanted = asked.max_completion_tokens or asked.max_tokens or route.output_tokens
    if wanted > route.output_tokens:
        raise Refused("serving.output-too-long", wanted=wanted, limit=route.output_tokens)
    choices = max(asked.n or 1, asked.best_of or 1) * _prompts(bytes(asked.prompt))
    if choices > MAX_CHOICES:
        raise Refused("serving.choices-too-many", wanted=choices, limit=MAX_CHOICES)
    return Tokens(prompt, 0, wanted * choices)


def _prompts(prompt: bytes) -> int:
    """A list of texts, or of lists of token numbers, is so many prompts (at most); anything else is one."""
    if not prompt.startswith(b"["):
        return 1
    return max(1, prompt.count(b'"') // 2, prompt.count(b"[") - 1)


def prompt_estimate(body: bytes) -> int:
    """Tokens of the prompt, when the upstream does not say: framing counts as little as text does not."""
    return estimated_tokens(len(body))


def forwarded(asked: Asked, body: bytes, model: str, *, wants_usage: bool) -> bytes:
    """The body as the server is to have it: its own name of the model, and usage asked for where it streams."""
    options = asked.stream_options
    if wants_usage and isinstance(options, StreamOptions) and options.include_usage:
        wants_usage = False
    if asked.model != model:
        body = _renamed(body, asked.model, model)
    if not wants_usage:
        return body
    if options is msgspec.UNSET and _ESCAPED not in body:
        start = body.index(b"{") + 1
        return b'%s"stream_options":{"include_usage":true},%s' % (body[:start], body[start:])
    whole = orjson.loads(body)
    whole["stream_options"] = {**(whole.get("stream_options") or {}), "include_usage": True}
    return orjson.dumps(whole)


_spellings: dict[str, re.Pattern[bytes]] = {}  # one for each route's name, which operators set


def _renamed(body: bytes, old: str, new: str) -> bytes:
    pattern = _spellings.get(old)
    if pattern is None:
        spelled = re.escape(orjson.dumps(old))
        pattern = _spellings[old] = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*(' + spelled + rb")")
    found = list(_first_two(pattern, body))
    if len(found) == 1 and body.count(b'"model"') == 1 and _ESCAPED not in body:
        start, end = found[0].span(1)
        return body[:start] + orjson.dumps(new) + body[end:]
    whole: dict[str, Any] = orjson.loads(body)
    whole["model"] = new
    return orjson.dumps(whole)


def _first_two(pattern: re.Pattern[bytes], body: bytes) -> Any:
    for count, match in enumerate(pattern.finditer(body)):
        if count == 2:
            return
        yield match
