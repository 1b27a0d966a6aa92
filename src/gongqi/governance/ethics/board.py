"""The review board at work: votes, recusals, conditions, another review.

What people do here; what follows from it is in decisions.py. Votes, rationales and recusals are public by charter: the
log holds their digests, the tables their words.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import select

from gongqi.governance.ethics import decisions, rules
from gongqi.governance.ethics.models import ReviewCase, ReviewRecusal, ReviewVote
from gongqi.governance.ethics.rules import Condition, Decision
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Verdict
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub import service as hub

ID = 64  # characters; ours have 30
RATIONALE = 8000  # two pages: a reason, not a treatise
REASON = 2000
CONDITIONS = 20  # of one vote; more is a refusal
DUE_DAYS = 90  # unless the voter says otherwise
DUE_DAYS_LIMIT = 365  # an approval does not last longer
BOARD = "ethics.board"


class CastVote(Input):
    """`digest` is the revision that the voter has read, when they wish to be sure; `conditions` bind an approval."""

    case: str = Field(max_length=ID)
    choice: Literal["approve", "refuse", "abstain"]
    rationale: str = Field(min_length=1, max_length=RATIONALE)
    conditions: list[str] = Field(default_factory=list, max_length=CONDITIONS)
    due_days: int = Field(DUE_DAYS, ge=1, le=DUE_DAYS_LIMIT)
    digest: str | None = Field(None, max_length=64)


class DeclareRecusal(Input):
    case: str = Field(max_length=ID)
    reason: str = Field(min_length=1, max_length=REASON)


class OpenCase(Input):
    """`reason`: the new facts for which another review is asked."""

    release: str = Field(max_length=ID)
    reason: str = Field(min_length=1, max_length=REASON)


class ConfirmCondition(Input):
    """`number` counts the conditions of the case from 1; `finding` says what was checked."""

    case: str = Field(max_length=ID)
    number: int = Field(ge=1, le=1000)
    finding: str = Field(min_length=1, max_length=REASON)


class OneCase(Input):
    case: str = Field(max_length=ID)


class ListCases(Paged):
    """`decided` is every state but open."""

    release: str | None = Field(None, max_length=ID)
    state: Literal["open", "decided", "approved", "refused", "expired", "superseded"] | None = None


class CaseOut(Output):
    id: str
    release: str
    number: int
    name: str
    asset: str
    org: str
    revision: str
    digest: str
    roster: list[str]
    quorum: int
    opened_at: datetime
    closes_at: datetime
    state: str
    decided_at: datetime | None
    expires_at: datetime | None
    evidence: str | None
    version: int


class VoteOut(Output):
    """`counts`: whether it is the one vote of this reviewer that the decision rests on."""

    id: str
    voter: str
    choice: str
    rationale: str
    at: datetime
    counts: bool


class RecusalOut(Output):
    reviewer: str
    org: str | None
    reason: str
    at: datetime


class ConditionOut(Output):
    text: str
    owner: str
    due_at: datetime
    met_at: datetime | None


class CaseDetail(CaseOut):
    """`answers` are the board's at this moment, each in both languages."""

    votes: list[VoteOut]
    recusals: list[RecusalOut]
    conditions: list[ConditionOut]
    answers: list[dict[str, Any]]


# --- verbs -----------------------------------------------------------------------------------------------------------


