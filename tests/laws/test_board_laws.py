"""Laws of the ethics review: what holds for every set of votes and every set of figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gongqi.governance.ethics import rules
from gongqi.governance.ethics.rules import Condition, Decision, Vote
from gongqi.kernel.gates import Citation

OPENED = datetime(2026, 3, 2, tzinfo=UTC)
REVIEWERS = ("r1", "r2", "r3", "r4")
CITE = Citation("policy", "board", "policy", "2026-01-01")
POLICY = rules.parse_policy((Path(rules.__file__).parent / "data" / "thresholds.yaml").read_text("utf-8"))


def at(hours: int) -> datetime:
    return OPENED + timedelta(hours=hours)


# Few values, so that the same person, the same instant and the limits of the period come up often.
votes = st.builds(
    Vote,
    reviewer=st.sampled_from((*REVIEWERS, "stranger")),
    choice=st.sampled_from(("approve", "refuse", "abstain")),
    digest=st.sampled_from(("rev-1", "rev-1", "rev-1", "rev-2")),
    cast_at=st.integers(-1, 12).map(at),
)
boxes = st.lists(votes, max_size=12)
condition = st.builds(
    Condition,
    text=st.just("Publish the card."),
    owner=st.just("hospital"),
    due_at=st.integers(5, 60).map(at),
    met_at=st.none() | st.integers(0, 60).map(at),
)
cases = st.fixed_dictionaries(
    {
        "roster": st.frozensets(st.sampled_from(REVIEWERS)),
        "recused": st.frozensets(st.sampled_from(REVIEWERS), max_size=2),
        "quorum": st.integers(1, 4),
        "closes_at": st.integers(1, 12).map(at),
        "now": st.integers(-1, 60).map(at),
        "conditions": st.lists(condition, max_size=2),
        "validity_days": st.integers(1, 2),
    }
)


def decide(box: list[Vote], case: dict[str, Any]) -> Decision:
    return rules.decide(box, digest="rev-1", opened_at=OPENED, cite=CITE, **case)


@given(boxes, cases, st.randoms(use_true_random=False))
def test_the_order_in_which_votes_arrive_does_not_matter(box: list[Vote], case: dict, shuffled: Any) -> None:
    other = box.copy()
    shuffled.shuffle(other)
    assert decide(other, case) == decide(box, case)


@given(boxes, cases)
def test_only_the_last_vote_of_a_person_matters(box: list[Vote], case: dict) -> None:
    decision = decide(box, case)
    assert decide(list(decision.counted), case) == decision
    assert len({vote.reviewer for vote in decision.counted}) == len(decision.counted)


@given(boxes, cases)
def test_votes_of_the_recused_and_of_strangers_never_count(box: list[Vote], case: dict) -> None:
    electors = case["roster"] - case["recused"]
    assert decide([vote for vote in box if vote.reviewer in electors], case) == decide(box, case)


@given(boxes, cases)
def test_an_approval_of_another_digest_never_counts(box: list[Vote], case: dict) -> None:
    assert decide([vote for vote in box if vote.digest == "rev-1"], case) == decide(box, case)


@given(boxes, cases)
def test_a_vote_at_or_after_closing_never_counts(box: list[Vote], case: dict) -> None:
    assert decide([vote for vote in box if vote.cast_at < case["closes_at"]], case) == decide(box, case)


@given(boxes, votes, cases)
def test_one_more_approval_never_turns_approved_into_refused(box: list[Vote], more: Vote, case: dict) -> None:
    if decide(box, case).state == "approved":
        assert decide([*box, replace(more, choice="approve")], case).state in ("approved", "expired")


@given(boxes, votes, cases)
def test_one_more_refusal_never_turns_refused_into_approved_once_the_quorum_is_met(
    box: list[Vote], more: Vote, case: dict
) -> None:
    before = decide(box, case)
    if before.state == "refused" and len(before.counted) >= case["quorum"]:
        assert decide([*box, replace(more, choice="refuse")], case).state == "refused"


@given(boxes, cases)
def test_nothing_is_approved_without_its_quorum_and_a_majority(box: list[Vote], case: dict) -> None:
    decision = decide(box, case)
    choices = [vote.choice for vote in decision.counted]
    if decision.state in ("approved", "expired"):
        assert len(choices) >= case["quorum"] and choices.count("approve") > choices.count("refuse")


@given(boxes, cases, st.integers(0, 100))
def test_what_is_refused_or_expired_stays_so_when_time_passes(box: list[Vote], case: dict, hours: int) -> None:
    case = {**case, "now": max(case["now"], case["closes_at"])}
    before = decide(box, case)
    after = decide(box, {**case, "now": case["now"] + timedelta(hours=hours)})
    if before.state in ("refused", "expired"):
        assert after.state == before.state


@given(boxes, cases)
def test_only_an_approval_lets_a_release_pass(box: list[Vote], case: dict) -> None:
    decision = decide(box, case)
    passes = not any(answer.decision == "deny" for answer in decision.answers)
    assert passes == (decision.state == "approved")
    assert decision.answers


figures = st.dictionaries(
    st.sampled_from(sorted({row.metric for row in POLICY.thresholds})),
    st.none() | st.floats(0, 1) | st.integers(0, 500).map(float),
)
WEIGHT = {"allow": 0, "require": 1, "deny": 2}


@given(figures, st.data())
def test_leaving_a_figure_out_never_helps(metrics: dict[str, float | None], data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.sampled_from(sorted(metrics))) if metrics else st.just(set()))
    fewer = rules.gate_verdict({name: metrics[name] for name in kept}, POLICY.thresholds)
    for with_all, without in zip(rules.gate_verdict(metrics, POLICY.thresholds), fewer, strict=True):
        assert WEIGHT[without.decision] >= WEIGHT[with_all.decision]


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_a_probability_and_takes_no_side(gained: int, lost: int) -> None:
    assert 0 < rules.mcnemar(gained, lost) == rules.mcnemar(lost, gained) <= 1
