"""The hub's raw routes: bytes in, bytes out, the bundle.

Bytes come in by `PUT /api/v1/hub/blob/{sha256}?org=…&path=…` (`uploads.py` says through which bounds). They go out as
downloads, never as pages: a donated file must not run in the console's origin, whatever it claims to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import anyio.to_thread
import rfc8785
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Endpoint, Kernel
from gongqi.kernel.verbs import Caller, Read
from gongqi.resources.hub import service, tally
from gongqi.resources.hub.bundle import stream_bundle
from gongqi.resources.hub.downloads import send_blob
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.rules import check_path
from gongqi.resources.hub.uploads import take_upload

DOWNLOAD_HEADERS = {
    "content-security-policy": "sandbox; default-src 'none'",
    "cache-control": "private, max-age=0, must-revalidate",  # immutable bytes, but the right to them may end
}


async def upload(request: Request) -> Response:
    """Take a file. 201 with its size and the inspector's warnings; a refusal leaves nothing that could be committed."""
    kernel, caller = request.state.kernel, request.state.caller
    org, path = _query(request, "org"), check_path(_query(request, "path"))
    out = await take_upload(request, kernel, caller, sha256=request.path_params["sha256"], org=org, path=path)
    return Response(out.model_dump_json(), status_code=201, media_type="application/json")


async def download(request: Request) -> Response:
    """One file of a revision, whole or in ranges (RFC 9110 §14), to whoever may see the revision."""
    key, path = request.path_params["key"], request.path_params["path"]
    return await anyio.to_thread.run_sync(_give_out, request, key, path)


async def bundle(request: Request) -> Response:
    """The offline bundle of a published release."""
    return await anyio.to_thread.run_sync(_bundle, request, request.path_params["key"])


async def statement(request: Request) -> Response:
    """The signed statement of a published release, withdrawn or not: what was said is not unsaid."""
    kernel, caller = request.state.kernel, request.state.caller
    return await anyio.to_thread.run_sync(_statement, kernel, caller, request.path_params["key"])


ENDPOINTS = (
    Endpoint("PUT", "/api/v1/hub/blob/{sha256}", upload),
    Endpoint("GET", "/api/v1/hub/revision/{key}/file/{path:path}", download),
    Endpoint("GET", "/api/v1/hub/release/{key}/bundle", bundle),
    Endpoint("GET", "/api/v1/hub/release/{key}/statement", statement),
)


# --- in --------------------------------------------------------------------------------------------------------------


def _query(request: Request, name: str) -> str:
    value = request.query_params.get(name, "")
    if not value or "\x00" in value:
        raise Refused("hub.upload-query-missing", field=name)
    return value


# --- out -------------------------------------------------------------------------------------------------------------


def _give_out(request: Request, key: str, path: str) -> Response:
    kernel, caller = request.state.kernel, request.state.caller
    if "\x00" in key + path:
        raise Refused("hub.file-absent", path=path.replace("\x00", "")[:200])

    def look(ctx: Read) -> tuple[FileFacts, str]:
        return service.find_file(ctx, key, path), service.asset_of(ctx, key)

    file, asset = kernel.look(look, caller)
    etag = f'"{file.sha256}"'
    headers = DOWNLOAD_HEADERS | {"etag": etag, "x-gongqi-sha256": file.sha256}
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    headers["content-disposition"] = attachment(path)
    tally.note(request, caller, asset, key)
    return send_blob(request, kernel, file.sha256, headers)


def attachment(path: str) -> str:
    return f"attachment; filename*=UTF-8''{quote(path.rsplit('/', 1)[-1], safe='')}"


def matches(header: str | None, etag: str) -> bool:
    """Whether the caller already holds this (RFC 9110 §13.1.2)."""
    tags = re.findall(r'(?:W/)?("[^"]*")|(\*)', header or "")
    return any(each == etag or star for each, star in tags)


def _statement(kernel: Kernel, caller: Caller, key: str) -> Response:
    if "\x00" in key:
        raise Refused("access.not-found", kind="release", key="")
    envelope = kernel.look(lambda ctx: service.statement_of(ctx, key), caller)
    return Response(rfc8785.dumps(envelope), media_type=service.STATEMENT_MEDIA_TYPE, headers=DOWNLOAD_HEADERS)


def _bundle(request: Request, key: str) -> Response:
    kernel, caller = request.state.kernel, request.state.caller
    if "\x00" in key:
        raise Refused("access.not-found", kind="release", key="")

    def gather(ctx: Read) -> Iterator[bytes]:
        told = service.bundle_of(ctx, key)
        tally.note(request, caller, *service.revision_released(ctx, key))
        return stream_bundle(told, kernel.blobs)

    headers = {"content-disposition": f'attachment; filename="{key}.gongqi.zip"'}
    return StreamingResponse(kernel.look(gather, caller), media_type="application/zip", headers=headers)
