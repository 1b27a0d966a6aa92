"""The registry of patent pledges: who promises what to whom, on which terms it can end, and whether it has.

A pledge stands for itself or belongs to a donation. Its terms are written down as fields and as words, once, when it is
made; afterwards it can only end, and only as its own terms say. A pledge that ends does so for what comes after: for
releases that were published while it stood it goes on. That is a rule of the foundation's policy, which whoever pledges
here accepts; it is not statute, and what a court would say is for a court.

A promise that nobody may read protects nobody, so pledges are public; which asset one is about is told to those who may
see the asset.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, Field
from sqlalchemy import select

from gongqi.chain.upstream.models import Pledge
from gongqi.chain.upstream.rules import check_pledge_terms, ending_of, pledge_state
from gongqi.kernel.gates import Answer, by_policy
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.gates import ReleaseQuestion

ID = 64
WORDS = 4000  # a page
LINE = 200
MAX_NAMED = 100
MAX_PATENTS = 500
CITE = by_policy("donation", 7)

Scope = Literal["donated-work", "all-necessary-claims"]
Beneficiaries = Literal["everyone", "members", "named"]
Revocation = Literal["irrevocable", "defensive-termination", "on-notice"]


class Patent(Input):
    """A patent by its number and where it holds, as two-letter codes of WIPO ST.3: CN, EP, US."""

    patent: str = Field(min_length=1, max_length=60)
    jurisdiction: str = Field(pattern=r"^[A-Z]{2}$")


class MakePledge(Input):
    """`basis`: the licence or the document that the promise rests on. Patents need not be listed."""

    org: str = Field(max_length=ID)
    asset: str | None = Field(None, max_length=ID)
    patent_scope: Scope
    patent_text: str = Field("", max_length=WORDS)
    beneficiaries: Beneficiaries = "everyone"
    named: list[str] = Field(default_factory=list, max_length=MAX_NAMED)
    basis: str = Field("", max_length=LINE)
    patents: list[Patent] = Field(default_factory=list, max_length=MAX_PATENTS)
    effective_at: AwareDatetime | None = None
    revocation: Revocation = "irrevocable"
    notice_days: int | None = Field(None, ge=1, le=3650)
    revocation_text: str = Field("", max_length=WORDS)


class RevokePledge(Input):
    """`against`: who has asserted patents against what is pledged here; for a pledge that ends in defence only."""

    pledge: str = Field(max_length=ID)
    reason: str = Field(min_length=1, max_length=WORDS)
    against: str | None = Field(None, min_length=1, max_length=LINE)


class OnePledge(Input):
    pledge: str = Field(max_length=ID)


class ListPledges(Paged):
    org: str | None = Field(None, max_length=ID)
    asset: str | None = Field(None, max_length=ID)


class PledgeOut(Output):
    """`state`: pending (before `effective_at`), active, notice (it will end at `ends_at`), revoked. Towards releases
    published before `ends_at` it holds for ever. `ended_for`: those against whom it no longer holds."""

    id: str
    org: str
    asset: str | None
    donation: str | None
    patent_scope: str
    patent_text: str
    beneficiaries: str
    named: list[str]
    basis: str
    patents: list[dict[str, str]]
    effective_at: datetime
    revocation: str
    notice_days: int | None
    revocation_text: str
    state: str
    ends_at: datetime | None
    ended_for: list[str]
    end_reason: str | None
    made_at: datetime


@verb("upstream:pledge:make", evidence="upstream.pledge-made")
def make_pledge(ctx: Write, input: MakePledge) -> PledgeOut:
    ctx.require("upstream:pledge:make", input.org)
    check_pledge_terms(input.beneficiaries, input.named, input.revocation, input.notice_days)
    if input.asset:
        hub.require_own(ctx, input.asset, input.org)
    patents = [each.model_dump() for each in input.patents]
    given = input.model_dump(exclude={"patents", "effective_at"})
    return _shown(ctx, _make(ctx, patents=patents, effective_at=input.effective_at or ctx.now, donation=None, **given))


@verb("upstream:pledge:revoke", evidence="upstream.pledge-ended")
def revoke_pledge(ctx: Write, input: RevokePledge) -> PledgeOut:
    """End it, as far as its terms allow. Raises Refused upstream.pledge-*."""
    pledge = ctx.find(Pledge, input.pledge, to="upstream:pledge:revoke")
    notice = ending_of(
        pledge.revocation, pledge.notice_days, against=input.against, has_ended=pledge.ends_at is not None
    )
    if notice is None:
        pledge.ended_for = [*pledge.ended_for, str(input.against)]
    else:
        pledge.ends_at = ctx.now + timedelta(days=notice)
    pledge.end_reason = input.reason
    ctx.session.flush()
    ends_at = pledge.ends_at.isoformat() if pledge.ends_at else None
    ctx.record(pledge.id, ends_at=ends_at, private={"reason": input.reason, "against": input.against})
    return _shown(ctx, pledge)


@read("upstream:pledge:list")
def list_pledges(ctx: Read, input: ListPledges) -> Page[PledgeOut]:
    query = ctx.visible(Pledge, to="upstream:pledge:read")
    if input.org:
        query = query.where(Pledge.org == input.org)
    if input.asset:
        query = query.where(Pledge.asset == hub.get_asset.run(ctx, hub.GetAsset(asset=input.asset)).id)
    page = ctx.page(query, Pledge.id, input, to=_Row)
    return Page(items=_told(ctx, page.items), next=page.next)


@read("upstream:pledge:get")
def get_pledge(ctx: Read, input: OnePledge) -> PledgeOut:
    return _shown(ctx, ctx.find(Pledge, input.pledge, to="upstream:pledge:read"))


# --- for rooms and pages: the caller has authorised ------------------------------------------------------------------


def pledge_with_donation(ctx: Write, *, donation: str, asset: str, org: str, scope: str, text: str) -> None:
    """The pledge that a donor made with a donation, from its acceptance on: to everyone, and irrevocable."""
    _make(
        ctx, org=org, asset=asset, donation=donation, patent_scope=scope, patent_text=text, beneficiaries="everyone",
        named=[], basis="", patents=[], effective_at=ctx.now, revocation="irrevocable", notice_days=None,
        revocation_text="",
    )  # fmt: skip


def pledges_for(ctx: Read, asset: str) -> list[PledgeOut]:
    """The pledges about an asset that the reader may see, newest first."""
    rows = ctx.session.scalars(select(Pledge).where(Pledge.asset == asset).order_by(Pledge.id.desc()))
    return [_shown(ctx, row) for row in rows]


def answer_pledges(ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """At the release gate: which pledges stand at this moment, so that the signed statement names them."""
    standing = [each for each in pledges_for(ctx, question.asset) if each.state in ("active", "notice")]
    if not standing:
        return [Answer("allow", "upstream.gate.no-pledge", cites=(CITE,))]
    return [
        Answer("allow", "upstream.gate.pledged", {"pledge": each.id, "scope": each.patent_scope}, (CITE,))
        for each in standing
    ]


class _Row(Output):
    """A row as it stands, before it is known who reads it and when."""

    id: str
    org: str
    asset: str | None
    donation: str | None
    patent_scope: str
    patent_text: str
    beneficiaries: str
    named: list[str]
    basis: str
    patents: list[dict[str, str]]
    effective_at: datetime
    revocation: str
    notice_days: int | None
    revocation_text: str
    ends_at: datetime | None
    ended_for: list[str]
    end_reason: str | None
    made_at: datetime


def _told(ctx: Read, rows: Collection[_Row]) -> list[PledgeOut]:
    """Each with its state now, and without the asset and the donation for those who may not see the asset."""
    seen = hub.visible_assets(ctx, {row.asset for row in rows if row.asset})
    told = []
    for row in rows:
        hidden = {"asset": None, "donation": None} if row.asset and row.asset not in seen else {}
        state = pledge_state(row.effective_at, row.ends_at, now=ctx.now)
        told.append(PledgeOut.model_validate(row.model_dump() | hidden | {"state": state}))
    return told


def _shown(ctx: Read, pledge: Pledge) -> PledgeOut:
    return _told(ctx, [_Row.model_validate(pledge)])[0]


def _make(ctx: Write, **given: Any) -> Pledge:
    pledge = ctx.add(Pledge(id=ctx.new_id("plg"), ended_for=[], made_at=ctx.now, made_by=ctx.actor.id, **given))
    ctx.session.flush()
    ctx.record(
        pledge.id, kind="upstream.pledge-made", org=pledge.org, patent_scope=pledge.patent_scope,
        beneficiaries=pledge.beneficiaries, revocation=pledge.revocation, notice_days=pledge.notice_days,
        private={"asset": pledge.asset, "text": pledge.patent_text, "patents": pledge.patents, "named": pledge.named},
    )  # fmt: skip
    return pledge
