"""A file by its address, whole or in ranges: what every download is.

The ETag is the file's SHA-256, and the headers say which commit was meant, so that a client can keep the file under both
and ask again only for what has changed. That a file is absent from a commit is told with the commit, for the same use.
"""

from __future__ import annotations

from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.resources.hub import tally
from gongqi.resources.hub.access import check_may_have
from gongqi.resources.hub.api import DOWNLOAD_HEADERS, attachment, matches
from gongqi.resources.hub.browsing import files_called
from gongqi.resources.hub.downloads import send_blob
from gongqi.resources.hub.huggingface.door import Call, refusal_of
from gongqi.resources.hub.public import PublicFile, public_file
from gongqi.resources.hub.rules import MAIN


def resolve(call: Call) -> Response:
    name, *parts = call.tail("resolve")
    path = "/".join(parts)
    file = call.look(lambda ctx: _located(ctx, call, name or MAIN, path))
    known = {"x-repo-commit": file.oid}
    if not file.sha256:
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
    tally.note(call.request, call.caller, file.asset, file.revision)
    return send_blob(call.request, call.kernel, file.sha256, headers)


def _located(ctx: Read, call: Call, name: str, path: str) -> PublicFile:
    """The file, or with an empty digest the commit in which it is absent."""
    at = call.request.path_params
    found = public_file(ctx, handle=at["org"], slug=at["slug"], kind=call.kind, name=name, path=path)
    if found is not None:
        return found
    asset, commit = call.commit(ctx, name)
    if commit.revision:
        check_may_have(ctx, commit.revision)
    file = files_called(ctx, commit, [path]).get(path)
    found_at = (asset.id, commit.revision or "")
    return (
        PublicFile(commit.oid, file.sha256, file.size, *found_at) if file else PublicFile(commit.oid, "", 0, *found_at)
    )
