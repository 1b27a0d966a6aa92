"""The ethics review's registration."""

from __future__ import annotations

from pathlib import Path

from gongqi.governance.ethics import service
from gongqi.governance.ethics.flows import FLOWS
from gongqi.governance.ethics.pages import PANELS, VIEWS
from gongqi.governance.ethics.policy import POLICIES
from gongqi.kernel.events import Handler
from gongqi.kernel.gates import Answerer
from gongqi.kernel.room import Figure, Room
from gongqi.resources.hub.events import ReleaseSubmitted
from gongqi.resources.hub.gates import RELEASE_PUBLISH
from gongqi.resources.serving.events import DriftFound

ROOM = Room(
    name="ethics",
    folder=Path(__file__).parent,
    verbs=(
        service.cast_vote,
        service.declare_recusal,
        service.request_case,
        service.confirm_condition,
        service.repeat_evaluation,
        service.waive_evaluation,
        service.close_inquiry,
    ),
    reads=(
        service.list_cases,
        service.get_case,
        service.get_evaluation,
        service.list_inquiries,
        service.get_inquiry,
    ),
    policies=POLICIES,
    answerers=(
        Answerer(RELEASE_PUBLISH, service.EVALUATION, service.answer_evaluation),
        Answerer(RELEASE_PUBLISH, service.BOARD, service.answer_board),
    ),
    handlers=(
        Handler(ReleaseSubmitted, "ethics.review", service.on_submitted),
        Handler(DriftFound, "ethics.inquiry", service.on_drift),
    ),
    flows=FLOWS,
    views=VIEWS,
    panels=PANELS,
    figures=(
        Figure("ethics.open-cases", "/ethics", service.open_cases),
        Figure("ethics.evaluations", "/ethics", service.finished_evaluations),
    ),
)
