"""The ethics review's verbs and reads, and what rooms above call. By idea:

`decisions` (cases) → `board` (votes, recusals) → `evaluations` (figures on held-out records, of what `planning` found) →
`gate` (answers); `inquiries` into models in use.
"""

from gongqi.governance.ethics import decisions, evaluations
from gongqi.governance.ethics.board import (
    CaseDetail,
    CaseOut,
    CastVote,
    ConfirmCondition,
    DeclareRecusal,
    ListCases,
    OneCase,
    OpenCase,
    actions,
    awaiting,
    cast_vote,
    confirm_condition,
    declare_recusal,
    get_case,
    list_cases,
    request_case,
    visible_cases,
)
from gongqi.governance.ethics.decisions import latest_case, open_cases, policy
from gongqi.governance.ethics.evaluations import (
    ComparisonOut,
    EvaluationOut,
    OneEvaluation,
    WaiveEvaluation,
    comparison,
    evaluation_actions,
    finished_evaluations,
    get_evaluation,
    repeat_evaluation,
    shown_evaluation,
    waive_evaluation,
)
from gongqi.governance.ethics.gate import BOARD, EVALUATION, answer_board, answer_evaluation
from gongqi.governance.ethics.inquiries import (
    CloseInquiry,
    InquiryOut,
    ListInquiries,
    OneInquiry,
    close_inquiry,
    get_inquiry,
    inquiry_actions,
    list_inquiries,
    on_drift,
)
from gongqi.governance.ethics.tasks import TASKS
from gongqi.kernel.verbs import Write
from gongqi.resources.hub.events import ReleaseSubmitted

__all__ = [
    "BOARD", "CaseDetail", "CaseOut", "CastVote", "CloseInquiry", "ComparisonOut", "ConfirmCondition",
    "DeclareRecusal", "EVALUATION", "EvaluationOut", "InquiryOut", "ListCases", "ListInquiries", "OneCase",
    "OneEvaluation", "OneInquiry", "OpenCase", "TASKS", "WaiveEvaluation", "actions", "answer_board",
    "answer_evaluation", "awaiting", "cast_vote", "close_inquiry", "comparison", "confirm_condition",
    "declare_recusal", "evaluation_actions", "finished_evaluations", "get_case", "get_evaluation", "get_inquiry",
    "inquiry_actions", "latest_case", "list_cases", "list_inquiries", "on_drift", "on_submitted", "open_cases",
    "policy", "repeat_evaluation", "request_case", "shown_evaluation", "visible_cases", "waive_evaluation",
]  # fmt: skip


def on_submitted(ctx: Write, event: ReleaseSubmitted) -> None:
    """A release was submitted: measure it if it is a model, and call the board."""
    evaluations.on_submitted(ctx, event)
    decisions.on_submitted(ctx, event)
