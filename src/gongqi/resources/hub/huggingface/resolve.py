"""A file by its address, whole or in ranges: what every download is.

The ETag is the file's SHA-256, and the headers say which commit was meant, so that a client can keep the file under both
and ask again only for what has changed. That a file is absent from a commit is told with the commit, for the same use.
"""

from __future__ import annotations

from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.resources.hub.access import check_may_have
from gongqi.resources.hub.api import DOWNLOAD_HEADERS, attachment, matches
from gongqi.resources.hub.browsing import Commit, files_called
from gongqi.resources.hub.downloads import send_blob
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.huggingface.door import Call, refusal_of
from gongqi.resources.hub.rules import MAIN


def resolve(call: Call) -> Response:
    name, *parts = call.tail("resolve")
    path = "/".join(parts)

    def look(ctx: Read) -> tuple[Commit, FileFacts | None]:
        _, commit = call.commit(ctx, name or MAIN)
        if commit.revision:
            check_may_have(ctx, commit.revision)
        found = [each for each in files_called(ctx, commit, [path]) if isinstance(each, FileFacts)]
        return commit, found[0] if found else None

    commit, file = call.look(look)
    known = {"x-repo-commit": commit.oid}
    if file is None:
        return refusal_of(call, Refused("hub.file-absent", path=path[:200]), known)
    etag = f'"{file.sha256}"'
    headers = {
        **DOWNLOAD_HEADERS,
        **known,
        "etag": etag,
        "x-linked-etag": etag,
        "x-linked-size": str(file.size),
        "content-disposition": attachment(path),
    }
    if matches(call.request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return send_blob(call.request, call.kernel, file.sha256, headers)
