"""Answers that are kept to be given again, as far as the control plane has to do with them: to have them forgotten.

Whether they are kept is a key's affair (`serving.keys`), and where, the data plane's (`plane.cache`).
"""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.verbs import Input, Output, Read, Write, verb
from gongqi.members import service as members
from gongqi.resources.serving.caching_models import CacheSince
from gongqi.resources.serving.endpoints import ID, raise_version, version_now


class ForgetAnswers(Input):
    org: str = Field(max_length=ID)


class ForgottenOut(Output):
    """No answer from before this version of the gateway is given again."""

    org: str
    number: int


@verb("serving:cache:forget", evidence="serving.cache-forgotten")
def forget(ctx: Write, input: ForgetAnswers) -> ForgottenOut:
    """Forget within a second, in all processes, what is kept for an organisation, and what its calls under way leave."""
    ctx.require("serving:cache:forget", input.org)
    members.require_organisation(ctx, input.org)
    raise_version(ctx)
    row = ctx.session.get(CacheSince, input.org) or ctx.add(CacheSince(org=input.org, number=0, at=ctx.now))
    row.number, row.at = version_now(ctx), ctx.now
    ctx.record(input.org, withhold=True, private={"org": row.org, "number": row.number})
    return ForgottenOut(org=row.org, number=row.number)


def since_of(ctx: Read, orgs: Collection[str]) -> dict[str, int]:
    """By organisation, the version from which on answers are kept; 0 where nothing was ever forgotten."""
    rows = ctx.session.scalars(select(CacheSince).where(CacheSince.org.in_(orgs)))
    return {row.org: row.number for row in rows}
