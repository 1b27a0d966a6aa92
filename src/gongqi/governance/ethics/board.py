"""The review board at work: a case for each submitted release, votes, recusals, the decision and its conditions.

Every decision is rules.decide over what stands in the tables; this module only brings the facts and writes down the
first decision that is not open. The roster is frozen when the case opens: whoever is named later sits on the next case.
Reviewers who belong to the donor, or to an organisation whose work the release rests on, are recused at once, by name
and with the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import func, select

from gongqi.governance.ethics import rules
from gongqi.governance.ethics.events import ReviewDecided
from gongqi.governance.ethics.models import ReviewCase, ReviewRecusal, ReviewVote
from gongqi.governance.ethics.rules import Condition, Decision, Policy, Vote
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Verdict
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.events import ReleaseSubmitted

ID = 64  # characters; ours have 30
RATIONALE = 8000  # two pages: a reason, not a treatise
REASON = 2000
CONDITIONS = 20  # of one vote; more is a refusal
DUE_DAYS = 90  # unless the voter says otherwise
DUE_DAYS_LIMIT = 365  # an approval does not last longer
REVIEWER = "reviewer"
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
    release: str | None = Field(None, max_length=ID)
    state: Literal["open", "approved", "refused", "expired", "superseded"] | None = None


class CaseOut(Output):
    id: str
    release: str
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


@cache
def policy() -> Policy:
    """The foundation's ethics policy, read once. Raises ValueError naming the row that is wrong."""
    return rules.parse_policy(Path(__file__).with_name("data").joinpath("thresholds.yaml").read_text("utf-8"))


# --- verbs -----------------------------------------------------------------------------------------------------------


