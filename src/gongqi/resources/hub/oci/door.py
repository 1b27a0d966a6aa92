"""A request at this door: who asks, what the path names, and how it is answered when it cannot be.

Whoever brings no token and cannot be served is asked for one (401), whether or not the thing exists: clients try without
first, and log in only when told to. `GET /v2/token` gives back the token that was sent as a password, or for none a
token that stands for nobody: with that, what is not public does not exist (404).

Errors have the protocol's shape, and our own problem document's members beside it.

Source: OCI Distribution Specification 1.1 (error codes); the token flow that its clients share, as the distribution
project documents it ("Token Authentication Specification").
"""

from __future__ import annotations

import functools
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response

from gongqi.kernel.access import ANONYMOUS, Actor
from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.kernel.room import Endpoint, Kernel
from gongqi.kernel.verbs import Caller, Read, Verb, execute
from gongqi.members.actors import SESSION_PREFIX, actor_for_session, actor_for_token, note_use
from gongqi.resources.hub.addresses import asset_at
from gongqi.resources.hub.assets import AssetOut

NOBODY = "anonymous"  # a token for whoever has none; ours look different
TOKEN_SECONDS = 300  # after which a client asks again; the token itself ends when it ends
VERSION = {"docker-distribution-api-version": "registry/2.0"}

# Our code → theirs. Everything else goes by its status.
CODES = {
    "hub.address-unknown": "NAME_UNKNOWN",
    "hub.asset-deleted": "NAME_UNKNOWN",
    "hub.asset-moved": "NAME_UNKNOWN",
    "hub.slug-invalid": "NAME_INVALID",
    "hub.ref-unknown": "MANIFEST_UNKNOWN",
    "hub.oci-manifest-unknown": "MANIFEST_UNKNOWN",
    "hub.oci-manifest-invalid": "MANIFEST_INVALID",
    "hub.oci-layer-packed": "MANIFEST_INVALID",
    "hub.blob-unknown": "MANIFEST_BLOB_UNKNOWN",
    "hub.oci-blob-unknown": "BLOB_UNKNOWN",
    "hub.oci-digest-invalid": "DIGEST_INVALID",
    "kernel.digest-mismatch": "DIGEST_INVALID",
    "kernel.digest-invalid": "DIGEST_INVALID",
    "kernel.blob-truncated": "SIZE_INVALID",
    "kernel.upload-unknown": "BLOB_UPLOAD_UNKNOWN",
    "hub.ticket-invalid": "BLOB_UPLOAD_UNKNOWN",
    "hub.ticket-expired": "BLOB_UPLOAD_UNKNOWN",
    "hub.oci-range-invalid": "BLOB_UPLOAD_INVALID",
    "hub.oci-unsupported": "UNSUPPORTED",
}
STATUS = {"hub.ticket-invalid": 404, "hub.ticket-expired": 404}  # an upload's address, made up or too old
BY_STATUS = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 405: "UNSUPPORTED", 429: "TOOMANYREQUESTS"}
HIDDEN = ("hub.address-unknown", "access.not-found", "hub.asset-gated-sign-in")  # may be there for who signs in


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    request: Request
    kernel: Kernel
    caller: Caller

    def do(self, verb: Verb, **given: Any) -> Any:
        return execute(self.kernel, verb, self.caller, verb.input.model_validate(given))

    def look(self, work: Callable[[Read], Any]) -> Any:
        return self.kernel.look(work, self.caller)

    def repository(self, ctx: Read) -> AssetOut:
        """The asset that the path names, if it may be seen."""
        return asset_at(ctx, self.org, self.slug)

    @property
    def org(self) -> str:
        return self.request.path_params["org"]

    @property
    def slug(self) -> str:
        return self.request.path_params["slug"]

    def at(self, *parts: str) -> str:
        """An address below this repository's."""
        return "/".join((f"/v2/{self.org}/{self.slug}", *parts))


def endpoint(method: str, path: str, handle: Callable[[Call], Response]) -> Endpoint:
    """A route whose work is done in a thread."""

    async def answer(call: Call) -> Response:
        return await anyio.to_thread.run_sync(handle, call)

    return streaming(method, path, answer)


def streaming(method: str, path: str, handle: Callable[[Call], Awaitable[Response]]) -> Endpoint:
    """A route that reads the request's body itself."""

    @functools.wraps(handle)
    async def answer(request: Request) -> Response:
        call = Call(request, request.state.kernel, request.state.caller)
        try:
            response = await handle(call)
        except (Refused, Unavailable) as error:
            return refusal_of(call, error)
        response.headers.update(VERSION)
        return response

    return Endpoint(method, path, answer, problem, actor_of)


def problem(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error as this protocol's clients read it."""
    code = CODES.get(str(document["code"]), BY_STATUS.get(document["status"], "DENIED"))
    said = {"code": code, "message": f"{document['detail']} {document['remedy']}", "detail": document["params"]}
    return {"errors": [said], **document}


def refusal_of(call: Call, error: GongqiError) -> Response:
    words = call.kernel.house.words
    status, message, remedy = words.error(error, call.caller.language)
    status, headers = STATUS.get(error.code, status), dict(VERSION)
    if isinstance(error, Unavailable):
        headers["retry-after"] = str(error.retry_after_seconds)
    if error.code in HIDDEN and secret_in(call.request) is None:
        status = 401
    if status == 401:
        headers["www-authenticate"] = challenge(call.request)
    document = {"code": error.code, "status": status, "detail": message, "remedy": remedy, "params": error.params}
    return Response(orjson.dumps(problem(document)), status, headers, "application/json")


def challenge(request: Request) -> str:
    """Where a token is to be had, and for what."""
    origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
    path = request.path_params
    actions = "pull" if request.method in ("GET", "HEAD") else "pull,push"
    scope = f',scope="repository:{path["org"]}/{path["slug"]}:{actions}"' if "slug" in path else ""
    return f'Bearer realm="{origin}/v2/token",service="gongqi"{scope}'.replace("\r", "").replace("\n", "")


def secret_in(request: Request) -> str | None:
    """The token that a request brings: as Bearer, or as the password of Basic, whatever the user name."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(rest).decode().partition(":")[2]
        except ValueError:
            return ""
    return None


def actor_of(request: Request, kernel: Kernel) -> Actor:
    """Who calls. Raises Refused members.token-invalid, members.session-invalid."""
    secret = secret_in(request)
    if secret is None or secret == NOBODY:
        return ANONYMOUS
    resolve = actor_for_session if secret.startswith(SESSION_PREFIX) else actor_for_token
    actor = kernel.look(lambda ctx: resolve(ctx, secret))
    note_use(kernel, secret)
    return actor


# --- the two addresses that name no repository -----------------------------------------------------------------------


def ping(call: Call) -> Response:
    """Whether this is a registry, and whether the caller has a token: without one, where to get it."""
    if secret_in(call.request) is None:
        raise Refused("access.sign-in-needed", permission="hub:asset:read")
    return Response(b"{}", media_type="application/json")


def token(call: Call) -> Response:
    """The token that was sent as a password, which has been looked up by now."""
    secret = secret_in(call.request) or NOBODY
    document = {"token": secret, "access_token": secret, "expires_in": TOKEN_SECONDS}
    return Response(orjson.dumps(document), media_type="application/json")
