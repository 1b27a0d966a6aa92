"""Blobs on their way in: in one request, in pieces, or mounted from another repository.

An upload in pieces is the blob store's own (kernel/blobs/incoming.py): what has come stays over a cut and a restart of
the server for a day. Its address is a ticket (tickets.py) for one organisation and one actor. Bytes have no name here, so
they are inspected as `bytes`; the manifest names them, and they are inspected again under that name (pushes.py).
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.responses import Response

from gongqi.kernel.blobs.incoming import STALE_SECONDS
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read, execute
from gongqi.members import service as members
from gongqi.resources.hub.addresses import asset_at
from gongqi.resources.hub.assets import add_blob
from gongqi.resources.hub.oci.door import Call, refusal_of
from gongqi.resources.hub.oci.pulls import digest_in, holder_of
from gongqi.resources.hub.quotas import room_for
from gongqi.resources.hub.rules import check_slug
from gongqi.resources.hub.tickets import accept, issue
from gongqi.resources.hub.uploads import declared_length, intake_of, look_again, paced, receive, take_in, take_upload

if TYPE_CHECKING:
    from gongqi.kernel.blobs.incoming import Upload

PURPOSE = "hub.oci-upload"
NAMELESS = "bytes"
_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/.*)?", re.ASCII)


async def begin(call: Call) -> Response:
    """Take a whole blob, mount one, or open an upload that goes on elsewhere."""
    org = await anyio.to_thread.run_sync(call.look, partial(organisation, call))
    asked = call.request.query_params
    if "mount" in asked and await anyio.to_thread.run_sync(_mounted, call, org, asked["mount"], asked.get("from", "")):
        return _created(call, asked["mount"])
    if "digest" in asked:
        sha256 = digest_in(asked["digest"])
        await take_upload(call.request, call.kernel, call.caller, sha256=sha256, org=org, path=NAMELESS)
        return _created(call, asked["digest"])
    upload: Upload = await anyio.to_thread.run_sync(call.kernel.blobs.upload)
    upload.pause()
    facts = {"org": org, "upload": upload.token, "actor": call.caller.actor.id}
    return _under_way(call, issue(call.kernel, PURPOSE, seconds=STALE_SECONDS, **facts), 0, status=202)


async def append(call: Call) -> Response:
    """One more piece; where it says where it begins, that must be where the upload stands."""
    facts = _facts(call)
    upload = await _resumed(call, facts)
    try:
        if refusal := _misplaced(call, upload):
            return refusal
        await _receive(call, upload, facts["org"])
    finally:
        upload.pause()
    return _under_way(call, call.request.path_params["ticket"], upload.size, status=202)


async def finish(call: Call) -> Response:
    """The end, with or without a last piece. What is not what was declared is gone."""
    facts = _facts(call)
    sha256 = digest_in(call.request.query_params.get("digest", ""))
    upload = await _resumed(call, facts)
    try:
        if refusal := _misplaced(call, upload):
            return refusal
        await _receive(call, upload, facts["org"])
    except BaseException:
        upload.pause()  # the last piece may be sent again
        raise
    with upload:
        await take_in(call.kernel, call.caller, upload, sha256=sha256, org=facts["org"], path=NAMELESS)
    return _created(call, f"sha256:{sha256}")


async def status(call: Call) -> Response:
    upload = await _resumed(call, _facts(call))
    upload.pause()
    return _under_way(call, call.request.path_params["ticket"], upload.size, status=204)


async def cancel(call: Call) -> Response:
    (await _resumed(call, _facts(call))).abandon()
    return Response(status_code=204)


def organisation(call: Call, ctx: Read) -> str:
    """The organisation that the path names, to whose bytes the caller may add.

    Raises Refused hub.address-unknown, hub.slug-invalid, access.*.
    """
    org = members.organisation_called(ctx, call.org)
    if org is None:
        raise Refused("hub.address-unknown", address=f"{call.org[:64]}/{call.slug[:64]}")
    ctx.require("hub:blob:add", org.id)
    check_slug(call.slug)
    return org.id


def _mounted(call: Call, org: str, digest: str, source: str) -> bool:
    """Whether a blob of another repository, which the caller may have, is now this organisation's too."""
    sha256 = digest_in(digest)

    def look(ctx: Read) -> bool:
        handle, _, slug = source.partition("/")
        return room_for(ctx, org, sha256) is None or holder_of(ctx, asset_at(ctx, handle, slug), sha256) is not None

    try:
        if not call.look(look):
            return False
    except Refused:
        return False  # then the client brings the bytes
    given = look_again(call.kernel, org=org, path=NAMELESS, digest=sha256)
    execute(call.kernel, add_blob, call.caller, given)
    return True


def _facts(call: Call) -> dict[str, Any]:
    """What the ticket says, to whom it was given. Raises Refused hub.ticket-*."""
    facts = accept(call.kernel, PURPOSE, call.request.path_params["ticket"])
    if facts["actor"] != call.caller.actor.id or not call.caller.actor.may("hub:blob:add", facts["org"]):
        raise Refused("hub.ticket-invalid")
    return facts


async def _resumed(call: Call, facts: dict[str, Any]) -> Upload:
    return await anyio.to_thread.run_sync(partial(call.kernel.blobs.upload, resume=facts["upload"]))


async def _receive(call: Call, upload: Upload, org: str) -> None:
    """Raises Refused hub.quota-exceeded, and then the whole upload is given up; kernel.blob-truncated."""
    size = declared_length(call.request)
    room = await anyio.to_thread.run_sync(call.kernel.look, lambda ctx: room_for(ctx, org, ""))
    left = None if room is None else max(0, room - upload.size)
    try:
        with intake_of(call.kernel).admit(org, size=size, room_bytes=left) as share:
            await receive(paced(call.request), upload, share, size)
    except Refused as refused:
        if refused.code == "hub.quota-exceeded":
            upload.abandon()
        raise


def _misplaced(call: Call, upload: Upload) -> Response | None:
    """416, with where the upload stands, for a piece that belongs elsewhere."""
    header = call.request.headers.get("content-range")
    if header is None:
        return None
    found = _RANGE.fullmatch(header)
    if found and int(found[1]) == upload.size:
        return None
    response = refusal_of(
        call, Refused("hub.oci-range-invalid", range=ascii(header[:60])[1:-1], size_bytes=upload.size)
    )
    response.headers.update(_where(call, call.request.path_params["ticket"], upload.size))
    return response


def _under_way(call: Call, ticket: str, size: int, *, status: int) -> Response:
    return Response(status_code=status, headers=_where(call, ticket, size))


def _where(call: Call, ticket: str, size: int) -> dict[str, str]:
    return {"location": call.at("blobs", "uploads", ticket), "range": f"0-{max(0, size - 1)}"}


def _created(call: Call, digest: str) -> Response:
    return Response(status_code=201, headers={"location": call.at("blobs", digest), "docker-content-digest": digest})
