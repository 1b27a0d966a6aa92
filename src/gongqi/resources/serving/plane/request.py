"""A request's body: the few fields that matter to the gateway, and the two changes that are made to its bytes.

The body is read once, by a decoder that builds only the fields named here, and is then passed on as it came. What may
change is the model's name (a route may be called otherwise at its server) and `stream_options.include_usage`; both are
spliced into the bytes. Only where splicing could be mistaken (the name occurs more than once, or letters are written as
escapes) is the body read whole and written anew.

Of a name that is given twice we read the last, and a server may go by the first: by a greater bound of the answer than was
reserved for, or another model. So a body gives each of its names once (RFC 8259, section 4, leaves open what two mean).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import Tokens, estimated_tokens
from gongqi.resources.serving.plane.snapshot import Route

MAX_MEMBERS = 1000  # of a body that is looked at closer; requests have some thirty
MAX_CHOICES = 128  # `n` times prompts: each is an answer of full length, and reserved for
_ESCAPED = b"\\u00"  # an ASCII letter written as an escape could hide a second name
_NOT_TEXT = (b'"image_url"', b'"input_audio"', b'"file"', b'"video_url"')  # few bytes, many tokens
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")  # which nobody writes so but to hide one of these
_MEMBER = re.compile(rb'\s*+,?\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*+:\s*+')  # of JSON, up to its value


Positive = Annotated[int, msgspec.Meta(ge=1)]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Asked(msgspec.Struct):
    """What is read of a request. Other fields pass unread."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | msgspec.UnsetType | None = msgspec.UNSET
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    n: Positive | None = None
    best_of: Positive | None = None
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


class Complaint(msgspec.Struct):
    message: str = ""


class Complained(msgspec.Struct):
    error: Complaint


_decoder = msgspec.json.Decoder(Asked)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_name = msgspec.json.Decoder(str)
_whole = msgspec.json.Decoder(dict[str, Any])  # keeps whole numbers of any length
_complaints = msgspec.json.Decoder(Complained)
_Read = TypeVar("_Read")


def decoded(decoder: msgspec.json.Decoder[_Read], body: bytes) -> _Read:
    """Raises Refused serving.request-unreadable."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("serving.request-unreadable", why=str(error)[:200]) from error


def whole(body: bytes) -> dict[str, Any]:
    """All of it, for those who must write it anew. Raises Refused serving.request-unreadable."""
    return decoded(_whole, body)


def read(body: bytes, _headers: Mapping[bytes, bytes] | None = None) -> Asked:
    """Raises Refused serving.request-unreadable."""
    require_once(body)
    return decoded(_decoder, body)


def require_once(body: bytes) -> None:
    """Each name once. A body that is as long as its members as they are read, with what must stand between them, has no
    others. Raises Refused serving.request-unreadable."""
    members = decoded(_members, body)
    if len(body) == sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members) + 1:
        return
    if len(members) > MAX_MEMBERS:
        raise Refused("serving.request-unreadable", why=f"{len(members)} > {MAX_MEMBERS}")
    if (name := _given_twice(body, members)) is not None:
        raise Refused("serving.request-unreadable", why=f'"{name[:100]}" × 2')


def _given_twice(body: bytes, members: Mapping[str, msgspec.Raw]) -> str | None:
    """A name that stands in the body more than once: then its members, each walked past where it should stand, do not
    lead to the end."""
    place, last = body.index(b"{") + 1, ""
    for name, value in members.items():
        found = _MEMBER.match(body, place)
        if found is None:  # the value before has only begun like this one's
            return last
        last, place = _name.decode(found[1]), found.end()
        if last != name or not body.startswith(value, place):
            return last
        place += len(value)
    found = _MEMBER.match(body, place)
    if found is not None:
        return _name.decode(found[1])
    return None if body[place:].strip() == b"}" else last


def bound(asked: Asked, body: bytes, route: Route) -> Tokens:
    """The most tokens that the answer can be charged for: the reserve.

    A token is at least one byte, so a text has no more tokens than bytes; pictures and sound may, and count as a full
    context. Raises Refused: serving.output-too-long, serving.choices-too-many.
    """
    if route.kind == "embeddings":
        return Tokens(len(body))
    largest = max(asked.max_completion_tokens or 0, asked.max_tokens or 0)  # servers differ in which they go by
    wanted = output_bound(largest or route.output_tokens, route)
    choices = max(asked.n or 1, asked.best_of or 1)
    if asked.prompt:
        choices *= _prompts(bytes(asked.prompt))
    if choices > MAX_CHOICES:
        raise Refused("serving.choices-too-many", wanted=choices, limit=MAX_CHOICES)
    return Tokens(prompt_bound(body, route, _NOT_TEXT), 0, wanted * choices)


def hides(body: bytes) -> bool:
    """Whether a letter is written as an escape, so that a name may be there that is looked for in vain."""
    return _ESCAPED in body and _ESCAPED_LETTER.search(body) is not None


def prompt_bound(body: bytes, route: Route, not_text: Sequence[bytes]) -> int:
    for mark in not_text:
        if mark in body:
            return route.context_tokens
    if hides(body):
        return route.context_tokens
    return min(len(body), route.context_tokens)


def output_bound(wanted: int, route: Route) -> int:
    """Raises Refused serving.output-too-long."""
    if wanted > route.output_tokens:
        raise Refused("serving.output-too-long", wanted=wanted, limit=route.output_tokens)
    return wanted


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
    body = renamed(body, asked.model, model)
    if not wants_usage:
        return body
    if options is msgspec.UNSET and _ESCAPED not in body:
        start = body.index(b"{") + 1
        return b'%s"stream_options":{"include_usage":true},%s' % (body[:start], body[start:])
    document = whole(body)
    document["stream_options"] = {**(document.get("stream_options") or {}), "include_usage": True}
    return msgspec.json.encode(document)


def complaint(body: bytes) -> str:
    """The sentence of a server's error, in OpenAI's or Anthropic's form; a body in another form says nothing."""
    try:
        return _complaints.decode(body).error.message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


_spellings: dict[str, re.Pattern[bytes]] = {}  # one for each route's name, which operators set


def renamed(body: bytes, old: str, new: str) -> bytes:
    """The body with another model's name, and nothing else changed."""
    if old == new:
        return body
    pattern = _spellings.get(old)
    if pattern is None:
        spelled = re.escape(orjson.dumps(old))
        pattern = _spellings[old] = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*(' + spelled + rb")")
    found = list(_first_two(pattern, body))
    if len(found) == 1 and body.count(b'"model"') == 1 and _ESCAPED not in body:
        start, end = found[0].span(1)
        return body[:start] + orjson.dumps(new) + body[end:]
    return msgspec.json.encode(whole(body) | {"model": new})


def _first_two(pattern: re.Pattern[bytes], body: bytes) -> Any:
    for count, match in enumerate(pattern.finditer(body)):
        if count == 2:
            return
        yield match
