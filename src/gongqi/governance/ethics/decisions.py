"""Cases and their decisions: rules.decide over what stands in the tables.

This module brings the facts and writes down the first decision that is not open; it decides nothing itself. The roster
is frozen when a case opens: whoever is named later sits on the next case. Reviewers who belong to the donor, or to an
organisation whose work the release rests on, are recused at once, by name and with the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from gongqi.governance.ethics import rules
from gongqi.governance.ethics.events import ReviewDecided
from gongqi.governance.ethics.models import ReviewCase, ReviewRecusal, ReviewVote
from gongqi.governance.ethics.rules import Condition, Decision, Policy, Vote
from gongqi.kernel.verbs import Read, Write
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.events import ReleaseSubmitted

REVIEWER = "reviewer"


@cache
def policy() -> Policy:
    """The foundation's ethics policy, read once. Raises ValueError naming the row that is wrong."""
    return rules.parse_policy(Path(__file__).with_name("data").joinpath("thresholds.yaml").read_text("utf-8"))


def on_submitted(ctx: Write, event: ReleaseSubmitted) -> None:
    """Open the case of a submitted release; the second delivery finds it open."""
    if latest_case(ctx, event.release) is None:
        open_case(ctx, hub.release_facts(ctx, event.release))


def open_case(ctx: Write, facts: hub.ReleaseFacts) -> ReviewCase:
    """A new case with the reviewers of this moment; starts the flow that closes it."""
    board, last = policy().board, latest_case(ctx, facts.release)
    roster = sorted(members.holders(ctx, REVIEWER))
    concerned = parties(ctx, facts.org, facts.revision)
    homes = {reviewer: members.affiliations(ctx, reviewer, ctx.now) for reviewer in roster}
    aside = sorted(rules.conflicted(homes, concerned))
    case = ctx.add(
        ReviewCase(
            id=ctx.new_id("case"), release=facts.release, number=last.number + 1 if last else 1, name=facts.name,
            asset=facts.asset, org=facts.org, revision=facts.revision, digest=facts.digest, roster=roster,
            quorum=board.quorum, validity_days=board.validity_days, opened_at=ctx.now,
            closes_at=ctx.now + timedelta(days=board.voting_days), state="open", conditions=[],
        )
    )  # fmt: skip
    ctx.session.flush()
    for reviewer in aside:
        org = facts.org if facts.org in homes[reviewer] else min(homes[reviewer] & concerned)
        ctx.add(ReviewRecusal(case=case.id, reviewer=reviewer, org=org, reason="", at=ctx.now))
    ctx.session.flush()
    ctx.record(
        case.id, kind="ethics.case-opened", release=case.release, digest=case.digest, roster=roster, recused=aside,
        quorum=case.quorum, closes_at=case.closes_at.isoformat(),
    )  # fmt: skip
    ctx.start_flow("ethics.review", key=case.id, case=case.id)
    return case


def parties(ctx: Read, org: str, revision: str) -> frozenset[str]:
    """The organisations with an interest in a release: whose it is, and whose work it rests on.

    Not who lent the yardstick it is measured with: they are paid nothing for it.
    """
    return frozenset({org} | {source.org for source in hub.sources(ctx, revision) if source.is_learned_from})


def latest_case(ctx: Read, release: str) -> ReviewCase | None:
    """The case that counts for a release."""
    query = select(ReviewCase).where(ReviewCase.release == release)
    return ctx.session.scalar(query.order_by(ReviewCase.number.desc()).limit(1))


def open_cases(ctx: Read) -> int:
    """How many releases await the board: a number of the home page, and nothing but a number."""
    query = select(func.count()).select_from(ReviewCase).where(ReviewCase.state == "open")
    return ctx.session.scalar(query) or 0


def decision_of(ctx: Read, case: ReviewCase) -> Decision:
    """What the board has decided as of now; an approval's conditions are those of the approving votes that count."""
    cast = votes(ctx, case.id)
    now = max([ctx.now, case.decided_at or ctx.now, *(row.at for row in cast)])  # though a clock was set back since

    def decide(conditions: Sequence[dict[str, Any]]) -> Decision:
        return rules.decide(
            [Vote(row.voter, row.choice, row.digest, row.at, row.rationale) for row in cast],  # type: ignore[arg-type]
            digest=case.digest, roster=case.roster, recused=recused(ctx, case.id), quorum=case.quorum,
            opened_at=case.opened_at, closes_at=case.closes_at, now=now,
            conditions=[Condition(**each) for each in conditions],
            validity_days=case.validity_days, cite=policy().board.cite,
        )  # fmt: skip

    if case.state != "open":
        return decide(named(ctx, case, case.conditions))
    return decide(named(ctx, case, asked(cast, decide(()))))


def settle(ctx: Write, case: ReviewCase) -> None:
    """Write down the first decision that is not open, and later that an approval has come to its end."""
    decision = decision_of(ctx, case)
    if case.state == "open" and decision.state != "open":
        facts: dict[str, Any] = {c: sum(vote.choice == c for vote in decision.counted) for c in rules.CAUTION}
        case.conditions = asked(votes(ctx, case.id), decision) if decision.expires_at else []
        case.state, case.decided_at, case.expires_at = decision.state, decision.decided_at, decision.expires_at
        case.evidence = ctx.record(
            case.id, kind="ethics.review-decided", release=case.release, digest=case.digest, state=case.state,
            quorum=case.quorum, conditions=len(case.conditions), **facts,
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


# --- parts of a case --------------------------------------------------------------------------------------------------


def asked(votes: list[ReviewVote], decision: Decision) -> list[dict[str, Any]]:
    """The conditions of the approving votes that count, in the order of the votes."""
    approving = {(vote.reviewer, vote.cast_at) for vote in decision.counted if vote.choice == "approve"}
    rows = [row for row in votes if row.choice == "approve" and (row.voter, row.at) in approving]
    return [{**each, "met_at": None} for row in rows for each in row.conditions]


def named(ctx: Read, case: ReviewCase, conditions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
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


def votes(ctx: Read, case: str) -> list[ReviewVote]:
    query = select(ReviewVote).where(ReviewVote.case == case)
    return list(ctx.session.scalars(query.order_by(ReviewVote.at, ReviewVote.id)))


def recusals(ctx: Read, case: str) -> list[ReviewRecusal]:
    query = select(ReviewRecusal).where(ReviewRecusal.case == case)
    return list(ctx.session.scalars(query.order_by(ReviewRecusal.at, ReviewRecusal.reviewer)))


def recused(ctx: Read, case: str) -> frozenset[str]:
    return frozenset(row.reviewer for row in recusals(ctx, case))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