@verb("ethics:vote:cast", evidence="ethics.vote-cast")
def cast_vote(ctx: Write, input: CastVote) -> CaseOut:
    """Vote on a release. A later vote replaces an earlier one until the board has decided."""
    case = ctx.find(ReviewCase, input.case, to="ethics:vote:cast")
    refuse_borrowed(ctx)
    refuse_conflict(ctx, case.org, case.revision)
    _refuse_closed(ctx, case)
    rules.admit_vote(
        ctx.actor.id, voted_digest=input.digest or case.digest, digest=case.digest, roster=case.roster,
        recused=decisions.recused(ctx, case.id), opened_at=case.opened_at, closes_at=case.closes_at, now=ctx.now,
    )  # fmt: skip
    if input.conditions and input.choice != "approve":
        raise Refused("ethics.condition-without-approval", choice=input.choice)
    # Later than the voter's own votes before it, though the clock was set back: the last one counts.
    earlier = [row.at for row in decisions.votes(ctx, case.id) if row.voter == ctx.actor.id]
    at = max([ctx.now, *(moment + timedelta(microseconds=1) for moment in earlier)])
    due_at = ctx.now + timedelta(days=input.due_days)
    for text in input.conditions:
        rules.check_condition(Condition(text, case.org, due_at), now=ctx.now)
    conditions = [{"text": text.strip(), "due_at": due_at.isoformat()} for text in input.conditions]
    ctx.add(
        ReviewVote(
            id=ctx.new_id("vote"), case=case.id, voter=ctx.actor.id, choice=input.choice, digest=case.digest,
            rationale=input.rationale, conditions=conditions, at=at,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(
        case.id, release=case.release, digest=case.digest, choice=input.choice,
        rationale_digest=decisions.sha256(input.rationale), conditions=len(conditions),
    )  # fmt: skip
    decisions.settle(ctx, case)
    return CaseOut.model_validate(case)


@verb("ethics:recusal:declare", evidence="ethics.recusal-declared")
def declare_recusal(ctx: Write, input: DeclareRecusal) -> CaseOut:
    """Stand aside from a case. It cannot be taken back: a vote after that would not look impartial."""
    case = ctx.find(ReviewCase, input.case, to="ethics:recusal:declare")
    refuse_borrowed(ctx)
    _refuse_closed(ctx, case)
    if ctx.actor.id not in case.roster:
        raise Refused("ethics.not-a-reviewer")
    if ctx.actor.id in decisions.recused(ctx, case.id):
        raise Refused("ethics.already-recused", case=case.id)
    ctx.add(ReviewRecusal(case=case.id, reviewer=ctx.actor.id, org=None, reason=input.reason, at=ctx.now))
    ctx.session.flush()
    ctx.record(case.id, release=case.release, digest=case.digest, reason_digest=decisions.sha256(input.reason))
    decisions.settle(ctx, case)
    return CaseOut.model_validate(case)


@verb("ethics:case:open", evidence="ethics.case-requested")
def request_case(ctx: Write, input: OpenCase) -> CaseOut:
    """Ask for another review, before the reviewers of today: after a refusal, an expiry, or when no quorum can come."""
    facts = hub.release_facts(ctx, hub.get_release.run(ctx, hub.OneRelease(release=input.release)).id)
    ctx.require("ethics:case:open", facts.org)
    if facts.state not in ("submitted", "published"):
        raise Refused("ethics.release-not-submitted", release=facts.release)
    last = decisions.latest_case(ctx, facts.release)
    if last and last.state in ("open", "approved"):
        decisions.settle(ctx, last)  # its time may just have come
    if last and last.state == "open" and _electors(ctx, last) < last.quorum:
        last.state, last.decided_at = "superseded", ctx.now
        ctx.session.flush()
    if last and last.state in ("open", "approved"):
        raise Refused("ethics.review-stands", case=last.id, state=last.state)
    case = decisions.open_case(ctx, facts)
    ctx.record(
        case.id, release=case.release, digest=case.digest, instead_of=last.id if last else None,
        reason_digest=decisions.sha256(input.reason),
    )  # fmt: skip
    return CaseOut.model_validate(case)


@verb("ethics:condition:confirm", evidence="ethics.condition-met")
def confirm_condition(ctx: Write, input: ConfirmCondition) -> CaseOut:
    """Say that a condition of an approval has been met and checked. One who belongs to the donor cannot."""
    case = ctx.find(ReviewCase, input.case, to="ethics:condition:confirm")
    refuse_borrowed(ctx)
    refuse_conflict(ctx, case.org, case.revision)
    if decisions.decision_of(ctx, case).state != "approved":
        raise Refused("ethics.not-approved", case=case.id)
    if input.number > len(case.conditions):
        raise Refused("ethics.condition-unknown", number=input.number, count=len(case.conditions))
    now = ctx.now.isoformat()
    case.conditions = [
        {**each, "met_at": each["met_at"] or now} if number == input.number else each
        for number, each in enumerate(case.conditions, start=1)
    ]
    ctx.session.flush()
    ctx.record(case.id, digest=case.digest, condition=input.number, finding_digest=decisions.sha256(input.finding))
    return CaseOut.model_validate(case)


# --- reads -----------------------------------------------------------------------------------------------------------


@read("ethics:case:list")
def list_cases(ctx: Read, input: ListCases) -> Page[CaseOut]:
    query = ctx.visible(ReviewCase, to="ethics:case:read")
    if input.release:
        query = query.where(ReviewCase.release == input.release)
    if input.state == "decided":
        query = query.where(ReviewCase.state != "open")
    elif input.state:
        query = query.where(ReviewCase.state == input.state)
    return ctx.page(query, ReviewCase.id, input, to=CaseOut)


def visible_cases(ctx: Read, keys: Collection[str]) -> dict[str, CaseOut]:
    """Of these cases, those that the reader may see."""
    query = ctx.visible(ReviewCase, to="ethics:case:read").where(ReviewCase.id.in_(keys))
    return {row.id: CaseOut.model_validate(row) for row in ctx.session.scalars(query)}


@read("ethics:case:get")
def get_case(ctx: Read, input: OneCase) -> CaseDetail:
    case = ctx.find(ReviewCase, input.case, to="ethics:case:read")
    decision = decisions.decision_of(ctx, case)
    counted = {(vote.reviewer, vote.cast_at, vote.choice) for vote in decision.counted}
    said = Verdict(BOARD, {BOARD: decision.answers}).as_json()
    votes = [
        VoteOut(
            id=row.id, voter=row.voter, choice=row.choice, rationale=row.rationale, at=row.at,
            counts=(row.voter, row.at, row.choice) in counted,
        )
        for row in decisions.votes(ctx, case.id)
    ]  # fmt: skip
    return CaseDetail(
        **CaseOut.model_validate(case).model_dump(),
        votes=votes,
        recusals=[RecusalOut.model_validate(row) for row in decisions.recusals(ctx, case.id)],
        conditions=[ConditionOut.model_validate(each) for each in _conditions_of(ctx, case, decision)],
        answers=[each.model_dump() for each in hub.worded(ctx, said)],
    )


# --- for pages: the caller has authorised -----------------------------------------------------------------------------


def awaiting(ctx: Read, cases: Sequence[CaseOut]) -> set[str]:
    """Which of these cases wait for the actor's vote."""
    mine = {case.id for case in cases if case.state == "open" and ctx.actor.id in case.roster}
    for model, person in ((ReviewVote, ReviewVote.voter), (ReviewRecusal, ReviewRecusal.reviewer)):
        mine -= set(ctx.session.scalars(select(model.case).where(model.case.in_(mine), person == ctx.actor.id)))
    return mine


def actions(ctx: Read, case: CaseDetail) -> list[tuple[str, dict[str, Any]]]:
    """The verbs that the actor may use on this case now, each with what its form is to be filled with."""
    recused = {row.reviewer for row in case.recusals}
    sits = case.state == "open" and ctx.now < case.closes_at and ctx.actor.id in set(case.roster) - recused
    found: list[tuple[str, dict[str, Any]]] = []
    if sits and ctx.actor.may("ethics:vote:cast"):
        found.append(("ethics:vote:cast", {"case": case.id, "digest": case.digest}))
    if sits and ctx.actor.may("ethics:recusal:declare"):
        found.append(("ethics:recusal:declare", {"case": case.id}))
    if case.state == "approved" and ctx.actor.may("ethics:condition:confirm"):
        unmet = [number for number, each in enumerate(case.conditions, start=1) if each.met_at is None]
        found += [("ethics:condition:confirm", {"case": case.id, "number": number}) for number in unmet]
    stuck = case.state == "open" and len(set(case.roster) - recused) < case.quorum
    if (stuck or case.state in ("refused", "expired")) and ctx.actor.may("ethics:case:open", case.org):
        found.append(("ethics:case:open", {"release": case.release}))
    return found


# --- within ----------------------------------------------------------------------------------------------------------


def refuse_borrowed(ctx: Read) -> None:
    """Whoever came in by somebody else's link: that other could be the one who acts. Raises Refused."""
    if ctx.actor.link_of is not None:
        raise Refused("ethics.own-sign-in-needed")


def refuse_conflict(ctx: Read, org: str, revision: str) -> None:
    """Someone who belongs to a party now, whatever the roster said when a case opened. Raises Refused."""
    homes = {ctx.actor.id: members.affiliations(ctx, ctx.actor.id, ctx.now)}
    if rules.conflicted(homes, decisions.parties(ctx, org, revision)):
        raise Refused("ethics.conflict-of-interest")


def _refuse_closed(ctx: Read, case: ReviewCase) -> None:
    """Decided, or out of time: from then on nothing may change what the decision rests on. Raises Refused."""
    if case.state != "open" or ctx.now >= case.closes_at:
        raise Refused("ethics.voting-closed", closed=f"{case.decided_at or case.closes_at:%Y-%m-%d %H:%M} UTC")


def _electors(ctx: Read, case: ReviewCase) -> int:
    return len(set(case.roster) - decisions.recused(ctx, case.id))


def _conditions_of(ctx: Read, case: ReviewCase, decision: Decision) -> list[dict[str, Any]]:
    asked = case.conditions if case.state != "open" else decisions.asked(decisions.votes(ctx, case.id), decision)
    return decisions.named(ctx, case, asked)
