"""What was used and what it cost, to be read by those who pay: one row a call, the log and the bill at once."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, read
from gongqi.resources.serving.endpoints import ID
from gongqi.resources.serving.models import Usage

RECENT = 50  # records that a key is told of at once


class UsageOut(Output):
    """`cost_nanos` = (input - cached) * input_nanos + cached * cached_nanos + output * output_nanos, in 10⁻⁹ `unit`.

    Of it `fund` pays `aid_nanos`, and the organisation the rest. `repeats`: the call whose answer was given again; `masked`:
    how often something was masked before it left.
    """

    id: str
    org: str
    key: str
    project: str
    route: str
    ending: str
    at: datetime
    duration_us: int
    first_byte_us: int | None
    attempts: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    is_estimated: bool
    is_capped: bool
    price: str
    price_version: int
    unit: str
    input_nanos: int
    cached_nanos: int
    output_nanos: int
    cost_nanos: int
    snapshot: int
    tier: str
    repeats: str | None
    masked: int
    aid_nanos: int
    fund: str | None
    evidence: str


class ListUsage(Paged):
    org: str | None = Field(None, max_length=ID)
    model_key: str | None = Field(None, max_length=ID)
    route: str | None = Field(None, max_length=ID)


class OneUsage(Input):
    usage: str = Field(max_length=ID)


@read("serving:usage:list")
def list_usage(ctx: Read, input: ListUsage) -> Page[UsageOut]:
    query = ctx.visible(Usage, to="serving:usage:read")
    for column, wanted in ((Usage.org, input.org), (Usage.key, input.model_key), (Usage.route, input.route)):
        if wanted:
            query = query.where(column == wanted)
    return ctx.page(query, Usage.id, input, to=UsageOut)


@read("serving:usage:get")
def get_usage(ctx: Read, input: OneUsage) -> UsageOut:
    return UsageOut.model_validate(ctx.find(Usage, input.usage, to="serving:usage:read"))


def usage_of_key(ctx: Read, key: str, usage: str | None) -> list[UsageOut]:
    """Records of one key, for who shows that key: the one named, or the latest. Raises Refused serving.usage-unknown."""
    query = select(Usage).where(Usage.key == key)
    if usage is not None:
        row = ctx.session.scalar(query.where(Usage.id == usage))
        if row is None:
            raise Refused("serving.usage-unknown", usage=usage)
        return [UsageOut.model_validate(row)]
    return [UsageOut.model_validate(row) for row in ctx.session.scalars(query.order_by(Usage.id.desc()).limit(RECENT))]
