"""The hub's raw routes: bytes in, bytes out, the bundle.

Bytes come in by `PUT /api/v1/hub/blob/{sha256}?org=…&path=…`: streamed to the store while they are hashed, inspected
outside any transaction, and only then the organisation's own. They go out as downloads, never as pages: a donated file
must not run in the console's origin, whatever it claims to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse

from gongqi.kernel.blobs.folder import CHUNK_BYTES, MAX_BLOB_BYTES, Stored, Upload
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Endpoint, Kernel
from gongqi.kernel.verbs import Caller, Read, execute
from gongqi.resources.hub import service
from gongqi.resources.hub.assets import AddBlob, add_blob
from gongqi.resources.hub.bundle import stream_bundle
from gongqi.resources.hub.rules import check_path

DOWNLOAD_HEADERS = {
    "content-security-policy": "sandbox; default-src 'none'",
    "cache-control": "private, max-age=0, must-revalidate",  # immutable bytes, but the right to them may end
}


async def upload(request: Request) -> Response:
    """Take a file. 201 with its size and the inspector's warnings; a refusal leaves nothing that could be committed."""
    kernel, caller = request.state.kernel, request.state.caller
    sha256 = request.path_params["sha256"]
    org, path = _query(request, "org"), check_path(_query(request, "path"))
    kernel.blobs.path(sha256)  # refuses what is no digest, before a byte is read
    _check_right(caller, org)
    await _store(request, kernel, sha256, _declared_length(request))
    return await anyio.to_thread.run_sync(_take_in, kernel, caller, sha256, org, path)


async def download(request: Request) -> Response:
    """One file of a revision, whole or in ranges (RFC 9110 §14), to whoever may see the revision."""
    key, path = request.path_params["key"], request.path_params["path"]
    return await anyio.to_thread.run_sync(_give_out, request, key, path)


async def bundle(request: Request) -> Response:
    """The offline bundle of a published release."""
    kernel, caller = request.state.kernel, request.state.caller
    return await anyio.to_thread.run_sync(_bundle, kernel, caller, request.path_params["key"])


ENDPOINTS = (
    Endpoint("PUT", "/api/v1/hub/blob/{sha256}", upload),
    Endpoint("GET", "/api/v1/hub/revision/{key}/file/{path:path}", download),
    Endpoint("GET", "/api/v1/hub/release/{key}/bundle", bundle),
)


# --- in --------------------------------------------------------------------------------------------------------------


def _query(request: Request, name: str) -> str:
    value = request.query_params.get(name, "")
    if not value or "\x00" in value:
        raise Refused("hub.upload-query-missing", field=name)
    return value


def _declared_length(request: Request) -> int | None:
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not declared.isascii() or not declared.isdigit() or len(declared) > 18:
        raise Refused("hub.length-invalid")
    if int(declared) > MAX_BLOB_BYTES:
        raise Refused("kernel.blob-too-large", limit_bytes=MAX_BLOB_BYTES)
    return int(declared)


def _check_right(caller: Caller, org: str) -> None:
    """The verb asks again; this asks before gigabytes travel."""
    if not caller.actor.may("hub:blob:add", org):
        code = "access.sign-in-needed" if caller.actor.is_anonymous else "access.forbidden"
        raise Refused(code, permission="hub:blob:add")


async def _store(request: Request, kernel: Kernel, sha256: str, size: int | None) -> Stored:
    upload: Upload = await anyio.to_thread.run_sync(kernel.blobs.upload)
    held = bytearray()  # the server hands over some 64 kB at a time; the disk prefers more
    try:
        async for chunk in request.stream():
            held += chunk
            if len(held) >= CHUNK_BYTES:
                await anyio.to_thread.run_sync(upload.feed, bytes(held))
                held.clear()
        await anyio.to_thread.run_sync(upload.feed, bytes(held))
    except ClientDisconnect as error:
        upload.abandon()
        raise Refused("kernel.blob-truncated", got_bytes=upload.size + len(held), want_bytes=size) from error
    except BaseException:  # also when the server stops: nothing may stay behind
        upload.abandon()
        raise
    return await anyio.to_thread.run_sync(lambda: upload.finish(sha256=sha256, size=size))


def _take_in(kernel: Kernel, caller: Caller, sha256: str, org: str, path: str) -> Response:
    seen = service.inspect_blob(kernel.blobs, sha256, path)
    given = AddBlob(
        org=org, sha256=sha256, name=seen.name, size=seen.size, findings=list(seen.findings),
        external=list(seen.external),
    )  # fmt: skip
    out = execute(kernel, add_blob, caller, given)
    return Response(out.model_dump_json(), status_code=201, media_type="application/json")


# --- out -------------------------------------------------------------------------------------------------------------


def _give_out(request: Request, key: str, path: str) -> Response:
    kernel, caller = request.state.kernel, request.state.caller
    if "\x00" in key + path:
        raise Refused("hub.file-absent", path=path.replace("\x00", "")[:200])
    file = kernel.look(lambda ctx: service.find_file(ctx, key, path), caller)
    etag = f'"{file.sha256}"'
    headers = DOWNLOAD_HEADERS | {"etag": etag, "x-gongqi-sha256": file.sha256}
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    name = path.rsplit("/", 1)[-1]
    headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return FileResponse(kernel.blobs.path(file.sha256), media_type="application/octet-stream", headers=headers)


def _matches(header: str | None, etag: str) -> bool:
    tags = re.findall(r'(?:W/)?("[^"]*")|(\*)', header or "")
    return any(each == etag or star for each, star in tags)


def _bundle(kernel: Kernel, caller: Caller, key: str) -> Response:
    if "\x00" in key:
        raise Refused("access.not-found", kind="release", key="")

    def gather(ctx: Read) -> Iterator[bytes]:
        return stream_bundle(service.bundle_of(ctx, key), kernel.blobs)

    headers = {"content-disposition": f'attachment; filename="{key}.gongqi.zip"'}
    return StreamingResponse(kernel.look(gather, caller), media_type="application/zip", headers=headers)
