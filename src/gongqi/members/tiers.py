"""The tier of an organisation's membership: set by the foundation, dated, with its reason; by it prices may differ.

Every organisation is `general` until something else is set, and again when that ends. What was in force on a day stays
on record: setting a tier ends the one before, and nothing is overwritten.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field
from sqlalchemy import or_, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members.models import OrganisationTier
from gongqi.members.parties import require_organisation
from gongqi.members.rules import GENERAL, MAX_REASON

MAX_DAYS = 3660  # ten years; a membership that never ends is renewed

Tier = Literal["general", "associate", "silver", "gold", "platinum"]


class SetTier(Input):
    """`days` None: until another tier is set."""

    org: str = Field(max_length=64)
    tier: Tier
    reason: str = Field(min_length=1, max_length=MAX_REASON)
    days: int | None = Field(None, ge=1, le=MAX_DAYS)


class ListTiers(Paged):
    org: str | None = Field(None, max_length=64)


class TierOut(Output):
    """`until` None: no end is set."""

    id: str
    org: str
    tier: str
    reason: str
    since: datetime
    until: datetime | None


@verb("members:tier:set", evidence="members.tier-set")
def set_tier(ctx: Write, input: SetTier) -> TierOut:
    """Give an organisation a tier of membership; what it had ends now."""
    ctx.require("members:tier:set")
    require_organisation(ctx, input.org)
    before = _in_force(ctx, {input.org}).get(input.org)
    if input.tier == (before.tier if before else GENERAL):
        raise Refused("members.tier-unchanged", org=input.org, tier=input.tier)
    if before is not None:
        before.until = ctx.now
    until = None if input.days is None else ctx.now + timedelta(days=input.days)
    row = ctx.add(
        OrganisationTier(
            id=ctx.new_id("tier"), org=input.org, tier=input.tier, reason=input.reason, since=ctx.now, until=until
        )
    )
    ctx.session.flush()
    ctx.record(row.id, private={"org": row.org, "tier": row.tier, "reason": row.reason})
    return TierOut.model_validate(row)


@read("members:tier:list")
def list_tiers(ctx: Read, input: ListTiers) -> Page[TierOut]:
    return ctx.listed(OrganisationTier, TierOut, input, to="members:tier:read")


# ---- for other rooms


def tiers_of(ctx: Read, orgs: Collection[str]) -> dict[str, str]:
    """The tiers in force of these organisations, whoever asks; one that is not there is general."""
    return {org: row.tier for org, row in _in_force(ctx, orgs).items()}


def _in_force(ctx: Read, orgs: Collection[str]) -> dict[str, OrganisationTier]:
    query = select(OrganisationTier).where(
        OrganisationTier.org.in_(sorted(orgs)), or_(OrganisationTier.until.is_(None), OrganisationTier.until > ctx.now)
    )
    return {row.org: row for row in ctx.session.scalars(query)}
