"""A sent form that may bring files (multipart/form-data, RFC 7578), bounded before it is read.

What is held in memory and on disk for one form is bounded: large files have a way of their own, in parts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request

from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Sent, SentFile

MAX_SENT_BYTES = 32 * 1024 * 1024  # what a page waits for without showing how far it is
MAX_SENT_FILES = 100
MAX_SENT_FIELDS = 100
MAX_FIELD_BYTES = 4 * 1024 * 1024  # a list of ten thousand files that are here already


async def read_sent(request: Request) -> Sent:
    """Raises Refused kernel.body-too-large, web.request-malformed."""
    try:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            parser = MultiPartParser(
                request.headers, _bounded(request), max_files=MAX_SENT_FILES, max_fields=MAX_SENT_FIELDS,
                max_part_size=MAX_FIELD_BYTES,
            )  # fmt: skip
        else:
            parser = FormParser(request.headers, _bounded(request))
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused("web.request-malformed", why=error.message) from error
    fields, files = {}, []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif value.filename:  # a field for files that was left empty comes as a file without a name
            files.append(SentFile(value.filename, await value.read()))
    await form.close()
    return Sent(fields, tuple(files))


async def _bounded(request: Request) -> AsyncGenerator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_SENT_BYTES:
            raise Refused("kernel.body-too-large", limit_bytes=MAX_SENT_BYTES)
        yield chunk
