"""Inquiries: something about a model in use wants a person's judgement, without a vote of the board.

An inquiry is opened by what was observed, today by a drift of a model's calls, and closed by a reviewer who says what was
found. While one on a model is open no other is opened, and none within COOLDOWN_DAYS of the last: a change that shows in
several figures, or comes in steps, is one matter. Closing one changes nothing by itself; what should follow (another
review, a withdrawal) are acts of their own, with their own evidence.

Source: the practice of research ethics committees on unanticipated problems (45 CFR 46.108(a)(4)).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field
from sqlalchemy import func, or_, select

from gongqi.governance.ethics import decisions, rules
from gongqi.governance.ethics.board import ID, REASON, refuse_borrowed
from gongqi.governance.ethics.models import Inquiry
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.serving.events import DriftFound

COOLDOWN_DAYS = 7


class CloseInquiry(Input):
    """`finding` says what was looked at and what it means."""

    inquiry: str = Field(max_length=ID)
    outcome: Literal["harmless", "watched", "acted"]
    finding: str = Field(min_length=1, max_length=REASON)


class OneInquiry(Input):
    inquiry: str = Field(max_length=ID)


class ListInquiries(Paged):
    route: str | None = Field(None, max_length=ID)
    state: Literal["open", "closed"] | None = None


class InquiryOut(Output):
    """`subject`: the drift that it was opened for."""

    id: str
    route: str
    org: str
    release: str | None
    subject: str
    stream: str
    state: str
    opened_at: datetime
    outcome: str | None
    finding: str | None
    closed_by: str | None
    closed_at: datetime | None
    evidence: str | None
    version: int


@verb("ethics:inquiry:close", evidence="ethics.inquiry-closed")
def close_inquiry(ctx: Write, input: CloseInquiry) -> InquiryOut:
    """Say what an inquiry found. One who belongs to whoever offers the model cannot."""
    row = ctx.find(Inquiry, input.inquiry, to="ethics:inquiry:close")
    refuse_borrowed(ctx)
    if rules.conflicted({ctx.actor.id: members.affiliations(ctx, ctx.actor.id, ctx.now)}, frozenset({row.org})):
        raise Refused("ethics.conflict-of-interest")
    if row.state != "open":
        raise Refused("ethics.inquiry-closed", inquiry=row.id)
    row.state, row.outcome, row.finding = "closed", input.outcome, input.finding
    row.closed_by, row.closed_at = ctx.actor.id, ctx.now
    row.evidence = ctx.record(
        row.id, route=row.route, outcome=row.outcome, finding_digest=decisions.sha256(input.finding)
    )
    ctx.session.flush()
    return InquiryOut.model_validate(row)


@read("ethics:inquiry:list")
def list_inquiries(ctx: Read, input: ListInquiries) -> Page[InquiryOut]:
    return ctx.listed(Inquiry, InquiryOut, input, to="ethics:inquiry:read")


@read("ethics:inquiry:get")
def get_inquiry(ctx: Read, input: OneInquiry) -> InquiryOut:
    return InquiryOut.model_validate(ctx.find(Inquiry, input.inquiry, to="ethics:inquiry:read"))


def on_drift(ctx: Write, event: DriftFound) -> None:
    """Open an inquiry, unless there is one, or there was not long ago. Twice is once."""
    lately = ctx.now - timedelta(days=COOLDOWN_DAYS)
    before = select(func.count()).select_from(Inquiry).where(Inquiry.route == event.route)
    if ctx.session.scalar(before.where(or_(Inquiry.state == "open", Inquiry.opened_at > lately))):
        return
    row = ctx.add(
        Inquiry(
            id=ctx.new_id("inq"), route=event.route, org=event.org, release=event.release, subject=event.drift,
            stream=event.stream, state="open", opened_at=ctx.now, outcome=None, finding=None, closed_by=None,
            closed_at=None, evidence=None,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(row.id, kind="ethics.inquiry-opened", route=event.route, drift=event.drift, stream=event.stream)


def inquiry_actions(ctx: Read, row: InquiryOut) -> list[str]:
    """The verbs that the actor may use on this inquiry now."""
    return ["ethics:inquiry:close"] if row.state == "open" and ctx.actor.may("ethics:inquiry:close") else []
