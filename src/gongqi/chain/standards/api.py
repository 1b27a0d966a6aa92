"""The documents of a release as files, each under its own media type: `GET /api/v1/standards/release/{key}/{name}`."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from gongqi.chain.standards import proofs
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Endpoint

HEADERS = {
    "content-security-policy": "sandbox; default-src 'none'",
    "cache-control": "private, max-age=0, must-revalidate",  # written once, but the right to it may end
}


async def give(request: Request) -> Response:
    """One document, to whoever may see the release."""
    return await anyio.to_thread.run_sync(_give, request)


def _give(request: Request) -> Response:
    kernel, caller = request.state.kernel, request.state.caller
    key, name = request.path_params["key"], request.path_params["name"]
    if "\x00" in key + name:
        raise Refused("access.not-found", kind="document", key="")
    found, content = kernel.look(lambda ctx: proofs.document(ctx, key, name), caller)
    headers = HEADERS | {
        "etag": f'"{found.sha256}"',
        "x-gongqi-sha256": found.sha256,
        "content-disposition": f'inline; filename="{found.name}"',
    }
    return Response(content, media_type=found.media_type, headers=headers)


ENDPOINTS = (Endpoint("GET", "/api/v1/standards/release/{key}/{name}", give),)
