"""Uploads that go on after a cut, by the tus protocol 1.0.0 (tus.io): creation, creation-with-upload, expiration,
termination.

A browser and any tus client bring a file in parts. Where it stands is asked by HEAD; what has come stays over a cut, a
reload and a restart of the server for a day (kernel/blobs/incoming.py). The address of an upload is a ticket
(tickets.py): for one organisation, one actor and the very bytes that were announced, by name, size and SHA-256, so
nothing is kept about an upload but its bytes. The last part ends it: the bytes are checked, inspected and taken in as
those of a plain upload are (uploads.py), and what is refused was never there. An upload whose last answer was lost is
found done.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import AsyncIterator
from email.utils import formatdate
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gongqi.kernel.blobs import MAX_BLOB_BYTES, check_digest
from gongqi.kernel.blobs.incoming import STALE_SECONDS
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.room import Endpoint, Kernel
from gongqi.kernel.verbs import Caller
from gongqi.resources.hub.assets import inspected_names
from gongqi.resources.hub.quotas import exceeded, room_for
from gongqi.resources.hub.rules import check_path
from gongqi.resources.hub.tickets import accept, issue
from gongqi.resources.hub.uploads import check_right, declared_length, intake_of, paced, receive, take_in

if TYPE_CHECKING:
    from gongqi.kernel.blobs.incoming import Upload

VERSION = "1.0.0"
PART_TYPE = "application/offset+octet-stream"
PURPOSE = "hub.tus"
PLACE = "/api/v1/hub/upload"
METADATA_BYTES = 8 << 10  # a path of a kilobyte in base64, a digest, an organisation, and what else a client says
TOLD = ("org", "path", "sha256")
HEADERS = {"tus-resumable": VERSION}
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


async def capabilities(_request: Request) -> Response:
    told = {
        "tus-version": VERSION,
        "tus-extension": "creation,creation-with-upload,expiration,termination",
        "tus-max-size": str(MAX_BLOB_BYTES),
    }
    return Response(status_code=204, headers=HEADERS | told)


async def create(request: Request) -> Response:
    """Announce a file, and perhaps bring its first part at once; a file of no bytes is then done."""
    kernel, caller = _spoken(request)
    size, told = _number(request, "upload-length"), _metadata(request)
    if size > MAX_BLOB_BYTES:
        raise Refused("kernel.blob-too-large", limit_bytes=MAX_BLOB_BYTES)
    org, sha256, name = told["org"], check_digest(told["sha256"]), PurePosixPath(check_path(told["path"])).name
    check_right(caller, org)
    room = await anyio.to_thread.run_sync(kernel.look, lambda ctx: room_for(ctx, org, sha256))
    if room is not None and size > room:
        raise exceeded(room, size)
    upload: Upload = await anyio.to_thread.run_sync(kernel.blobs.upload)
    facts = {"org": org, "name": name, "sha256": sha256, "size": size, "upload": upload.token, "actor": caller.actor.id}
    brings = request.headers.get("content-type") == PART_TYPE or not size
    if brings:
        await _bring(request, kernel, caller, upload, facts)
    else:
        upload.pause()
    ticket = issue(kernel, PURPOSE, seconds=STALE_SECONDS, **facts)
    where = {"location": f"{PLACE}/{ticket}", "upload-expires": _until(kernel, ticket)}
    return Response(status_code=201, headers=HEADERS | where | ({"upload-offset": str(upload.size)} if brings else {}))


async def append(request: Request) -> Response:
    """The next part, which must begin where the upload stands."""
    kernel, caller = _spoken(request)
    facts = _facts(request, kernel, caller)
    if request.headers.get("content-type") != PART_TYPE:
        raise Refused("hub.tus-header-invalid", header="Content-Type")
    at = _number(request, "upload-offset")
    upload = await _resumed(kernel, facts)
    if at != upload.size:
        upload.pause()
        raise Refused("hub.tus-offset-differs", at=at, size_bytes=upload.size)
    await _bring(request, kernel, caller, upload, facts)
    where = {"upload-offset": str(upload.size), "upload-expires": _until(kernel, request.path_params["ticket"])}
    return Response(status_code=204, headers=HEADERS | where)


async def status(request: Request) -> Response:
    kernel, caller = _spoken(request)
    facts = _facts(request, kernel, caller)
    try:
        upload = await _resumed(kernel, facts)
        await _finish(kernel, caller, upload, facts)  # the server may have ended between the last byte and this
        size = upload.size
    except Refused as refused:
        held = partial(inspected_names, org=facts["org"], digests=[facts["sha256"]])
        names = await anyio.to_thread.run_sync(kernel.look, held)
        if refused.code != "kernel.upload-unknown" or facts["name"] not in names.get(facts["sha256"], ()):
            raise
        size = facts["size"]  # it was taken in, and whoever asks has not heard of it
    told = {"upload-offset": str(size), "upload-length": str(facts["size"]), "cache-control": "no-store"}
    return Response(headers=HEADERS | told)


async def cancel(request: Request) -> Response:
    kernel, caller = _spoken(request)
    (await _resumed(kernel, _facts(request, kernel, caller))).abandon()
    return Response(status_code=204, headers=HEADERS)


async def held(request: Request) -> Response:
    """Whether the organisation holds these bytes and they were inspected under this name: then nothing need travel."""
    kernel, caller = request.state.kernel, request.state.caller
    sha256, asked = check_digest(request.path_params["sha256"]), request.query_params
    org, name = asked.get("org", ""), PurePosixPath(check_path(asked.get("path", ""))).name
    check_right(caller, org)
    names = await anyio.to_thread.run_sync(kernel.look, partial(inspected_names, org=org, digests=[sha256]))
    return JSONResponse({"held": name in names.get(sha256, ())})


ENDPOINTS = (
    Endpoint("OPTIONS", PLACE, capabilities),
    Endpoint("POST", PLACE, create),
    Endpoint("HEAD", f"{PLACE}/{{ticket}}", status),
    Endpoint("PATCH", f"{PLACE}/{{ticket}}", append),
    Endpoint("DELETE", f"{PLACE}/{{ticket}}", cancel),
    Endpoint("GET", "/api/v1/hub/blob/{sha256}", held),
)


# --- within ----------------------------------------------------------------------------------------------------------


def _spoken(request: Request) -> tuple[Kernel, Caller]:
    """Raises Refused hub.tus-version-unsupported."""
    said = request.headers.get("tus-resumable", "")
    if said != VERSION:
        raise Refused("hub.tus-version-unsupported", said=ascii(said[:20])[1:-1], version=VERSION)
    return request.state.kernel, request.state.caller


def _facts(request: Request, kernel: Kernel, caller: Caller) -> dict[str, Any]:
    """What the ticket says, to whom it was given. Raises Refused hub.ticket-*."""
    facts = accept(kernel, PURPOSE, request.path_params["ticket"])
    if facts["actor"] != caller.actor.id:
        raise Refused("hub.ticket-invalid")
    check_right(caller, facts["org"])
    return facts


def _number(request: Request, header: str) -> int:
    said = request.headers.get(header, "")
    if not _NUMBER.fullmatch(said):
        raise Refused("hub.tus-header-invalid", header=header.title())
    return int(said)


def _metadata(request: Request) -> dict[str, str]:
    """Upload-Metadata: names and base64 of UTF-8. Raises Refused hub.tus-header-invalid, hub.upload-query-missing."""
    said = request.headers.get("upload-metadata", "")
    try:
        if len(said) > METADATA_BYTES:
            raise ValueError("too long")
        pairs = [pair.strip().partition(" ") for pair in said.split(",")]
        told = {name: b64decode(value, validate=True).decode() for name, _, value in pairs}
    except ValueError as error:  # of base64 or of UTF-8
        raise Refused("hub.tus-header-invalid", header="Upload-Metadata") from error
    for field in TOLD:
        if not told.get(field):
            raise Refused("hub.upload-query-missing", field=field)
    return told


def _until(kernel: Kernel, ticket: str) -> str:
    return formatdate(accept(kernel, PURPOSE, ticket)["until"], usegmt=True)


async def _resumed(kernel: Kernel, facts: dict[str, Any]) -> Upload:
    """Raises Refused kernel.upload-unknown, hub.tus-locked."""
    try:
        return await anyio.to_thread.run_sync(partial(kernel.blobs.upload, resume=facts["upload"]))
    except Unavailable as busy:
        if busy.code != "kernel.upload-busy":
            raise
        raise Refused("hub.tus-locked") from busy  # clients wait on this status, and begin anew on others


async def _bring(request: Request, kernel: Kernel, caller: Caller, upload: Upload, facts: dict[str, Any]) -> None:
    """Feed one part to an upload, and take the whole in when that was its end. A part that is cut may be gone on with."""
    size, rest = declared_length(request), facts["size"] - upload.size
    try:
        if size is not None and size > rest:
            raise Refused("hub.tus-header-invalid", header="Content-Length")
        room = await anyio.to_thread.run_sync(kernel.look, lambda ctx: room_for(ctx, facts["org"], facts["sha256"]))
        left = None if room is None else max(0, room - upload.size)
        with intake_of(kernel).admit(facts["org"], size=size, room_bytes=left) as share:
            await receive(_at_most(rest, paced(request)), upload, share, size)
    except BaseException as error:
        if isinstance(error, Refused) and error.code == "hub.quota-exceeded":
            upload.abandon()
        upload.pause()
        raise
    await _finish(kernel, caller, upload, facts)


async def _finish(kernel: Kernel, caller: Caller, upload: Upload, facts: dict[str, Any]) -> None:
    """Take an upload in when all of it is there. Refused bytes are gone; others wait for another try."""
    if upload.size < facts["size"]:
        upload.pause()
        return
    try:
        await take_in(kernel, caller, upload, sha256=facts["sha256"], org=facts["org"], path=facts["name"])
    except Refused:
        upload.abandon()
        raise
    except BaseException:
        upload.pause()
        raise


async def _at_most(count: int, arriving: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Raises Refused hub.tus-header-invalid when more comes than was announced."""
    async for chunk in arriving:
        count -= len(chunk)
        if count < 0:
            raise Refused("hub.tus-header-invalid", header="Upload-Length")
        yield chunk
