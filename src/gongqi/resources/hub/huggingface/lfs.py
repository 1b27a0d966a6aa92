"""Git LFS, as far as clients bring large files by it: the batch of questions, and the bytes.

The address that bytes are sent to is a ticket: it says for which organisation, which digest and which size, it rests on
the token that asked, and it is good for an hour. The client sends no token with the bytes. Who has the bytes already is
told only of the organisation itself; another's blob is brought again, for a digest proves nothing.

Bytes come without a name here, so they are inspected as `bytes`; the commit inspects them again under their own.

Source: Git LFS batch API (github.com/git-lfs/git-lfs, docs/api), basic transfer.
"""

from __future__ import annotations

from typing import Any, Literal

import anyio.to_thread
from pydantic import Field
from starlette.responses import Response

from gongqi.kernel.access import Actor
from gongqi.kernel.blobs import MAX_BLOB_BYTES
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Caller, Read
from gongqi.members.actors import actor_again
from gongqi.resources.hub.assets import AssetOut
from gongqi.resources.hub.huggingface.door import Body, Call, json
from gongqi.resources.hub.quotas import exceeded, room_for
from gongqi.resources.hub.tickets import accept, issue
from gongqi.resources.hub.uploads import take_upload

PURPOSE = "hub.upload"
TICKET_SECONDS = 3600  # to begin in; the upload itself may last longer
MAX_OBJECTS = 1000
NAMELESS = "bytes"
MEDIA_TYPE = "application/vnd.git-lfs+json"


class Object(Body):
    oid: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=MAX_BLOB_BYTES)


class Batch(Body):
    operation: Literal["upload"]
    objects: list[Object] = Field(max_length=MAX_OBJECTS)
    hash_algo: Literal["sha256"] = "sha256"


def batch(call: Call) -> Response:
    """For each object where to send it, or nothing when the organisation holds it already."""
    given = call.parse(Batch)

    def look(ctx: Read) -> list[dict[str, Any]]:
        asset = call.repository(ctx)
        ctx.require("hub:blob:add", asset.org)
        return [_told(ctx, call, asset, each) for each in given.objects]

    answer = json({"transfer": "basic", "objects": call.look(look), "hash_algo": "sha256"})
    answer.headers["content-type"] = MEDIA_TYPE
    return answer


def _told(ctx: Read, call: Call, asset: AssetOut, wanted: Object) -> dict[str, Any]:
    known = {"oid": wanted.oid, "size": wanted.size}
    room = room_for(ctx, asset.org, wanted.oid)
    if room is None:
        return known
    if wanted.size > room:
        status, message, _ = call.kernel.house.words.error(exceeded(room, wanted.size), call.caller.language)
        return {**known, "error": {"code": status, "message": message}}
    ticket = issue(
        call.kernel, PURPOSE, seconds=TICKET_SECONDS, org=asset.org, asset=asset.id, oid=wanted.oid, size=wanted.size,
        token=ctx.actor.token, session=ctx.actor.session,
    )  # fmt: skip
    href = f"{call.origin}/api/lfs/{ticket}"
    actions = {"upload": {"href": href, "expires_in": TICKET_SECONDS}, "verify": {"href": href}}
    return {**known, "authenticated": True, "actions": actions}


async def put(call: Call) -> Response:
    """Take in the bytes that a ticket is for."""
    facts = accept(call.kernel, PURPOSE, call.request.path_params["ticket"])
    declared = call.request.headers.get("content-length", str(facts["size"]))
    if declared != str(facts["size"]):
        raise Refused("hub.hf-size-differs", want_bytes=facts["size"], got_bytes=declared[:20])
    actor = await anyio.to_thread.run_sync(call.kernel.look, lambda ctx: _holder(ctx, facts))
    caller = Caller(actor, call.caller.language, call.caller.request_id, address=call.caller.address)
    await take_upload(call.request, call.kernel, caller, sha256=facts["oid"], org=facts["org"], path=NAMELESS)
    return json({})


def verify(call: Call) -> Response:
    """Whether what was sent has arrived."""
    facts = accept(call.kernel, PURPOSE, call.request.path_params["ticket"])
    if call.kernel.look(lambda ctx: room_for(ctx, facts["org"], facts["oid"])) is not None:
        raise Refused("hub.blob-unknown", path=NAMELESS, sha256=facts["oid"])
    return json({})


def _holder(ctx: Read, facts: dict[str, Any]) -> Actor:
    return actor_again(ctx, token=facts["token"], session=facts["session"])
