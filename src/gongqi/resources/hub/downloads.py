"""A stored file as a response, whole or in a range (RFC 9110 §14), by the shortest way that the store allows.

- A folder behind a proxy that can send files: the response is empty and names the file (`X-Accel-Redirect`), and the
  proxy sends it, ranges too. Only when the operator says so, because without such a proxy nothing would arrive. HEAD is
  answered here: there is nothing to send, and the proxy would drop most of the headers.
- A few kilobytes: read at once, by the thread that answers.
- A folder: the system copies the file into the connection, where the server offers that (ASGI's zero copy extension,
  doors/web/sending.py); the bytes never pass through Python.
- A far store: the bytes are passed on as they come.

One range is served; for several the whole is sent, as §14.2 allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.room import Kernel

BINARY = "application/octet-stream"
AT_ONCE_BYTES = 64 << 10  # a thread that answers many others reads this much in less time than handing it on takes
ZERO_COPY = "http.response.zerocopysend"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def send_blob(request: Request, kernel: Kernel, sha256: str, headers: Mapping[str, str]) -> Response:
    """The blob with these headers, `etag` among them. To be called on a thread."""
    blobs = kernel.blobs
    size = blobs.size(sha256)
    status, sent = 200, {**headers, "accept-ranges": "bytes"}
    if request.method == "HEAD":  # a range is of GET only (§14.2)
        sent["content-length"] = str(size)
        return Response(headers=sent, media_type=BINARY)
    path = blobs.on_disk(sha256)
    if path is not None and kernel.settings.accel_prefix:
        where = "/".join((kernel.settings.accel_prefix, *path.parts[-3:]))
        return Response(headers={**headers, "x-accel-redirect": where}, media_type=BINARY)
    start, end = 0, size
    span = _asked(request, size, headers["etag"])
    if span is not None:
        start, end = span
        if start >= end:
            return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
        status, sent["content-range"] = 206, f"bytes {start}-{end - 1}/{size}"
    sent["content-length"] = str(end - start)
    if end - start <= AT_ONCE_BYTES and path is not None:
        return Response(b"".join(blobs.chunks(sha256, start=start, end=end)), status, sent, BINARY)
    if path is not None and ZERO_COPY in request.scope.get("extensions", ()):
        return _Copied(path, start, end, status, sent)
    return _passed_on(blobs, sha256, start, end, status, sent)


class _Copied(Response):
    """Part of a file that the server copies into the connection by itself."""

    def __init__(self, path: Path, start: int, end: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(None, status, headers, BINARY)
        self._path, self._start, self._end = path, start, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with await anyio.to_thread.run_sync(self._path.open, "rb") as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send(
                {"type": ZERO_COPY, "file": file.fileno(), "offset": self._start, "count": self._end - self._start}
            )


def _passed_on(blobs: Blobs, sha256: str, start: int, end: int, status: int, headers: Mapping[str, str]) -> Response:
    return StreamingResponse(blobs.chunks(sha256, start=start, end=end), status, headers, BINARY)


def _asked(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """The range that a request asks for, unless it has part of another file."""
    is_same = request.headers.get("if-range", etag) == etag
    return range_within(request.headers.get("range"), size) if is_same else None


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
