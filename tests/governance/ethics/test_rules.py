"""The ethics policy and the board, case by case; the laws are in tests/laws/test_board_laws.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gongqi.governance.ethics import rules
from gongqi.governance.ethics.rules import Condition, Decision, Vote
from gongqi.governance.ethics.tasks import TASKS
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Citation
from gongqi.kernel.words import Words

ROOM = Path(rules.__file__).parent
POLICY_TEXT = (ROOM / "data" / "thresholds.yaml").read_text("utf-8")
POLICY = rules.parse_policy(POLICY_TEXT)
GOOD = {
    "records": 171,
    "balanced_accuracy": 0.96,
    "roc_auc": 0.99,
    "brier": 0.03,
    "expected_calibration_error": 0.04,
    "false_negative_rate": 0.06,
    "accuracy_gap": 0.04,
    "chance_corrected_accuracy": 0.8,
}

OPENED = datetime(2026, 3, 2, 9, tzinfo=UTC)
CLOSES = OPENED + timedelta(days=14)
CITE = Citation("policy", "board", "policy", "2026-01-01")


@pytest.fixture(scope="module")
def words() -> Words:
    loaded = Words()
    loaded.load(ROOM / "words.toml")
    return loaded


# ---- figures


def verdict(**changes: float | None) -> dict[str, tuple[str, dict]]:
    answers = rules.gate_verdict({**GOOD, **changes}, POLICY.asked("classification"))
    return {answer.cites[0].article: (answer.decision, dict(answer.params)) for answer in answers}


def test_good_figures_pass_every_row() -> None:
    assert {decision for decision, _ in verdict().values()} == {"allow"}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_asked_for_records_and_gaps_and_for_being_right(task: str) -> None:
    asked = {row.metric for row in POLICY.asked(task)}
    assert {"records", "accuracy_gap"} <= asked
    assert asked & {"balanced_accuracy", "chance_corrected_accuracy"}, "a floor of its own"


def test_a_task_is_not_asked_for_figures_that_it_cannot_have() -> None:
    assert "roc_auc" not in {row.metric for row in POLICY.asked("retrieval")}
    assert POLICY.asked("something else") == ()


def test_a_figure_at_its_bound_is_met() -> None:
    assert verdict(brier=0.1)["5"] == ("allow", {"value": "0.1", "limit": "0.1"})
    assert verdict(records=100)["2"] == ("allow", {"value": "100", "limit": "100"})


def test_a_figure_beyond_its_bound_stops_the_release() -> None:
    assert verdict(brier=0.1001)["5"] == ("deny", {"value": "0.1001", "limit": "0.1"})
    assert verdict(roc_auc=0.8999)["4"][0] == "deny"


def test_a_gap_that_is_tolerable_leaves_a_duty() -> None:
    answers = verdict(accuracy_gap=0.0526)
    assert (answers["8"][0], answers["9"][0]) == ("allow", "require")


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_an_unknown_figure_counts_as_missed(missing: float | None) -> None:
    assert verdict(accuracy_gap=missing)["8"] == ("deny", {"metric": "accuracy_gap", "limit": "0.15"})
    assert verdict(accuracy_gap=missing)["9"][0] == "require"


def test_every_answer_cites_the_foundations_policy_and_its_date() -> None:
    for answer in rules.gate_verdict(GOOD, POLICY.thresholds, evidence="sha256:ab"):
        (cite,) = answer.cites
        assert (cite.authority, cite.date, answer.evidence) == ("policy", "2026-11-23", "sha256:ab")


def test_every_reason_of_a_threshold_has_words_and_fills_them(words: Words) -> None:
    for metrics in (GOOD, {}, dict.fromkeys(GOOD, 0.0), dict.fromkeys(GOOD, 1.0)):
        for answer in rules.gate_verdict(metrics, POLICY.thresholds):
            for language in ("zh", "en"):
                assert words.has(answer.reason), answer.reason
                assert "{" not in words.text(answer.reason, language, **answer.params)


def test_every_metric_and_note_has_words(words: Words) -> None:
    compared = rules._HIGHER_IS_BETTER + rules._LOWER_IS_BETTER
    for metric in {row.metric for row in POLICY.thresholds} | set(compared):
        assert words.has(f"ethics.metric.{metric}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("otherwise: require", "otherwise: allow"),
        ("at_least: 100", "at_least: 100, at_most: 200"),
        ("at_least: 100,", ""),
        ("at_least: 100", "atleast: 100"),
        ("id: brier", "id: calibration"),
        ("tasks: [classification]", "tasks: [divination]"),
        ("tasks: [classification]", "tasks: []"),
        ("quorum: 2", "quorum: 0"),
    ],
)
def test_a_policy_with_a_wrong_row_is_refused_at_start(old: str, new: str) -> None:
    assert old in POLICY_TEXT
    with pytest.raises(ValueError, match="ethics policy"):
        rules.parse_policy(POLICY_TEXT.replace(old, new, 1))


# ---- comparison


def evaluation(hits: str, **metrics: float | None) -> dict[str, Any]:
    bits = f"{int(hits, 2):02x}"
    return {"schema": "1", "data_sha256": "d", "target": "y", "records": 8, "metrics": metrics, "hits": bits}


def test_a_comparison_says_what_got_better_and_what_worse() -> None:
    before = evaluation("11110000", accuracy=0.5, brier=0.2, roc_auc=0.9, accuracy_gap=None)
    after = evaluation("01111111", accuracy=0.75, brier=0.3, roc_auc=0.9, accuracy_gap=0.1)
    result = rules.compare(before, after)
    better = {change.metric: change.is_better for change in result.changes}
    assert (better["accuracy"], better["brier"], better["roc_auc"], better["accuracy_gap"]) == (True, False, None, None)
    assert (result.gained, result.lost, result.p_value) == (4, 1, 0.375)


def test_mcnemar_is_the_binomial_test_of_a_fair_coin() -> None:
    assert [rules.mcnemar(*pair) for pair in ((0, 0), (3, 0), (0, 6), (5, 5))] == [1.0, 0.25, 0.03125, 1.0]


def test_evaluations_on_different_data_are_not_compared() -> None:
    before = evaluation("1", accuracy=1.0)
    with pytest.raises(Refused, match=r"ethics\.evaluations-not-comparable"):
        rules.compare(before, {**before, "data_sha256": "other"})


# ---- board


def vote(reviewer: str, choice: str, *, day: int = 1, digest: str = "rev-1") -> Vote:
    return Vote(reviewer, choice, digest, OPENED + timedelta(days=day))  # type: ignore[arg-type]


def decide(*votes: Vote, day: float = 14, **changes: Any) -> Decision:
    case: dict[str, Any] = {
        "digest": "rev-1",
        "roster": ("r1", "r2", "r3"),
        "recused": (),
        "quorum": 2,
        "opened_at": OPENED,
        "closes_at": CLOSES,
        "now": OPENED + timedelta(days=day),
        "validity_days": 365,
        "cite": CITE,
    }
    return rules.decide(votes, **{**case, **changes})


def reasons(decision: Decision) -> list[str]:
    return [answer.reason.removeprefix("ethics.board.") for answer in decision.answers]


def test_a_review_is_open_until_voting_closes() -> None:
    votes = (vote("r1", "approve"), vote("r2", "approve"))
    assert decide(*votes, day=13).state == "open"
    assert decide(*votes, day=13).answers[0].decision == "deny"
    assert decide(*votes, day=14).state == "approved"


def test_a_review_is_decided_as_soon_as_everybody_has_voted() -> None:
    result = decide(vote("r1", "approve", day=1), vote("r2", "approve", day=2), vote("r3", "refuse", day=3), day=3)
    assert (result.state, result.decided_at) == ("approved", OPENED + timedelta(days=3))
    assert [each.reviewer for each in result.counted] == ["r1", "r2", "r3"]


def test_a_member_cannot_vote_twice() -> None:
    result = decide(vote("r1", "approve", day=1), vote("r1", "approve", day=2))
    assert (result.state, reasons(result)) == ("refused", ["quorum-missing"])


def test_the_last_vote_before_closing_counts() -> None:
    changed = (vote("r1", "approve", day=1), vote("r1", "refuse", day=5), vote("r2", "refuse"))
    assert decide(*changed).state == "refused"
    assert decide(*changed, vote("r1", "approve", day=15), vote("r2", "approve", day=15), day=16).state == "refused"


def test_of_two_votes_at_one_instant_the_cautious_one_counts() -> None:
    votes = (vote("r1", "refuse"), vote("r1", "approve"), vote("r2", "approve"))
    assert reasons(decide(*votes)) == reasons(decide(*reversed(votes))) == ["tie"]


def test_a_tie_refuses() -> None:
    result = decide(vote("r1", "approve"), vote("r2", "refuse"))
    assert (result.state, reasons(result)) == ("refused", ["tie"])


def test_a_majority_against_refuses() -> None:
    assert reasons(decide(vote("r1", "refuse"), vote("r2", "refuse"))) == ["refused"]


def test_an_abstention_counts_for_the_quorum_and_for_no_side() -> None:
    assert decide(vote("r1", "approve"), vote("r2", "abstain")).state == "approved"
    assert decide(vote("r1", "abstain"), vote("r2", "abstain")).state == "refused"


def test_the_quorum_is_counted_after_recusals() -> None:
    votes = (vote("r1", "approve"), vote("r2", "approve"))
    assert reasons(decide(*votes, recused=("r2",))) == ["quorum-missing"]


def test_a_board_too_small_for_its_quorum_says_so_while_there_is_time() -> None:
    result = decide(vote("r1", "approve"), recused=("r2", "r3"), day=2)
    assert (result.state, reasons(result)) == ("open", ["open", "quorum-unreachable"])


def test_an_approval_of_another_revision_never_counts() -> None:
    result = decide(vote("r1", "approve", digest="rev-0"), vote("r2", "approve", digest="rev-0"))
    assert result.counted == () and result.state == "refused"


def test_a_vote_from_before_the_opening_does_not_count() -> None:
    assert decide(vote("r1", "approve", day=-1), vote("r2", "approve", day=-1)).counted == ()


def test_a_vote_from_the_future_does_not_count_when_the_clock_jumps_back() -> None:
    votes = (vote("r1", "approve", day=2), vote("r2", "approve", day=2), vote("r3", "approve", day=9))
    assert decide(*votes, day=3).state == "open"


def test_an_approval_expires() -> None:
    votes = (vote("r1", "approve"), vote("r2", "approve"))
    assert decide(*votes, day=14 + 364).state == "approved"
    assert reasons(decide(*votes, day=14 + 365)) == ["expired"]


def test_conditions_attach_to_an_approval_as_duties() -> None:
    due = CLOSES + timedelta(days=30)
    asked = Condition("Name the weaker subgroup on the card.", "laboratory", due)
    votes = (vote("r1", "approve"), vote("r2", "approve"))
    result = decide(*votes, conditions=(asked,))
    assert [(a.decision, a.reason) for a in result.answers] == [
        ("allow", "ethics.board.approved"),
        ("require", "ethics.board.condition"),
    ]
    assert reasons(decide(*votes, conditions=(replace(asked, met_at=CLOSES),))) == ["approved"]
    refused = (vote("r1", "refuse"), vote("r2", "refuse"))
    assert reasons(decide(*refused, conditions=(asked,))) == ["refused"]


def test_an_overdue_condition_ends_the_approval_for_good() -> None:
    due = CLOSES + timedelta(days=30)
    votes = (vote("r1", "approve"), vote("r2", "approve"))
    unmet = Condition("Publish the data card.", "hospital", due)
    for condition in (unmet, replace(unmet, met_at=due + timedelta(days=1))):
        result = decide(*votes, day=44, conditions=(condition,))
        assert (result.state, reasons(result)) == ("expired", ["condition-overdue"])
    in_time = replace(unmet, met_at=due - timedelta(days=1))
    assert decide(*votes, day=44, conditions=(in_time,)).state == "approved"


def test_every_reason_of_the_board_has_words_and_fills_them(words: Words) -> None:
    yes, no = (vote("r1", "approve"), vote("r2", "approve")), (vote("r1", "refuse"), vote("r2", "refuse"))
    condition = Condition("Publish the card.", "hospital", CLOSES + timedelta(days=30))
    decisions = [
        decide(*yes, conditions=(condition,)),
        decide(*yes, conditions=(condition,), day=44),
        decide(*yes, day=400),
        decide(*no),
        decide(yes[0], no[1]),
        decide(yes[0]),
        decide(recused=("r2", "r3"), day=2),
    ]
    answers = [answer for decision in decisions for answer in decision.answers]
    assert {key for key in words.texts if key.startswith("ethics.board.")} == {answer.reason for answer in answers}
    for answer in answers:
        assert answer.cites == (CITE,)
        for language in ("zh", "en"):
            assert "{" not in words.text(answer.reason, language, **answer.params)


# ---- who may vote


def admit(reviewer: str = "r1", *, day: float = 1, voted: str = "rev-1", recused: tuple[str, ...] = ()) -> None:
    rules.admit_vote(
        reviewer,
        voted_digest=voted,
        digest="rev-1",
        roster=("r1", "r2"),
        recused=recused,
        opened_at=OPENED,
        closes_at=CLOSES,
        now=OPENED + timedelta(days=day),
    )


def test_a_reviewer_may_vote_from_opening_to_just_before_closing() -> None:
    for day in (0, 13.999):
        admit(day=day)


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ({"reviewer": "stranger"}, "ethics.not-a-reviewer"),
        ({"recused": ("r1",)}, "ethics.conflict-of-interest"),
        ({"voted": "rev-0"}, "ethics.vote-on-another-revision"),
        ({"day": -1}, "ethics.voting-not-open"),
        ({"day": 14}, "ethics.voting-closed"),
    ],
)
def test_a_vote_that_may_not_be_cast_is_refused(case: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as caught:
        admit(**case)
    assert caught.value.code == code


def test_a_reviewer_of_the_donors_organisation_is_recused() -> None:
    homes = {"r1": ("hospital", "university"), "r2": ("institute",), "r3": ()}
    assert rules.conflicted(homes, {"hospital", "laboratory"}) == {"r1"}


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        (Condition(" ", "hospital", CLOSES), "ethics.condition-incomplete"),
        (Condition("Publish.", "", CLOSES), "ethics.condition-incomplete"),
        (Condition("x" * 4001, "hospital", CLOSES), "ethics.condition-too-long"),
        (Condition("Publish.", "hospital", OPENED), "ethics.condition-in-the-past"),
    ],
)
def test_a_condition_that_cannot_be_checked_is_refused(condition: Condition, code: str) -> None:
    with pytest.raises(Refused) as caught:
        rules.check_condition(condition, now=OPENED)
    assert caught.value.code == code


def test_every_error_of_this_room_has_words(words: Words) -> None:
    import re

    source = "".join((ROOM / name).read_text("utf-8") for name in ("rules.py", "evaluate.py", "sandbox.py"))
    codes = set(re.findall(r'(?:Refused|Unavailable|Broken|Unfit)\(\s*"(ethics\.[a-z-]+)"', source))
    codes |= set(re.findall(r'"(ethics\.evaluation-[a-z-]+)"', source))
    assert codes <= set(words.errors) and len(codes) > 25
