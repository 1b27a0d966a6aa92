"""What the ethics review answers before a publication: the figures, and the board."""

from __future__ import annotations

from dataclasses import replace

from gongqi.governance.ethics import rules
from gongqi.governance.ethics.board import BOARD
from gongqi.governance.ethics.decisions import decision_of, latest_case, policy
from gongqi.governance.ethics.evaluations import DONE, FAILED, UNAVAILABLE, evaluation_of, failure_of
from gongqi.governance.ethics.tasks import CLASSIFICATION
from gongqi.kernel.gates import Answer, by_policy
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.gates import ReleaseQuestion

EVALUATION = "ethics.evaluation"
EVALUATED, OWN_YARDSTICK, WAIVED = by_policy("ethics", 1), by_policy("ethics", 10), by_policy("ethics", 14)

__all__ = ["BOARD", "EVALUATION", "answer_board", "answer_evaluation"]


def answer_evaluation(ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """The figures against the foundation's thresholds. Only models are evaluated; only a finished evaluation counts."""
    cites = (EVALUATED,)
    if question.kind != "model":
        return [Answer("allow", "ethics.gate.evaluation-not-needed", cites=cites)]
    row = evaluation_of(ctx, question.release)
    if row is None or row.digest != question.digest:
        return [Answer("deny", "ethics.gate.evaluation-missing", cites=cites)]
    if row.state == FAILED and row.waived_by is not None:
        named = {"reviewer": members.names(ctx, [row.waived_by])[row.waived_by], "reason": row.waiver}
        return [Answer("require", "ethics.gate.evaluation-waived", named, (WAIVED,), row.evidence)]
    if row.state in (FAILED, UNAVAILABLE):
        why = {"code": row.code, **(failure_of(ctx, row) or {})}
        return [Answer("deny", f"ethics.gate.evaluation-{row.state}", why, cites, row.evidence)]
    if row.state != DONE or row.result is None or row.dataset_revision is None:
        return [Answer("deny", "ethics.gate.evaluation-queued", cites=cites)]
    asked = policy().asked(row.result.get("task", CLASSIFICATION))
    answers = rules.gate_verdict(row.result["metrics"], asked, evidence=row.evidence)
    if hub.revision_facts(ctx, row.dataset_revision).org == question.org:
        answers.append(Answer("require", "ethics.gate.own-yardstick", cites=(OWN_YARDSTICK,), evidence=row.evidence))
    return answers


def answer_board(ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """What the board has decided on this very revision, as of now."""
    case = latest_case(ctx, question.release)
    if case is None or case.digest != question.digest:
        return [Answer("deny", "ethics.gate.board-missing", cites=(policy().board.cite,))]
    return [replace(answer, evidence=case.evidence) for answer in decision_of(ctx, case).answers]
