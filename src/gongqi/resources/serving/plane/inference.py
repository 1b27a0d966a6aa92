"""The Open Inference Protocol v2 over REST, to servers that speak it: KServe, Triton, MLServer, or a deployment of ours.

(KServe, "Predict Protocol - Version 2".) Tensors go in and tensors come out, and bytes pass as they come. The model is in
the address, `/v2/models/NAME/infer`. What is paid for is counted where tokens are elsewhere: `input` is rows, and `output`
is one for the answer, so that a price may be by row, by request, or both. A row is one step along the first dimension, of
that input which has most. It is counted on the request alone: so where a name occurs twice, of which servers take this or
that one, the body is written anew as it was counted.

Who shows a virtual key is answered here; all else under `/v2` is for the deployments of the control plane (`serving.api`).
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import quote

import msgspec
import orjson

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.serving.metering import Tokens
from gongqi.resources.serving.plane import request, stream
from gongqi.resources.serving.plane.dialect import Answered, Dialect, Headers, Manners, Problem
from gongqi.resources.serving.plane.pool import Answer, Failed
from gongqi.resources.serving.plane.snapshot import Key, Route, Server, Target
from gongqi.resources.serving.plane.terms import offered, within_reach

if TYPE_CHECKING:
    from gongqi.resources.serving.plane.process import Plane

SPEAKER = "open-inference"
MODELS = "/v2/models/"
INFER_TAIL = "/infer"
READY_TAIL = "/ready"
TAILS = (INFER_TAIL, READY_TAIL)  # of addresses: a model whose name ended so could not be asked what it is
MAX_DIMENSIONS = 8  # as `serving.rules`
MAX_TENSORS = 32
MAX_LOOKS = 3  # servers asked what a model is
BINARY = b"inference-header-content-length"  # announces the binary tensor extension, which is not spoken here

_NAMES = re.compile(rb'"(?:inputs|shape|binary_data(?:_output|_size)?)"[ \t\r\n]*:')  # never within a text
_BINARY = re.compile(rb'"binary_data(?:_output)?"[ \t\r\n]*:[ \t\r\n]*true|"binary_data_size"')  # asks for it

ABOUT = {
    "/v2": {"name": "gongqi", "version": "2", "extensions": []},
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
}  # what a server says of itself, to whoever asks


class Shaped(msgspec.Struct):
    """What is read of a tensor. Its values pass unread."""

    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=MAX_DIMENSIONS)]


class Body(msgspec.Struct):
    inputs: Annotated[list[Shaped], msgspec.Meta(min_length=1, max_length=MAX_TENSORS)]


class Given(msgspec.Struct):
    outputs: list[msgspec.Raw]


class Asked(NamedTuple):
    """The model is named by the address. `body`: as servers are to have it."""

    rows: int
    body: bytes
    model: str = ""
    stream: bool | None = None


_body = msgspec.json.Decoder(Body)
_given = msgspec.json.Decoder(Given)


def is_asked(path: str) -> bool:
    return path.startswith(MODELS) and path.endswith(INFER_TAIL)


def named(path: str) -> str:
    return path.removeprefix(MODELS).removesuffix(INFER_TAIL)


def read(body: bytes, headers: Headers) -> Asked:
    """Raises Refused: serving.binary-unsupported, serving.request-unreadable."""
    if BINARY in headers:
        raise Refused("serving.binary-unsupported")
    inputs = request.decoded(_body, body).inputs
    names = sum(1 for _ in islice(_NAMES.finditer(body), len(inputs) + 2))
    if names != 1 + len(inputs) or request.hides(body):  # another name than those that were read
        body = msgspec.json.encode(request.whole(body))
        if _BINARY.search(body):  # the answer would be no JSON, and the server taken for a broken one
            raise Refused("serving.binary-unsupported")
    return Asked(max(each.shape[0] if each.shape else 1 for each in inputs), body)


def bound(asked: Asked, _body: bytes, route: Route) -> Tokens:
    """What it will be charged for, exactly. Raises Refused serving.rows-out-of-range."""
    if not 0 < asked.rows <= route.context_tokens:
        raise Refused("serving.rows-out-of-range", rows=asked.rows, limit=route.context_tokens)
    return Tokens(asked.rows, 0, 1)


class Passage:
    """A way on which nothing changes but the address."""

    __slots__ = ("_body", "_bound", "path")
    fields = b""

    def __init__(self, asked: Asked, _body: bytes, _call: str, bound: Tokens) -> None:
        self.path = b""
        self._body = asked.body
        self._bound = bound

    def forwarded(self, model: str) -> bytes:
        self.path = path_of(model, INFER_TAIL)
        return self._body

    def answered(self, body: bytes) -> Answered:
        try:
            _given.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise stream.Unusable(type(error).__name__) from None
        return Answered(body, self._bound)

    def events(self) -> Any:
        raise stream.Unusable("the protocol has no streams")

    def turned_down(self, status: int, body: bytes) -> bytes:
        return body


def path_of(model: str, tail: str) -> bytes:
    """A server's address for it; a model may be `NAME/versions/3` there."""
    return f"{MODELS}{quote(model, safe='/')}{tail}".encode()


# ---- how it fails


def refusal(problem: Problem) -> tuple[int, bytes]:
    told = {"error": problem.message, "code": problem.code, "localized": problem.localized}
    return problem.status, orjson.dumps(told | {"request_id": problem.call})


MANNERS = Manners(refusal, lambda _: b"")
INFER = Dialect("inference", read, bound, {SPEAKER: Passage}, MANNERS, named=named)


# ---- what a model is, and whether it is ready


async def look(plane: Plane, key: Key, path: str) -> bytes:
    """`GET /v2/models/NAME` and `…/ready`, as the first of its servers says that can be asked.

    Raises Refused: serving.route-unknown, serving.kind-differs; Unavailable: serving.upstream-resting,
    serving.upstream-unreachable.
    """
    tail = READY_TAIL if path.endswith(READY_TAIL) else ""
    route = within_reach(INFER, offered(plane.snapshot, key, path.removeprefix(MODELS).removesuffix(tail)))
    for target in plane.health.order(route, plane.now())[:MAX_LOOKS]:
        try:
            answer = await _ask(plane, target, tail)
            if answer.status == 200:
                return _told(route.name, answer.body or b"", tail)
        except (Failed, stream.Unusable):
            continue
    raise Unavailable("serving.upstream-unreachable", model=route.name)


async def _ask(plane: Plane, target: Target, tail: str) -> Answer:
    server: Server = target.server
    data = plane.head_of(server, path_of(target.model, tail), method="GET") + b"0\r\n\r\n"
    connection = plane.pool.kept(server) or await plane.pool.fresh(server)
    try:
        return await connection.exchange(data, streams=False)
    except Failed:
        if not connection.is_stale:
            raise
    finally:
        connection.release()
    connection = await plane.pool.fresh(server)
    try:
        return await connection.exchange(data, streams=False)
    finally:
        connection.release()


def _told(name: str, body: bytes, tail: str) -> bytes:
    """Under the name that callers know. Raises stream.Unusable."""
    if tail:
        return orjson.dumps({"name": name, "ready": True})
    stream.require_object(body)
    return msgspec.json.encode(request.whole(body) | {"name": name})
