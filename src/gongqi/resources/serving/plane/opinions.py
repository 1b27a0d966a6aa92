"""What a caller says of an answer: `POST /v1/feedback`, read and bounded. Nothing is looked into beyond its form.

An opinion names the call by its id and the agreement by its digest. It is a rating with reasons, an outcome, a correction
or several of these, and, if the caller chooses to give them, the messages or the input that it is about: what was asked
is not known here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta

from gongqi.kernel.errors import Refused

PATH = "/v1/feedback"
MAX_BYTES = 128 << 10  # of a request; some forty pages of text
MAX_REASONS = 10
MAX_MESSAGES = 200
KINDS = ("rating", "outcome", "correction")  # each once for a call

_Reason = Annotated[str, Meta(min_length=1, max_length=80)]


class Opinion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`content` is what is kept of it for as long as it is kept: everything but the call, the agreement and the rating."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    agreement: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    rating: Literal["up", "down"] | None = None
    reasons: Annotated[list[_Reason], Meta(max_length=MAX_REASONS)] | None = None
    outcome: dict[str, Any] | Annotated[str, Meta(min_length=1)] | None = None
    correction: Annotated[str, Meta(min_length=1)] | None = None
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = None
    input: Annotated[str, Meta(min_length=1)] | Annotated[list[Any], Meta(min_length=1)] | None = None

    @property
    def kinds(self) -> list[str]:
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    @property
    def content(self) -> dict[str, Any]:
        names = ("reasons", "outcome", "correction", "messages", "input")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


_opinions = msgspec.json.Decoder(Opinion)


def read(body: bytes) -> Opinion:
    """Raises Refused: serving.request-unreadable, serving.feedback-empty."""
    try:
        opinion = _opinions.decode(body)
        orjson.dumps(opinion.content)  # what cannot be written down again, such as an integer beyond 64 bits
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise Refused("serving.request-unreadable", why=str(error)[:200] or type(error).__name__) from None
    if not opinion.kinds:
        raise Refused("serving.feedback-empty")
    if opinion.reasons and opinion.rating is None:
        raise Refused("serving.request-unreadable", why="reasons")
    if opinion.messages and opinion.input:
        raise Refused("serving.request-unreadable", why="input")
    return opinion
