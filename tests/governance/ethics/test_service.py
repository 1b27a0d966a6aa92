"""The ethics review from submission to decision: evaluations in a child process, votes, recusals, conditions, time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from gongqi.doors.cli import laboratory
from gongqi.governance.ethics import rules, sandbox
from gongqi.governance.ethics import service as ethics
from gongqi.governance.ethics.rules import Comparison
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.hub import service as hub

BOARD = ("reviewer-1", "reviewer-2", "reviewer-3", "reviewer-4")
DENIED_OPEN = [("deny", "ethics.board.open")]
WITHOUT_PARAMETERS = tuple(part for part in laboratory.MODEL_PARTS if part.path != "model.onnx")


@pytest.fixture
def dataset(foundation: Any) -> str:
    """A submitted dataset of the hospital: it goes before the board, but is not evaluated."""
    return foundation.submit(foundation.dataset("hospital", "data-1", "wdbc"), org="hospital")


@pytest.fixture
def reviewed(foundation: Any, dataset: str) -> str:
    foundation.work()
    return dataset


def refused(code: str, act: Any, *arguments: Any, **given: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        act(*arguments, **given)
    assert caught.value.code == code
    return caught.value


# ---- evaluation


@pytest.mark.heavy
def test_a_submitted_model_is_evaluated_and_its_figures_answer_the_gate(foundation):
    release = foundation.submit(foundation.model())
    assert foundation.answers(release, "ethics.evaluation") == [("deny", "ethics.gate.evaluation-missing")]
    foundation.work()
    found = foundation.ask(ethics.get_evaluation, "operator", release=release)
    assert (found.state, found.result["metrics"]["records"]) == ("done", laboratory.HELD_OUT_RECORDS)
    answers = foundation.answers(release, "ethics.evaluation")
    assert len(answers) == len(ethics.policy().asked("classification"))
    assert all(decision != "deny" for decision, _ in answers)
    (entry,) = [each for each in foundation.entries if each.kind == "ethics.evaluation-done"]
    assert entry.facts["result_digest"] == found.result_digest
    assert entry.facts["accuracy"] == found.result["metrics"]["accuracy"]
    assert found.evidence == entry.id


def test_a_result_that_was_changed_in_the_database_no_longer_has_its_digest(foundation):
    from hashlib import sha256

    import rfc8785

    release = foundation.submit(foundation.model())
    foundation.work()
    found = foundation.ask(ethics.get_evaluation, "operator", release=release)
    assert sha256(rfc8785.dumps(found.result)).hexdigest() == found.result_digest


def test_a_dataset_needs_no_evaluation(foundation, reviewed):
    assert foundation.answers(reviewed, "ethics.evaluation") == [("allow", "ethics.gate.evaluation-not-needed")]
    refused("access.not-found", foundation.ask, ethics.get_evaluation, "operator", release=reviewed)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"lineage": "none"}, "ethics.evaluation-data-not-named"),
        ({"lineage": "trained-on"}, "ethics.evaluation-data-trained-on"),
        ({"parts": WITHOUT_PARAMETERS}, "ethics.evaluation-model-not-found"),
        ({"held_out": "undeclared"}, "ethics.evaluation-undeclared"),
        ({"held_out": "datasets"}, "ethics.evaluation-data-not-found"),
        ({"held_out": "same-file"}, "ethics.evaluation-data-trained-on"),
        ({"lineage": "of-its-ancestor"}, "ethics.evaluation-data-trained-on"),
        ({"held_out": "no-column"}, "ethics.data-column-missing"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_evaluated_is_stored_shown_and_denied(foundation, change, code):
    held_out = {
        "undeclared": lambda: foundation.dataset(
            "keeper", "held-out", "plain", "evaluation-data", **{"README.md": foundation.read("data-1")["README.md"]}
        ),
        "datasets": lambda: foundation.dataset("keeper", "held-out", "unlabelled"),
        "same-file": lambda: foundation.dataset("keeper", "held-out", "twin", "evaluation-data"),
        "no-column": lambda: foundation.dataset(
            "keeper", "held-out", "short", "evaluation-data", **{"data.csv": b"record,malignant\nwdbc-001,1\n"}
        ),
    }
    given = dict(change)
    if made := held_out.get(str(change.get("held_out"))):
        given["held_out"] = made()
    if change.get("lineage"):
        data = foundation.dataset("hospital", "held-out", "mine", "evaluation-data")
        both = [(data, "trained-on"), (data, "evaluated-on")]
        given["lineage"] = both if change["lineage"] == "trained-on" else [(data, "trained-on")]
    if change.get("held_out") == "same-file":
        data = foundation.dataset("hospital", "held-out", "copy")
        given["lineage"] = [(data, "trained-on"), (given["held_out"], "evaluated-on")]
    if change.get("lineage") == "of-its-ancestor":
        asset, files = foundation.asset("laboratory", "model", "base"), foundation.read("model-1")
        base = foundation.commit("laboratory", asset, files, laboratory.MODEL_PARTS, lineage=[(data, "trained-on")])
        given["lineage"] = [(base, "fine-tuned-from"), (data, "evaluated-on")]
    release = foundation.submit(foundation.model(**given))
    foundation.work()
    found = foundation.ask(ethics.get_evaluation, "operator", release=release)
    assert (found.state, found.code) == ("failed", code)
    assert found.failure["zh"] and found.failure["en"] and "{" not in found.failure["en"]
    assert foundation.answers(release, "ethics.evaluation") == [("deny", "ethics.gate.evaluation-failed")]
    assert "ethics.evaluation-failed" in foundation.kinds()


def test_a_model_that_is_late_three_times_has_failed(foundation, monkeypatch):
    tries = []

    def late(job: Any) -> None:
        tries.append(job)
        raise Unavailable("ethics.evaluation-timeout", seconds=60)

    monkeypatch.setattr(sandbox, "run_evaluation", late)
    release = foundation.submit(foundation.model())
    for seen in (1, 2, 3):
        foundation.work()
        assert len(tries) == seen
        foundation.clock.advance(minutes=1)
    found = foundation.ask(ethics.get_evaluation, "operator", release=release)
    assert (found.state, found.code) == ("failed", "ethics.evaluation-timeout")
    assert "60" in found.failure["en"] and found.dataset_revision


def test_features_may_be_all_numeric_columns(foundation):
    card = (foundation.materials / "held-out" / "README.md").read_text("utf-8")
    before, after = card.split("  features:\n")
    tail = after[after.index("  subgroup:") :]
    change = {"README.md": f"{before}  features: all-numeric\n{tail}".encode()}
    held_out = foundation.dataset("keeper", "held-out", "numeric", "evaluation-data", **change)
    release = foundation.submit(foundation.model(held_out=held_out))
    foundation.work()
    found = foundation.ask(ethics.get_evaluation, "operator", release=release)
    assert (found.state, found.code) == ("done", None)
    assert found.job["features"] == list(laboratory.table().columns)


def test_a_yardstick_of_the_submitters_own_leaves_a_duty_to_say_so(foundation):
    held_out = foundation.dataset("laboratory", "held-out", "own", "evaluation-data")
    release = foundation.submit(foundation.model(held_out=held_out))
    foundation.work()
    assert ("require", "ethics.gate.own-yardstick") in foundation.answers(release, "ethics.evaluation")


def test_the_evaluation_of_a_private_model_is_seen_at_home_and_by_the_board_only(foundation):
    release = foundation.submit(foundation.model(visibility="private"))
    foundation.work()
    for who in ("laboratory-owner", "reviewer-1", "operator"):
        assert foundation.ask(ethics.get_evaluation, who, release=release).state == "done"
    for who in (None, "hospital-owner"):
        refused("access.not-found", foundation.ask, ethics.get_evaluation, who, release=release)


@pytest.mark.heavy
def test_release_two_is_better_but_the_page_may_not_call_it_significant(foundation):
    held_out = foundation.dataset("keeper", "held-out", "held-out", "evaluation-data")
    first = foundation.model(1, held_out=held_out)
    one = foundation.submit(first)
    foundation.work()
    assert foundation.ask(ethics.get_evaluation, "operator", release=one).comparison is None
    for reviewer in BOARD:
        foundation.vote(one, reviewer)
    foundation.do(hub.publish, "operator", release=one)
    asset = foundation.ask(hub.get_release, "operator", release=one).asset
    two = foundation.submit(foundation.model(2, asset=asset, held_out=held_out), "2.0.0")
    foundation.work()
    found = foundation.ask(ethics.get_evaluation, None, release=two).comparison
    assert (found.release, found.name, found.gained, found.lost, found.p_value) == (one, "1.0.0", 3, 0, 0.25)
    assert found.verdict == "ethics.compare.better-unproven"


@pytest.mark.parametrize(
    ("gained", "lost", "verdict"),
    [
        (3, 0, "better-unproven"),
        (6, 0, "better"),
        (0, 3, "worse-unproven"),
        (0, 9, "worse"),
        (4, 4, "even"),
        (0, 0, "even"),
    ],
)
def test_only_what_chance_would_rarely_do_is_called_proven(gained, lost, verdict):
    found = Comparison((), 100, gained, lost, rules.mcnemar(gained, lost))
    assert rules.conclusion(found) == f"ethics.compare.{verdict}"


# ---- cases


def test_submission_opens_one_case_with_the_reviewers_of_that_moment(foundation, reviewed):
    case = foundation.case(reviewed)
    assert set(case.roster) == {foundation.people[name].id for name in BOARD}
    assert (case.state, case.quorum) == ("open", 2)
    assert (case.closes_at - case.opened_at).days == 14
    foundation.join("reviewer-6", "*", "reviewer")
    refused("ethics.not-a-reviewer", foundation.vote, reviewed, "reviewer-6")


def test_a_second_delivery_of_the_submission_changes_nothing(foundation, reviewed):
    from gongqi.resources.hub.events import ReleaseSubmitted

    facts = foundation.kernel.look(lambda ctx: hub.release_facts(ctx, reviewed))
    event = ReleaseSubmitted(facts.release, facts.asset, facts.revision, facts.digest, facts.org)
    before = len(foundation.entries)
    foundation.kernel.transact(lambda ctx: ethics.on_submitted(ctx, event), reason="test")
    assert len(foundation.entries) == before


def test_reviewers_of_the_donor_and_of_its_sources_are_recused_and_named(foundation):
    foundation.join("reviewer-1", "laboratory")
    foundation.join("reviewer-2", "hospital")
    foundation.join("reviewer-3", "keeper")  # lends the yardstick, and gains nothing by it
    release = foundation.submit(foundation.model())
    foundation.work()
    recused = {row.reviewer: row.org for row in foundation.case(release).recusals}
    assert recused == {
        foundation.people["reviewer-1"].id: foundation.orgs["laboratory"],
        foundation.people["reviewer-2"].id: foundation.orgs["hospital"],
    }
    refused("ethics.conflict-of-interest", foundation.vote, release, "reviewer-1")
    foundation.vote(release, "reviewer-3")
    assert foundation.vote(release, "reviewer-4").state == "approved"  # everybody who may vote has voted


def test_the_donors_own_organisation_cannot_vote(foundation, reviewed):
    refused("ethics.conflict-of-interest", foundation.vote, reviewed, "hospital-owner")


def test_a_reviewer_who_joins_the_donor_later_cannot_vote(foundation, reviewed):
    foundation.join("reviewer-1", "hospital")
    refused("ethics.conflict-of-interest", foundation.vote, reviewed, "reviewer-1")


def test_another_organisation_does_not_even_see_an_open_case(foundation, reviewed):
    case = foundation.case(reviewed).id
    refused("access.not-found", foundation.ask, ethics.get_case, "laboratory-owner", case=case)
    refused("access.not-found", foundation.ask, ethics.get_case, None, case=case)
    assert foundation.ask(ethics.list_cases).items == []
    assert foundation.ask(ethics.get_case, "hospital-owner", case=case).state == "open"
    vote = {"case": case, "choice": "refuse", "rationale": "No."}
    refused("access.not-found", foundation.do, ethics.cast_vote, "laboratory-owner", **vote)


def test_a_decided_case_about_a_public_asset_is_public_with_its_rationales(foundation, reviewed):
    for name in ("reviewer-1", "reviewer-2", "reviewer-3"):
        foundation.vote(reviewed, name)
    case = foundation.vote(reviewed, "reviewer-4", "refuse", rationale="The card is thin.")
    shown = foundation.ask(ethics.get_case, None, case=case.id)
    assert shown.state == "approved"
    assert [vote.rationale for vote in shown.votes if vote.choice == "refuse"] == ["The card is thin."]
    assert [case.id for case in foundation.ask(ethics.list_cases, None, state="decided").items] == [case.id]


# ---- votes


def test_the_board_decides_at_once_when_everybody_has_voted_and_then_takes_no_vote(foundation, reviewed):
    for name in ("reviewer-1", "reviewer-2", "reviewer-3"):
        assert foundation.vote(reviewed, name).state == "open"
    assert foundation.answers(reviewed, "ethics.board") == DENIED_OPEN
    case = foundation.vote(reviewed, "reviewer-4", "abstain")
    assert (case.state, case.decided_at) == ("approved", foundation.clock.now())
    assert foundation.answers(reviewed, "ethics.board") == [("allow", "ethics.board.approved")]
    refused("ethics.voting-closed", foundation.vote, reviewed, "reviewer-1", "refuse")
    (entry,) = [each for each in foundation.entries if each.kind == "ethics.review-decided"]
    assert (entry.facts["approve"], entry.facts["abstain"], entry.facts["state"]) == (3, 1, "approved")


def test_the_last_votes_cast_at_the_same_time_decide_once(foundation, reviewed):
    for name in BOARD[:2]:
        foundation.vote(reviewed, name)
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(lambda name: foundation.vote(reviewed, name).state, BOARD[2:]))
    assert sorted(states) == ["approved", "open"]
    assert len(foundation.case(reviewed).votes) == 4
    assert foundation.answers(reviewed, "ethics.board") == [("allow", "ethics.board.approved")]


def test_the_last_vote_of_a_person_counts_even_within_one_instant(foundation, reviewed):
    foundation.vote(reviewed, "reviewer-1", "refuse")
    foundation.vote(reviewed, "reviewer-1", "approve")
    votes = foundation.case(reviewed).votes
    assert [(vote.choice, vote.counts) for vote in votes] == [("refuse", False), ("approve", True)]


def test_evidence_of_a_vote_holds_the_digest_of_its_rationale_and_not_the_words(foundation, reviewed):
    from hashlib import sha256

    foundation.vote(reviewed, "reviewer-1", rationale="A quiet reason.")
    (entry,) = [each for each in foundation.entries if each.kind == "ethics.vote-cast"]
    assert entry.facts["rationale_digest"] == sha256(b"A quiet reason.").hexdigest()
    assert "quiet" not in str(entry.facts)


def test_who_came_in_by_anothers_link_does_not_act_as_a_reviewer(foundation, reviewed):
    """Or an operator could vote as any reviewer: links are theirs to make."""
    case = foundation.case(reviewed).id
    reviewer = foundation.people["reviewer-1"]
    foundation.people["reviewer-1"] = replace(reviewer, link_of=foundation.people["operator"].id)
    refused("ethics.own-sign-in-needed", foundation.vote, reviewed, "reviewer-1")
    aside = {"case": case, "reason": "said by somebody else"}
    refused("ethics.own-sign-in-needed", foundation.do, ethics.declare_recusal, "reviewer-1", **aside)
    met = {"case": case, "number": 1, "finding": "said by somebody else"}
    refused("ethics.own-sign-in-needed", foundation.do, ethics.confirm_condition, "reviewer-1", **met)
    assert foundation.case(reviewed).votes == [] and foundation.case(reviewed).recusals == []
    foundation.people["reviewer-1"] = reviewer
    foundation.vote(reviewed, "reviewer-1")


def test_a_vote_on_another_revision_is_refused(foundation, reviewed):
    refused("ethics.vote-on-another-revision", foundation.vote, reviewed, "reviewer-1", digest="0" * 64)


def test_a_vote_after_closing_is_refused_and_the_board_has_decided_on_the_votes_in_time(foundation, reviewed):
    foundation.vote(reviewed, "reviewer-1")
    foundation.vote(reviewed, "reviewer-2")
    foundation.clock.advance(days=14)
    refused("ethics.voting-closed", foundation.vote, reviewed, "reviewer-3", "refuse")
    assert foundation.answers(reviewed, "ethics.board") == [("allow", "ethics.board.approved")]
    foundation.work()
    case = foundation.case(reviewed)
    assert (case.state, case.decided_at) == ("approved", case.closes_at)
    assert foundation.kinds().count("ethics.review-decided") == 1


def test_standing_aside_after_closing_cannot_undo_the_decision(foundation, reviewed):
    foundation.vote(reviewed, "reviewer-1")
    foundation.vote(reviewed, "reviewer-2")
    foundation.clock.advance(days=14)
    given = {"case": foundation.case(reviewed).id, "reason": "I know them."}
    refused("ethics.voting-closed", foundation.do, ethics.declare_recusal, "reviewer-2", **given)


def test_without_a_quorum_at_closing_nothing_is_approved(foundation, reviewed):
    foundation.vote(reviewed, "reviewer-1")
    foundation.clock.advance(days=14)
    foundation.work()
    assert foundation.case(reviewed).state == "refused"
    assert foundation.answers(reviewed, "ethics.board") == [("deny", "ethics.board.quorum-missing")]


def test_a_clock_that_was_set_back_does_not_undo_a_decision(foundation, reviewed):
    foundation.clock.advance(days=2)
    for name in BOARD:
        foundation.vote(reviewed, name)
    foundation.clock.advance(days=-1)
    assert foundation.answers(reviewed, "ethics.board") == [("allow", "ethics.board.approved")]


# ---- standing aside, and no quorum


def test_who_stands_aside_no_longer_counts_and_cannot_come_back(foundation, reviewed):
    case = foundation.case(reviewed).id
    for name in ("reviewer-1", "reviewer-2"):
        foundation.vote(reviewed, name)
    foundation.do(ethics.declare_recusal, "reviewer-3", case=case, reason="A former colleague.")
    refused("ethics.already-recused", foundation.do, ethics.declare_recusal, "reviewer-3", case=case, reason="Again.")
    refused("ethics.not-a-reviewer", foundation.do, ethics.declare_recusal, "operator", case=case, reason="Me too.")
    with pytest.raises(Refused, match="conflict-of-interest"):
        foundation.vote(reviewed, "reviewer-3")
    assert foundation.do(ethics.declare_recusal, "reviewer-4", case=case, reason="Likewise.").state == "approved"


def test_an_unreachable_quorum_is_said_and_another_review_brings_new_reviewers(foundation):
    for name in ("reviewer-1", "reviewer-2", "reviewer-3"):
        foundation.join(name, "hospital")
    release = foundation.submit(foundation.dataset("hospital", "data-1", "wdbc"), org="hospital")
    foundation.work()
    answers = foundation.answers(release, "ethics.board")
    assert answers == [("deny", "ethics.board.open"), ("deny", "ethics.board.quorum-unreachable")]
    foundation.join("reviewer-5", "*", "reviewer")
    case = foundation.do(ethics.request_case, "hospital-owner", release=release, reason="Reviewers were named.")
    assert len(set(case.roster)) == 5
    assert foundation.ask(ethics.list_cases, "operator", state="superseded").items[0].release == release
    foundation.vote(release, "reviewer-4")
    assert foundation.vote(release, "reviewer-5").state == "approved"


def test_another_review_is_opened_only_when_none_stands(foundation, reviewed):
    given = {"release": reviewed, "reason": "Soon."}
    refused("ethics.review-stands", foundation.do, ethics.request_case, "hospital-owner", **given)
    refused("access.forbidden", foundation.do, ethics.request_case, "laboratory-owner", **given)
    for name in BOARD:
        foundation.vote(reviewed, name, "refuse")
    assert foundation.answers(reviewed, "ethics.board") == [("deny", "ethics.board.refused")]
    foundation.clock.advance(hours=1)
    foundation.do(ethics.request_case, "hospital-owner", release=reviewed, reason="A new card.")
    assert foundation.answers(reviewed, "ethics.board") == DENIED_OPEN


def test_a_draft_cannot_be_reviewed(foundation):
    revision = foundation.dataset("hospital", "data-1", "wdbc")
    asset = foundation.ask(hub.get_revision, "operator", revision=revision).asset
    draft = foundation.do(hub.draft, "hospital-owner", asset=asset, revision=revision, name="1.0.0").id
    code = "ethics.release-not-submitted"
    refused(code, foundation.do, ethics.request_case, "hospital-owner", release=draft, reason="Please.")


# ---- conditions and expiry


def approved_with_condition(foundation: Any, release: str, **given: Any) -> Any:
    foundation.vote(release, "reviewer-1", conditions=["Name the hospital's device."], **given)
    for name in ("reviewer-2", "reviewer-3"):
        foundation.vote(release, name)
    return foundation.vote(release, "reviewer-4")


def test_conditions_of_an_approval_become_duties_until_they_are_met(foundation, reviewed):
    case = approved_with_condition(foundation, reviewed)
    allowed, duty = foundation.answers(reviewed, "ethics.board")
    assert (allowed, duty) == (("allow", "ethics.board.approved"), ("require", "ethics.board.condition"))
    given = {"case": case.id, "finding": "The card names it."}
    refused("ethics.condition-unknown", foundation.do, ethics.confirm_condition, "operator", **given, number=2)
    refused("access.forbidden", foundation.do, ethics.confirm_condition, "hospital-owner", **given, number=1)
    foundation.do(ethics.confirm_condition, "operator", **given, number=1)
    assert foundation.answers(reviewed, "ethics.board") == [("allow", "ethics.board.approved")]


def test_conditions_of_a_vote_that_was_changed_do_not_bind(foundation, reviewed):
    foundation.vote(reviewed, "reviewer-1", conditions=["Something."])
    for name in BOARD:
        foundation.vote(reviewed, name)
    assert foundation.case(reviewed).conditions == []


def test_an_overdue_condition_ends_the_approval(foundation, reviewed):
    case = approved_with_condition(foundation, reviewed, due_days=30)
    foundation.work()
    foundation.clock.advance(days=30)
    assert foundation.answers(reviewed, "ethics.board") == [("deny", "ethics.board.condition-overdue")]
    foundation.work()
    assert foundation.case(reviewed).state == "expired"
    given = {"case": case.id, "number": 1, "finding": "Late."}
    refused("ethics.not-approved", foundation.do, ethics.confirm_condition, "operator", **given)
    assert "ethics.approval-expired" in foundation.kinds()


def test_an_expired_approval_denies(foundation, reviewed):
    for name in BOARD:
        foundation.vote(reviewed, name)
    foundation.work()
    foundation.clock.advance(days=364)
    foundation.work()
    assert foundation.answers(reviewed, "ethics.board") == [("allow", "ethics.board.approved")]
    foundation.clock.advance(days=1)
    assert foundation.answers(reviewed, "ethics.board") == [("deny", "ethics.board.expired")]
    foundation.work()
    assert foundation.case(reviewed).state == "expired"


def test_only_an_approval_carries_conditions_and_they_say_something(foundation, reviewed):
    given = {"conditions": ["Do it."]}
    refused("ethics.condition-without-approval", foundation.vote, reviewed, "reviewer-1", "refuse", **given)
    refused("ethics.condition-incomplete", foundation.vote, reviewed, "reviewer-1", conditions=[" "])


# ---- words


def test_every_answer_and_refusal_has_words_in_both_languages(foundation, reviewed):
    found = foundation.ask(hub.check, "operator", release=reviewed)
    for answer in found.answers:
        assert answer.zh != answer.reason != answer.en
        assert "{" not in answer.zh + answer.en, answer
