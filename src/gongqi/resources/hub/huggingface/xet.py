"""Xet: how the stock client brings large files. Reads are served over `resolve`, without Xet.

A client asks for a write token, looks for chunks that are known (here none ever are), posts xorbs, several at a time,
then shards that say which files they make, and then commits the files by their SHA-256 as it would after Git LFS. The
address of the token names the asset and its generation (extents.py); the token is a ticket (tickets.py) for just these,
good for a quarter of an hour. hf-xet 1.2 to 1.8 say the same under three sets of paths; what is not here is answered 404,
which makes the newer ones (`/v2/shards`, `/v1/xorb-grants`) fall back on what is.

What is slow or hungry waits its turn: one shard at a time for each actor, two in all, whatever is in them; and xorbs are
read in the places where uploads are inspected. A client that gives up waiting asks again and finds what was finished.

Source: Xet Protocol Specification 1.1.0, Upload Protocol; the client as observed.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gongqi.kernel.access import Actor
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Endpoint, Kernel
from gongqi.kernel.verbs import Caller, Read
from gongqi.members.actors import actor_again
from gongqi.resources.hub import extents
from gongqi.resources.hub.drafts import drafts_of
from gongqi.resources.hub.huggingface.door import Call, json, problem
from gongqi.resources.hub.known import held_xorbs
from gongqi.resources.hub.quotas import quota_of
from gongqi.resources.hub.rebuilding import Space, room_to_hold, take_shard, take_xorb
from gongqi.resources.hub.tickets import accept, issue
from gongqi.resources.hub.uploads import declared_length, intake_of, paced, receive
from gongqi.resources.hub.xet.hashes import parse_hash, text_of
from gongqi.resources.hub.xet.shards import SHARD_LIMIT_BYTES, too_large
from gongqi.resources.hub.xet.xorbs import XORB_LIMIT_BYTES
from gongqi.resources.hub.xet.xorbs import too_large as xorb_too_large

PURPOSE = "hub.xet"
TICKET_SECONDS = 900
SHARDS_AT_ONCE = 2  # a core each; up to 64 MiB of memory each


class Shards:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._places = anyio.CapacityLimiter(SHARDS_AT_ONCE)
        self._waiting: dict[str, tuple[anyio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def turn(self, actor: str) -> AsyncIterator[None]:
        lock, waiting = self._waiting.setdefault(actor, (anyio.Lock(), []))
        waiting.append(None)
        try:
            async with lock, self._places:
                yield
        finally:
            waiting.pop()
            if not waiting:
                del self._waiting[actor]


# --- the token, asked for at the repository --------------------------------------------------------------------------


def write_token(call: Call) -> Response:
    """Where to bring xorbs and shards for a revision, and with which token."""

    def look(ctx: Read) -> tuple[str, int, Actor]:
        asset, _ = call.commit(ctx, call.revision("xet-write-token"))
        for verb in ("hub:blob:add", "hub:revision:change"):
            ctx.require(verb, asset.org)
        return asset.id, extents.generation_of(ctx, asset.id), ctx.actor

    space, generation, actor = call.look(look)
    token = issue(
        call.kernel, PURPOSE, seconds=TICKET_SECONDS, space=space, generation=generation,
        token=actor.token, session=actor.session,
    )  # fmt: skip
    until = int(call.kernel.clock.now().timestamp()) + TICKET_SECONDS
    address = f"{call.origin}/xet/{space}/{generation}"
    named = {"x-xet-cas-url": address, "x-xet-access-token": token, "x-xet-token-expiration": str(until)}
    return json({"casUrl": address, "accessToken": token, "exp": until}, headers=named)


def read_token(_call: Call) -> Response:
    raise Refused("hub.xet-reads-elsewhere")


# --- what the token is for -------------------------------------------------------------------------------------------


def holder(request: Request, kernel: Kernel) -> Actor:
    """Who brings something by a token, which must be for this very address."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("access.sign-in-needed", permission="hub:blob:add")
    facts, path = accept(kernel, PURPOSE, token.strip()), request.path_params
    if (facts["space"], str(facts["generation"])) != (path["space"], path["generation"]):
        raise Refused("hub.xet-token-elsewhere")
    return kernel.look(lambda ctx: actor_again(ctx, token=facts["token"], session=facts["session"]))


