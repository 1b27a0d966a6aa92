"""Donations and their acceptance; `pledges` keeps what they promise about patents.

A donation is an asset in the hub plus what its giver promises: licence, provenance, patents, and when it opens to whom.
The asset starts private and opens step by step once the foundation has accepted (flows.py). What was offered and not
accepted cannot be published; nor can a release whose card carries another licence than was promised.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field
from sqlalchemy import func, select

from gongqi.chain.upstream.events import DonationAccepted, DonationDeclined, DonationOffered
from gongqi.chain.upstream.models import Donation
from gongqi.chain.upstream.pledges import pledge_with_donation
from gongqi.chain.upstream.rules import (
    AUDIENCES,
    Stage,
    check_pledge,
    check_rescheduled,
    check_schedule,
    is_same_licence,
)
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Answer, by_policy
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.gates import ReleaseQuestion

OPEN = "upstream.open"
ID = 64
WORDS = 4000  # a page
CITE_ACCEPTED, CITE_LICENCE = by_policy("donation", 2), by_policy("donation", 3)

PatentScope = Literal["none", "donated-work", "all-necessary-claims"]


class StageInput(Input):
    """`opens_at`: a time with its zone; none means as soon as the donation is accepted."""

    audience: Literal["members", "public"]
    opens_at: AwareDatetime | None = None


class Offer(Input):
    org: str = Field(max_length=ID)
    slug: str = Field(max_length=63)
    kind: hub.Kind
    title_zh: str = Field(min_length=1, max_length=200)
    title_en: str = Field(min_length=1, max_length=200)
    summary_zh: str = Field("", max_length=1000)
    summary_en: str = Field("", max_length=1000)
    license: str = Field(min_length=1, max_length=500)
    provenance: str = Field(min_length=1, max_length=WORDS)
    patent_scope: PatentScope = "none"
    patent_text: str = Field("", max_length=WORDS)
    schedule: list[StageInput] = Field([StageInput(audience="public")], max_length=len(AUDIENCES))


class OneDonation(Input):
    donation: str = Field(max_length=ID)


class Reschedule(Input):
    """The whole schedule as it is to be; what has opened stays in it as it was."""

    donation: str = Field(max_length=ID)
    schedule: list[StageInput] = Field(max_length=len(AUDIENCES))
    reason: str = Field(min_length=1, max_length=WORDS)


class Decline(Input):
    donation: str = Field(max_length=ID)
    reason: str = Field(min_length=1, max_length=WORDS)


class ListDonations(Paged):
    org: str | None = Field(None, max_length=ID)
    state: Literal["offered", "accepted", "declined"] | None = None


class StageOut(Output):
    audience: str
    opens_at: datetime | None


class DonationOut(Output):
    id: str
    asset: str
    org: str
    license: str
    provenance: str
    patent_scope: str
    patent_text: str
    schedule: list[StageOut]
    state: str
    visibility: str
    offered_at: datetime
    offered_by: str
    decided_at: datetime | None
    decided_by: str | None
    decline_reason: str | None
    version: int


@verb("upstream:donation:offer", evidence="upstream.donation-offered")
def offer(ctx: Write, input: Offer) -> DonationOut:
    ctx.require("upstream:donation:offer", input.org)
    check_pledge(input.patent_scope, input.patent_text)
    stages = check_schedule([Stage(each.audience, each.opens_at) for each in input.schedule], now=ctx.now)
    asset = hub.create_asset(
        ctx, org=input.org, slug=input.slug, kind=input.kind, title_zh=input.title_zh, title_en=input.title_en,
        summary_zh=input.summary_zh, summary_en=input.summary_en,
    )  # fmt: skip
    donation = ctx.add(
        Donation(
            id=ctx.new_id("don"), asset=asset.id, org=input.org, license=input.license, provenance=input.provenance,
            patent_scope=input.patent_scope, patent_text=input.patent_text, schedule=[_written(s) for s in stages],
            state="offered", visibility="private", offered_at=ctx.now, offered_by=ctx.actor.id,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(
        donation.id, asset=asset.id, org=donation.org, patent_scope=donation.patent_scope,
        private={
            "license": donation.license, "provenance": donation.provenance, "patent_text": donation.patent_text,
        },  # until the gates have read it, a licence is any words at all, and the log forgets none
    )  # fmt: skip
    ctx.emit(DonationOffered(donation=donation.id, asset=asset.id, org=donation.org))
    return DonationOut.model_validate(donation)


@verb("upstream:donation:accept", evidence="upstream.donation-accepted")
def accept(ctx: Write, input: OneDonation) -> DonationOut:
    donation = _decide(ctx, input.donation, "upstream:donation:accept", "accepted")
    ctx.record(
        donation.id, asset=donation.asset, patent_scope=donation.patent_scope, schedule=donation.schedule,
    )  # fmt: skip
    if donation.patent_scope != "none":
        pledge_with_donation(
            ctx, donation=donation.id, asset=donation.asset, org=donation.org, scope=donation.patent_scope,
            text=donation.patent_text,
        )  # fmt: skip
    ctx.start_flow(OPEN, key=donation.id, donation=donation.id)
    ctx.emit(DonationAccepted(donation=donation.id, asset=donation.asset, org=donation.org))
    return DonationOut.model_validate(donation)


@verb("upstream:donation:decline", evidence="upstream.donation-declined")
def decline(ctx: Write, input: Decline) -> DonationOut:
    donation = _decide(ctx, input.donation, "upstream:donation:decline", "declined")
    donation.decline_reason = input.reason
    ctx.session.flush()
    ctx.record(donation.id, asset=donation.asset, private={"reason": input.reason})
    ctx.emit(DonationDeclined(donation=donation.id, asset=donation.asset, org=donation.org))
    return DonationOut.model_validate(donation)


@verb("upstream:donation:reschedule", evidence="upstream.donation-rescheduled")
def reschedule(ctx: Write, input: Reschedule) -> DonationOut:
    """Move the hours that have not come yet, later or earlier. Raises Refused upstream.schedule-*."""
    donation = ctx.find(Donation, input.donation, to="upstream:donation:reschedule")
    if donation.state == "declined":
        raise Refused("upstream.donation-decided", donation=donation.id, state=donation.state)
    before = [Stage(each["audience"], _moment(each["opens_at"])) for each in donation.schedule]
    stages = check_schedule([Stage(each.audience, each.opens_at) for each in input.schedule], now=ctx.now)
    check_rescheduled(before, stages, opened_to=donation.visibility)
    donation.schedule = [_written(stage) for stage in stages]
    ctx.session.flush()
    ctx.record(donation.id, asset=donation.asset, schedule=donation.schedule, private={"reason": input.reason})
    if donation.state == "accepted":
        ctx.start_flow(OPEN, key=f"{donation.id}.{donation.version}", donation=donation.id)
    return DonationOut.model_validate(donation)


@read("upstream:donation:list")
def list_donations(ctx: Read, input: ListDonations) -> Page[DonationOut]:
    return ctx.listed(Donation, DonationOut, input, to="upstream:donation:read")


@read("upstream:donation:get")
def get_donation(ctx: Read, input: OneDonation) -> DonationOut:
    return DonationOut.model_validate(ctx.find(Donation, input.donation, to="upstream:donation:read"))


def visible_donations(ctx: Read, keys: Collection[str]) -> dict[str, DonationOut]:
    """Of these donations, those that the reader may see."""
    query = ctx.visible(Donation, to="upstream:donation:read").where(Donation.id.in_(keys))
    return {row.id: DonationOut.model_validate(row) for row in ctx.session.scalars(query)}


def _decide(ctx: Write, key: str, permission: str, state: str) -> Donation:
    donation = ctx.find(Donation, key, to=permission)
    if donation.state != "offered":
        raise Refused("upstream.donation-decided", donation=donation.id, state=donation.state)
    donation.state, donation.decided_at, donation.decided_by = state, ctx.now, ctx.actor.id
    ctx.session.flush()
    return donation


def _moment(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None


def _written(stage: Stage) -> dict[str, Any]:
    moment = stage.opens_at.astimezone(UTC).isoformat() if stage.opens_at else None
    return {"audience": stage.audience, "opens_at": moment}


# --- for flows and rooms above: the caller has authorised ------------------------------------------------------------


def donation_of(ctx: Read, asset: str) -> DonationOut | None:
    """The donation by which an asset came, or None when it came otherwise."""
    row = ctx.session.scalar(select(Donation).where(Donation.asset == asset))
    return DonationOut.model_validate(row) if row else None


def accepted_donations(ctx: Read) -> int:
    """How many accepted donations the reader may see: a number of the home page."""
    accepted = ctx.visible(Donation, to="upstream:donation:read").where(Donation.state == "accepted")
    return ctx.session.scalar(accepted.with_only_columns(func.count())) or 0


def stages_of(ctx: Read, donation: str) -> list[dict[str, str]]:
    """When an accepted donation opens to whom: [{audience, opens_at}], times in ISO form."""
    row = _row(ctx, donation)
    accepted_at = row.decided_at or row.offered_at
    return [stage | {"opens_at": stage["opens_at"] or accepted_at.isoformat()} for stage in row.schedule]


def open_to(ctx: Write, donation: str, audience: str) -> bool:
    """Open the donated asset as far as `audience`, if its hour has come as the schedule now stands: whoever moved it has
    started a flow of their own. Returns whether the hub changed anything."""
    row = _row(ctx, donation)
    due = any(
        each["audience"] == audience and datetime.fromisoformat(each["opens_at"]) <= ctx.now
        for each in stages_of(ctx, donation)
    )
    if not due or AUDIENCES.index(audience) <= (AUDIENCES.index(row.visibility) if row.visibility in AUDIENCES else -1):
        return False
    row.visibility = audience
    return hub.set_visibility(ctx, row.asset, audience)


def answer_donation(ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """At the release gate: a donated asset is published once accepted, and under the licence that was promised."""
    row = ctx.session.scalar(select(Donation).where(Donation.asset == question.asset))
    if row is None:
        return [Answer("allow", "upstream.gate.not-donated", cites=(CITE_ACCEPTED,))]
    if row.state != "accepted":
        return [Answer("deny", f"upstream.gate.{row.state}", {"donation": row.id}, (CITE_ACCEPTED,))]
    carried = question.card.get("license")
    if not is_same_licence(row.license, carried):
        params = {"offered": row.license, "carried": carried or ""}
        return [Answer("deny", "upstream.gate.licence-differs", params, (CITE_LICENCE,))]
    return [Answer("allow", "upstream.gate.accepted", {"donation": row.id, "license": row.license}, (CITE_LICENCE,))]


def _row(ctx: Read, donation: str) -> Donation:
    row = ctx.session.get(Donation, donation)
    if row is None:
        raise Refused("access.not-found", kind="donation", key=donation[:100])
    return row