@verb("ethics:vote:cast", evidence="ethics.vote-cast")
def cast_vote(ctx: Write, input: CastVote) -> CaseOut:
    """Vote on a release. A later vote replaces an earlier one until the board has decided."""
    case = ctx.find(ReviewCase, input.case, to="ethics:vote:cast")
    _refuse_conflict(ctx, case)
    _refuse_closed(case)
    rules.admit_vote(
        ctx.actor.id, voted_digest=input.digest or case.digest, digest=case.digest, roster=case.roster,
        recused=_recused(ctx, case.id), opened_at=case.opened_at, closes_at=case.closes_at, now=ctx.now,
    )  # fmt: skip
    if input.conditions and input.choice != "approve":
        raise Refused("ethics.condition-without-approval", choice=input.choice)
    due_at = ctx.now + timedelta(days=input.due_days)
    for text in input.conditions:
        rules.check_condition(Condition(text, case.org, due_at), now=ctx.now)
    conditions = [{"text": text.strip(), "due_at": due_at.isoformat()} for text in input.conditions]
    ctx.add(
        ReviewVote(
            id=ctx.new_id("vote"), case=case.id, voter=ctx.actor.id, choice=input.choice, digest=case.digest,
            rationale=input.rationale, conditions=conditions, at=ctx.now,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(
        case.id, release=case.release, digest=case.digest, choice=input.choice,
        rationale_digest=_sha256(input.rationale), conditions=len(conditions),
    )  # fmt: skip
    settle(ctx, case)
    return CaseOut.model_validate(case)


@verb("ethics:recusal:declare", evidence="ethics.recusal-declared")
def declare_recusal(ctx: Write, input: DeclareRecusal) -> CaseOut:
    """Stand aside from a case. It cannot be taken back: a vote after that would not look impartial."""
    case = ctx.find(ReviewCase, input.case, to="ethics:recusal:declare")
    _refuse_closed(case)
    if ctx.actor.id not in case.roster:
        raise Refused("ethics.not-a-reviewer")
    if ctx.actor.id in _recused(ctx, case.id):
        raise Refused("ethics.already-recused", case=case.id)
    ctx.add(ReviewRecusal(case=case.id, reviewer=ctx.actor.id, org=None, reason=input.reason, at=ctx.now))
    ctx.session.flush()
    ctx.record(case.id, release=case.release, digest=case.digest, reason_digest=_sha256(input.reason))
    settle(ctx, case)
    return CaseOut.model_validate(case)


@verb("ethics:case:open", evidence="ethics.case-requested")
def request_case(ctx: Write, input: OpenCase) -> CaseOut:
    """Ask for another review, before the reviewers of today: after a refusal, an expiry, or when no quorum can come."""
    facts = hub.release_facts(ctx, hub.get_release.run(ctx, hub.OneRelease(release=input.release)).id)
    ctx.require("ethics:case:open", facts.org)
    if facts.state not in ("submitted", "published"):
        raise Refused("ethics.release-not-submitted", release=facts.release)
    last = latest_case(ctx, facts.release)
    if last and last.state in ("open", "approved"):
        settle(ctx, last)  # its time may just have come
    if last and last.state == "open" and _electors(ctx, last) < last.quorum:
        last.state, last.decided_at = "superseded", ctx.now
        ctx.session.flush()
    if last and last.state in ("open", "approved"):
        raise Refused("ethics.review-stands", case=last.id, state=last.state)
    case = open_case(ctx, facts)
    ctx.record(case.id, release=case.release, digest=case.digest, reason_digest=_sha256(input.reason))
    return CaseOut.model_validate(case)


@verb("ethics:condition:confirm", evidence="ethics.condition-met")
def confirm_condition(ctx: Write, input: ConfirmCondition) -> CaseOut:
    """Say that a condition of an approval has been met and checked. One who belongs to the donor cannot."""
    case = ctx.find(ReviewCase, input.case, to="ethics:condition:confirm")
    _refuse_conflict(ctx, case)
    if decision_of(ctx, case).state != "approved":
        raise Refused("ethics.not-approved", case=case.id)
    if input.number > len(case.conditions):
        raise Refused("ethics.condition-unknown", number=input.number, count=len(case.conditions))
    now = ctx.now.isoformat()
    case.conditions = [
        {**each, "met_at": each["met_at"] or now} if number == input.number else each
        for number, each in enumerate(case.conditions, start=1)
    ]
    ctx.session.flush()
    ctx.record(case.id, digest=case.digest, condition=input.number, finding_digest=_sha256(input.finding))
    return CaseOut.model_validate(case)


# --- reads -----------------------------------------------------------------------------------------------------------


@read("ethics:case:list")
def list_cases(ctx: Read, input: ListCases) -> Page[CaseOut]:
    query = ctx.visible(ReviewCase, to="ethics:case:read")
    if input.release:
        query = query.where(ReviewCase.release == input.release)
    if input.state:
        query = query.where(ReviewCase.state == input.state)
    return ctx.page(query, ReviewCase.id, input, to=CaseOut)


@read("ethics:case:get")
def get_case(ctx: Read, input: OneCase) -> CaseDetail:
    case = ctx.find(ReviewCase, input.case, to="ethics:case:read")
    decision = decision_of(ctx, case)
    counted = {(vote.reviewer, vote.cast_at, vote.choice) for vote in decision.counted}
    said = Verdict(BOARD, {BOARD: decision.answers}).as_json()
    votes = [
        VoteOut(
            id=row.id, voter=row.voter, choice=row.choice, rationale=row.rationale, at=row.at,
            counts=(row.voter, row.at, row.choice) in counted,
        )
        for row in _votes(ctx, case.id)
    ]  # fmt: skip
    return CaseDetail(
        **CaseOut.model_validate(case).model_dump(),
        votes=votes,
        recusals=[RecusalOut.model_validate(row) for row in _recusals(ctx, case.id)],
        conditions=[ConditionOut.model_validate(each) for each in _conditions_of(ctx, case, decision)],
        answers=[each.model_dump() for each in hub.worded(ctx, said)],
    )


# --- for handlers, flows, gates and pages: the caller has authorised -------------------------------------------------


def on_submitted(ctx: Write, event: ReleaseSubmitted) -> None:
    """Open the case of a submitted release; the second delivery finds it open."""
    if latest_case(ctx, event.release) is None:
        open_case(ctx, hub.release_facts(ctx, event.release))


def open_case(ctx: Write, facts: hub.ReleaseFacts) -> ReviewCase:
    """A new case with the reviewers of this moment; starts the flow that closes it."""
    board = policy().board
    roster = sorted(members.holders(ctx, REVIEWER))
    parties = {facts.org} | {source.org for source in hub.sources(ctx, facts.revision)}
    homes = {reviewer: members.affiliations(ctx, reviewer, ctx.now) for reviewer in roster}
    recused = sorted(rules.conflicted(homes, parties))
    case = ctx.add(
        ReviewCase(
            id=ctx.new_id("case"), release=facts.release, asset=facts.asset, org=facts.org, revision=facts.revision,
            digest=facts.digest, roster=roster, quorum=board.quorum, validity_days=board.validity_days,
            opened_at=ctx.now, closes_at=ctx.now + timedelta(days=board.voting_days), state="open", conditions=[],
        )
    )  # fmt: skip
    ctx.session.flush()
    for reviewer in recused:
        org = facts.org if facts.org in homes[reviewer] else min(homes[reviewer] & parties)
        ctx.add(ReviewRecusal(case=case.id, reviewer=reviewer, org=org, reason="", at=ctx.now))
    ctx.session.flush()
    ctx.record(
        case.id, kind="ethics.case-opened", release=case.release, digest=case.digest, roster=roster, recused=recused,
        quorum=case.quorum, closes_at=case.closes_at.isoformat(),
    )  # fmt: skip
    ctx.start_flow("ethics.review", key=case.id, case=case.id)
    return case


def latest_case(ctx: Read, release: str) -> ReviewCase | None:
    """The case that counts for a release."""
    query = select(ReviewCase).where(ReviewCase.release == release)
    return ctx.session.scalar(query.order_by(ReviewCase.opened_at.desc(), ReviewCase.id.desc()).limit(1))


def open_cases(ctx: Read) -> int:
    """How many releases await the board: a number of the home page, and nothing but a number."""
    query = select(func.count()).select_from(ReviewCase).where(ReviewCase.state == "open")
    return ctx.session.scalar(query) or 0


def decision_of(ctx: Read, case: ReviewCase) -> Decision:
    """What the board has decided as of now; an approval's conditions are those of the approving votes that count."""
    votes = _votes(ctx, case.id)

    def decide(conditions: Sequence[dict[str, Any]]) -> Decision:
        return rules.decide(
            [Vote(row.voter, row.choice, row.digest, row.at, row.rationale) for row in votes],  # type: ignore[arg-type]
            digest=case.digest, roster=case.roster, recused=_recused(ctx, case.id), quorum=case.quorum,
            opened_at=case.opened_at, closes_at=case.closes_at, now=ctx.now,
            conditions=[Condition(**each) for each in conditions],
            validity_days=case.validity_days, cite=policy().board.cite,
        )  # fmt: skip

    if case.state != "open":
        return decide(_named(ctx, case, case.conditions))
    return decide(_named(ctx, case, _asked(votes, decide(()))))


def settle(ctx: Write, case: ReviewCase) -> None:
    """Write down the first decision that is not open, and later that an approval has come to its end."""
    decision = decision_of(ctx, case)
    if case.state == "open" and decision.state != "open":
        tally = {choice: sum(vote.choice == choice for vote in decision.counted) for choice in rules.CAUTION}
        case.conditions = _asked(_votes(ctx, case.id), decision) if decision.expires_at else []
        case.state, case.decided_at, case.expires_at = decision.state, decision.decided_at, decision.expires_at
        case.evidence = ctx.record(
            case.id, kind="ethics.review-decided", release=case.release, digest=case.digest, state=case.state, **tally,
            quorum=case.quorum, conditions=len(case.conditions),
        )  # fmt: skip
        ctx.session.flush()
        ctx.emit(ReviewDecided(case.id, case.release, case.digest, case.org, case.state))
    elif case.state == "approved" and decision.state == "expired":
        case.state = "expired"
        ctx.session.flush()
        ctx.record(case.id, kind="ethics.approval-expired", release=case.release, digest=case.digest)


def settle_at_its_time(ctx: Write, key: str) -> tuple[str, str] | None:
    """For the flow: settle a case, and say its state and when time alone may next change it; None when never."""
    case = ctx.session.get(ReviewCase, key)
    assert case is not None, "cases are never deleted"
    if case.state in ("open", "approved"):
        settle(ctx, case)
    if case.state == "open":
        return case.state, case.closes_at.isoformat()
    if case.state != "approved" or case.expires_at is None:
        return None
    dues = [each["due_at"] for each in case.conditions if each["met_at"] is None]
    return case.state, min([case.expires_at, *map(datetime.fromisoformat, dues)]).isoformat()


# --- within ----------------------------------------------------------------------------------------------------------


def _refuse_conflict(ctx: Read, case: ReviewCase) -> None:
    """Someone who belongs to a party now, whatever the roster said when the case opened. Raises Refused."""
    parties = {case.org} | {source.org for source in hub.sources(ctx, case.revision)}
    if rules.conflicted({ctx.actor.id: members.affiliations(ctx, ctx.actor.id, ctx.now)}, parties):
        raise Refused("ethics.conflict-of-interest")


def _refuse_closed(case: ReviewCase) -> None:
    if case.state != "open":
        raise Refused("ethics.voting-closed", closed=f"{case.decided_at:%Y-%m-%d %H:%M} UTC")


def _electors(ctx: Read, case: ReviewCase) -> int:
    return len(set(case.roster) - _recused(ctx, case.id))


def _asked(votes: list[ReviewVote], decision: Decision) -> list[dict[str, Any]]:
    """The conditions of the approving votes that count, in the order of the votes."""
    approving = {(vote.reviewer, vote.cast_at) for vote in decision.counted if vote.choice == "approve"}
    rows = [row for row in votes if row.choice == "approve" and (row.voter, row.at) in approving]
    return [{**each, "met_at": None} for row in rows for each in row.conditions]


def _named(ctx: Read, case: ReviewCase, conditions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Conditions as rules.Condition takes them; whoever submitted the release has to meet them."""
    if not conditions:
        return []
    owner = members.names(ctx, [case.org])[case.org]
    return [
        {
            "text": each["text"], "owner": owner, "due_at": datetime.fromisoformat(each["due_at"]),
            "met_at": datetime.fromisoformat(each["met_at"]) if each["met_at"] else None,
        }
        for each in conditions
    ]  # fmt: skip


def _conditions_of(ctx: Read, case: ReviewCase, decision: Decision) -> list[dict[str, Any]]:
    asked = case.conditions if case.state != "open" else _asked(_votes(ctx, case.id), decision)
    return _named(ctx, case, asked)


def _votes(ctx: Read, case: str) -> list[ReviewVote]:
    query = select(ReviewVote).where(ReviewVote.case == case)
    return list(ctx.session.scalars(query.order_by(ReviewVote.at, ReviewVote.id)))


def _recusals(ctx: Read, case: str) -> list[ReviewRecusal]:
    query = select(ReviewRecusal).where(ReviewRecusal.case == case)
    return list(ctx.session.scalars(query.order_by(ReviewRecusal.at, ReviewRecusal.reviewer)))


def _recused(ctx: Read, case: str) -> frozenset[str]:
    return frozenset(row.reviewer for row in _recusals(ctx, case))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
