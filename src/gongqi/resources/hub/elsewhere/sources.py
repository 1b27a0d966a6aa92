"""Other hubs by name, as an operator lets them be reached: nobody else says where this house connects to.

A token for a source is a file that the operator puts into the home, `sources/NAME.token`, readable to nobody else. It is
read when it is needed and is in no table, no answer and no evidence. What only that token opens is for one organisation,
the one that the source was added for; to all others the source gives what it gives to the public.
"""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import urlsplit

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub.elsewhere.outside import Outside
from gongqi.resources.hub.foreign import Source

ID = 64
ENDPOINT = 300
TOKEN_LIMIT_BYTES = 4096
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"


class AddSource(Input):
    """`is_inside`: the endpoint may be at a private address, such as a hub on the operator's own network."""

    name: str = Field(pattern=NAME)
    endpoint: str = Field(max_length=ENDPOINT)
    is_inside: bool = False
    has_token: bool = False
    org: str | None = Field(None, max_length=ID)


class OneSource(Input):
    source: str = Field(max_length=ID)


class SourceOut(Output):
    id: str
    name: str
    endpoint: str
    is_inside: bool
    has_token: bool
    org: str | None
    state: str
    mirror_bytes: int
    added_at: datetime


@verb("hub:source:add", evidence="hub.source-added")
def add_source(ctx: Write, input: AddSource) -> SourceOut:
    ctx.require("hub:source:add")
    endpoint = check_endpoint(input.endpoint)
    if ctx.session.scalar(select(Source.id).where(Source.name == input.name)):
        raise Refused("hub.source-taken", name=input.name)
    if input.org:
        members.require_organisation(ctx, input.org)
    source = ctx.add(
        Source(
            id=ctx.new_id("src"), name=input.name, endpoint=endpoint, is_inside=input.is_inside,
            has_token=input.has_token, org=input.org, state="open", added_at=ctx.now, added_by=ctx.actor.id,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(source.id, private={"name": source.name, "endpoint": endpoint, "is_inside": source.is_inside})
    return SourceOut.model_validate(source)


@verb("hub:source:retire", evidence="hub.source-retired")
def retire_source(ctx: Write, input: OneSource) -> SourceOut:
    """Nothing is fetched from it any more; what came from it stays, and goes on saying so."""
    source = ctx.find(Source, input.source, to="hub:source:retire")
    source.state = "retired"
    ctx.session.flush()
    ctx.record(source.id)
    return SourceOut.model_validate(source)


@read("hub:source:list")
def list_sources(ctx: Read, input: Paged) -> Page[SourceOut]:
    """Those that one's organisations may import from."""
    return ctx.listed(Source, SourceOut, input, to="hub:source:read")


# --- for this room: the caller has authorised ------------------------------------------------------------------------


def open_source(ctx: Read, source: str) -> Source:
    """A source that is still reached. Raises Refused access.not-found, hub.source-retired."""
    row = ctx.find(Source, source, to="hub:source:read")
    if row.state != "open":
        raise Refused("hub.source-retired", name=row.name)
    return row


class Ways:
    """The connections to each source, kept for as long as its row says the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, bool, str | None], Outside] = {}

    def to(self, kernel: Kernel, source: Source) -> Outside:
        """Raises Refused hub.source-token-missing."""
        token = token_of(kernel, source.name) if source.has_token else None
        key = (source.id, source.endpoint, source.is_inside, token)
        if key not in self._known:
            self._known[key] = Outside(source.endpoint, token=token, is_inside=source.is_inside)
        return self._known[key]


def way_to(kernel: Kernel, source: Source) -> Outside:
    return kernel.parts.setdefault(Ways, Ways()).to(kernel, source)


def token_of(kernel: Kernel, name: str) -> str:
    try:
        with (kernel.settings.home / "sources" / f"{name}.token").open("rb") as file:
            token = file.read(TOKEN_LIMIT_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("hub.source-token-missing", name=name) from error
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise Refused("hub.source-token-missing", name=name)
    return token


def check_endpoint(endpoint: str) -> str:
    """Without a slash at the end. Raises Refused hub.source-endpoint-invalid."""
    parts = urlsplit(endpoint.strip())
    odd = parts.username or parts.password or parts.query or parts.fragment or not parts.hostname
    if parts.scheme not in ("http", "https") or odd or not re.fullmatch(r"[\x21-\x7e]+", endpoint.strip()):
        raise Refused("hub.source-endpoint-invalid", endpoint=ascii(endpoint[:100])[1:-1])
    return endpoint.strip().rstrip("/")
