"""Model endpoints: the servers of models that operators allow the gateway to call.

An endpoint is a base address, `https://host/v1`, and the API that is spoken there: OpenAI's chat completions, these and
its Responses, Anthropic's Messages, or, at `https://host`, the Open Inference Protocol. Its secret, if it has one, is a
file in the home (`credentials/NAME`, one line) that the operator puts there: it passes through no form, no log, no row
and no evidence.
A server on this machine or a private network must be declared `private`; what the address resolves to is checked at
every connection (`plane.pool`).
"""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import urlsplit

from pydantic import Field
from sqlalchemy import select, update

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.serving.models import GatewayVersion, ModelEndpoint

ID = 64
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
REGION = r"^([A-Z]{2})?$"  # a country (ISO 3166-1), or EU; empty where nobody says
SPEAKS = "^(openai|openai-responses|anthropic|open-inference)$"
TENSORS = "open-inference"
ANSWERS = {"anthropic": ("chat",), TENSORS: ("inference",)}  # by what a server speaks, which kinds of models
BY_OPENAI = ("chat", "completions", "embeddings")  # what all others answer
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}")


class AddEndpoint(Input):
    """`first_byte_seconds`: how long the first byte of an answer may take; models think. `cache_salt`: the server (such as
    vLLM) takes a salt into what it remembers of prompts, so that no organisation can tell what another asked. `region`:
    where what is asked there stays, beginning with the two letters of its country, by which its law is told."""

    name: str = Field(pattern=NAME)
    base_url: str = Field(max_length=300)
    speaks: str = Field("openai", pattern=SPEAKS)
    private: bool = False
    credential: str | None = Field(None, pattern=NAME)
    first_byte_seconds: int = Field(120, ge=1, le=900)
    cache_salt: bool = False
    region: str = Field("", max_length=40)


class OneEndpoint(Input):
    endpoint: str = Field(max_length=ID)


class EndpointOut(Output):
    """`base_url` is empty where an `engine` of ours runs a `release` (`serving.hosted`)."""

    id: str
    name: str
    base_url: str
    speaks: str
    private: bool
    credential: str | None
    first_byte_seconds: int
    cache_salt: bool
    engine: str | None
    release: str | None
    context_tokens: int | None
    memory_mib: int | None
    region: str
    state: str
    created_at: datetime
    version: int


@verb("serving:endpoint:add", evidence="serving.endpoint-added")
def add_endpoint(ctx: Write, input: AddEndpoint) -> EndpointOut:
    """Raises Refused: serving.salt-unfit, serving.name-taken, serving.address-invalid."""
    ctx.require("serving:endpoint:add")
    if input.cache_salt and input.speaks == TENSORS:
        raise Refused("serving.salt-unfit", speaks=input.speaks)
    if ctx.session.scalar(select(ModelEndpoint.id).where(ModelEndpoint.name == input.name)):
        raise Refused("serving.name-taken", name=input.name)
    row = ctx.add(
        ModelEndpoint(
            id=ctx.new_id("mep"), name=input.name, base_url=_checked(input.base_url), speaks=input.speaks,
            private=input.private, credential=input.credential, first_byte_seconds=input.first_byte_seconds,
            cache_salt=input.cache_salt, region=input.region, state="ready", created_at=ctx.now,
        )
    )  # fmt: skip
    return changed(ctx, row)


@verb("serving:endpoint:retire", evidence="serving.endpoint-retired")
def retire_endpoint(ctx: Write, input: OneEndpoint) -> EndpointOut:
    """No call goes there any more; routes that have other targets go on with those."""
    row = ctx.find(ModelEndpoint, input.endpoint, to="serving:endpoint:retire")
    if row.state != "ready":
        raise Refused("serving.endpoint-retired", name=row.name)
    row.state = "retired"
    return changed(ctx, row)


@read("serving:endpoint:list")
def list_endpoints(ctx: Read, input: Paged) -> Page[EndpointOut]:
    return ctx.listed(ModelEndpoint, EndpointOut, input, to="serving:endpoint:read")


@read("serving:endpoint:get")
def get_endpoint(ctx: Read, input: OneEndpoint) -> EndpointOut:
    return EndpointOut.model_validate(ctx.find(ModelEndpoint, input.endpoint, to="serving:endpoint:read"))


def require_fit(row: ModelEndpoint, name: str, kind: str) -> None:
    """Whether what is spoken there answers models of this kind. Raises Refused serving.endpoint-unfit."""
    if kind not in ANSWERS.get(row.speaks, BY_OPENAI):
        raise Refused("serving.endpoint-unfit", endpoint=row.name, speaks=row.speaks, name=name, kind=kind)


def raise_version(ctx: Write) -> None:
    """Tell the data planes, with this commit, that there is something new to go by."""
    raised = update(GatewayVersion).where(GatewayVersion.id == 1).values(number=GatewayVersion.number + 1)
    if ctx.session.execute(raised.execution_options(synchronize_session=False)).rowcount == 0:  # type: ignore[attr-defined]
        ctx.add(GatewayVersion(id=1, number=1))


def version_now(ctx: Read) -> int:
    """The newest that data planes may go by."""
    return ctx.session.scalar(select(GatewayVersion.number)) or 0


def changed(ctx: Write, row: ModelEndpoint, *, kind: str | None = None) -> EndpointOut:
    ctx.session.flush()
    raise_version(ctx)
    # The address may tell of the operator's own network, so the log holds it sealed.
    ctx.record(
        row.id, kind=kind, private={"base_url": row.base_url}, name=row.name, speaks=row.speaks, at_home=row.private,
        state=row.state, engine=row.engine, release=row.release, region=row.region,
    )  # fmt: skip
    return EndpointOut.model_validate(row)


def _checked(base_url: str) -> str:
    """Raises Refused serving.address-invalid."""
    try:
        parts = urlsplit(base_url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise Refused("serving.address-invalid", address=base_url[:100]) from None
    plain = base_url.isascii() and base_url.isprintable() and " " not in base_url
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    named = parts.hostname is not None and _HOST.fullmatch(parts.hostname) is not None
    if not (plain and bare and named and port_is_valid and parts.scheme in ("http", "https")):
        raise Refused("serving.address-invalid", address=base_url[:100])
    return base_url.rstrip("/")