async def post_xorb(request: Request, kernel: Kernel, caller: Caller, space: Space) -> dict[str, Any]:
    """Take in a xorb; of one that is known, nothing is read."""
    name, size = parse_hash(request.path_params["hash"]), declared_length(request)
    drafts = drafts_of(kernel)
    drafts.expect(space.asset, caller.actor.id, name)

    def look(ctx: Read) -> tuple[str, int, bool]:
        asset = extents.open_space(ctx, space.asset, space.generation)
        return asset.org, room_to_hold(ctx, asset.org), extents.is_known(ctx, space.asset, text_of(name))

    org, room, is_known = await anyio.to_thread.run_sync(kernel.look, look, caller)
    if is_known:
        drafts.arrived(space.asset, caller.actor.id, name)
        return {"was_inserted": False}
    if size is not None and size > XORB_LIMIT_BYTES:
        raise xorb_too_large(text_of(name))
    intake = intake_of(kernel)
    with intake.admit(org, size=size, room_bytes=room) as share:
        upload = await anyio.to_thread.run_sync(lambda: held_xorbs(kernel).begin(passing=True))
        with upload:  # left before its xorb is noted, it is gone
            arriving = _at_most(XORB_LIMIT_BYTES, paced(request), xorb_too_large(text_of(name)))
            await receive(arriving, upload, share, size)
            is_new = await anyio.to_thread.run_sync(
                take_xorb, kernel, caller, space, name, upload, limiter=intake.inspections
            )
    drafts.arrived(space.asset, caller.actor.id, name)
    return {"was_inserted": is_new}


async def post_shard(request: Request, kernel: Kernel, caller: Caller, space: Space) -> dict[str, Any]:
    """Make the files that a shard describes."""

    def look(ctx: Read) -> tuple[str, int]:
        org = extents.open_space(ctx, space.asset, space.generation).org
        quota = quota_of(ctx, org)
        return org, max(0, quota.limit_bytes - quota.used_bytes)

    org, room = await anyio.to_thread.run_sync(kernel.look, look, caller)
    turns = kernel.parts.setdefault(Shards, Shards())
    with intake_of(kernel).admit(org, size=None, room_bytes=room) as share:
        async with turns.turn(caller.actor.id):
            content = bytearray()
            try:
                async for chunk in _at_most(SHARD_LIMIT_BYTES, paced(request), too_large()):
                    content += chunk
            except ClientDisconnect as error:
                raise Refused("kernel.blob-truncated", got_bytes=len(content), want_bytes=None) from error
            is_new = await anyio.to_thread.run_sync(take_shard, kernel, caller, space, bytes(content), share)
    return {"result": int(is_new)}


async def _at_most(limit: int, arriving: AsyncIterator[bytes], refusal: Refused) -> AsyncIterator[bytes]:
    count = 0
    async for chunk in arriving:
        count += len(chunk)
        if count > limit:
            raise refusal
        yield chunk


def _taking(path: str, take: Any) -> Endpoint:
    @functools.wraps(take)
    async def handle(request: Request) -> Response:
        given, kernel = request.path_params, request.state.kernel
        came: Caller = request.state.caller
        caller = Caller(came.actor, came.language, came.request_id, address=came.address)
        return json(await take(request, kernel, caller, Space(given["space"], int(given["generation"]))))

    return Endpoint("POST", f"/xet/{{space}}/{{generation}}{path}", handle, problem, holder)


ENDPOINTS = (
    *(_taking(f"{path}/{{prefix}}/{{hash}}", post_xorb) for path in ("/v1/xorbs", "/xorbs")),
    *(_taking(path, post_shard) for path in ("/v1/shards", "/shards")),
)
