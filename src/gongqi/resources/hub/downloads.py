"""A stored file as a response, whole or in a range (RFC 9110 §14), by the shortest way that the store allows.

- A folder behind a proxy that can send files: the response is empty and names the file (`X-Accel-Redirect`), and the
  proxy sends it, ranges too. Only when the operator says so, because without such a proxy nothing would arrive.
- A folder: the server sends the file.
- A far store: the bytes are passed on as they come. One range is served; for several the whole is sent, as §14.2 allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from gongqi.kernel.room import Kernel

BINARY = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def send_blob(request: Request, kernel: Kernel, sha256: str, headers: Mapping[str, str]) -> Response:
    """The blob with these headers, `etag` among them."""
    size = kernel.blobs.size(sha256)
    path = kernel.blobs.on_disk(sha256)
    if path is None:
        return _passed_on(request, kernel, sha256, size, headers)
    if kernel.settings.accel_prefix:
        where = "/".join((kernel.settings.accel_prefix, *path.parts[-3:]))
        return Response(headers={**headers, "x-accel-redirect": where}, media_type=BINARY)
    return FileResponse(path, headers=dict(headers), media_type=BINARY)


def _passed_on(request: Request, kernel: Kernel, sha256: str, size: int, headers: Mapping[str, str]) -> Response:
    asked = request.headers.get("range")
    if request.headers.get("if-range", headers["etag"]) != headers["etag"]:
        asked = None  # the client has part of another file
    span = range_within(asked, size)
    if span is None or request.method == "HEAD":  # of a range, only GET is asked (§14.2)
        whole = {**headers, "accept-ranges": "bytes", "content-length": str(size)}
        if request.method == "HEAD":
            return Response(headers=whole, media_type=BINARY)
        return StreamingResponse(kernel.blobs.chunks(sha256), headers=whole, media_type=BINARY)
    start, end = span
    if start >= end:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    part = {**headers, "content-range": f"bytes {start}-{end - 1}/{size}", "content-length": str(end - start)}
    chunks = kernel.blobs.chunks(sha256, start=start, end=end)
    return StreamingResponse(chunks, status_code=206, headers=part, media_type=BINARY)


def range_within(header: str | None, size: int) -> tuple[int, int] | None:
    """From and up to which byte a Range header asks; None when all is to be sent, an empty span when nothing can be."""
    found = _RANGE.fullmatch(header or "")
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None  # not a range at all, and to be ignored as such
    return min(int(first), size), min(int(last) + 1, size) if last else size
