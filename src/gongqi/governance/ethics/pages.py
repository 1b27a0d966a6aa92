"""The pages of the review: the queue, one case, and one evaluation with what got better since the release before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gongqi.governance.ethics import service
from gongqi.governance.ethics.evaluate import MINIMUM_CASES, wilson
from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import MAX_PAGE, Read
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.serving import service as serving

HIGHLIGHTS = (
    "accuracy", "chance_corrected_accuracy", "accuracy_norm", "ndcg_at_10", "balanced_accuracy", "roc_auc", "brier",
    "expected_calibration_error", "false_negative_rate",
)  # fmt: skip
AT_A_GLANCE = ("accuracy", "chance_corrected_accuracy", "ndcg_at_10", "brier", "accuracy_gap")
LIBRARIES = ("onnxruntime", "tokenizers", "llama-cpp-python", "scikit-learn", "fairlearn")
DECIDED = 20  # rows of what was decided before one has to turn the page


def load_queue(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    every = service.ListCases(release=None, state="open", limit=MAX_PAGE, cursor=None)
    pending = service.list_cases.run(ctx, every).items
    past = service.ListCases(release=None, state="decided", limit=DECIDED, cursor=cursor)
    decided = service.list_cases.run(ctx, past)
    mine = service.awaiting(ctx, pending)
    shown = [*pending, *decided.items]
    inquiries = service.list_inquiries.run(ctx, service.ListInquiries.model_validate({"limit": DECIDED})).items
    return {
        "waiting": [case for case in pending if case.id in mine],
        "pending": [case for case in pending if case.id not in mine],
        "decided": decided,
        "inquiries": inquiries,
        "models": {each.route: serving.route_facts(ctx, each.route).name for each in inquiries},
        "assets": hub.assets_of(ctx, {case.asset for case in shown}),
        "names": members.names(ctx, {case.org for case in shown}),
        "open": service.open_cases(ctx),
        "board": service.policy().board,
    }


def load_case(ctx: Read, key: str) -> dict[str, Any]:
    case = service.get_case.run(ctx, service.OneCase(case=key))
    gates = hub.worded(ctx, hub.ask_gates(ctx, case.release).as_json())
    people = {*case.roster, *(vote.voter for vote in case.votes), *(row.reviewer for row in case.recusals)}
    orgs = {case.org, *(row.org for row in case.recusals if row.org)}
    return {
        "case": case,
        "asset": hub.asset_out(ctx, case.asset),
        "names": members.names(ctx, people | orgs),
        "decision": reasons(ctx, case.answers),
        "gates": reasons(ctx, [gate.model_dump() for gate in gates if gate.source != service.BOARD]),
        **_evaluation(ctx, service.shown_evaluation(ctx, case.release)),
        "actions": service.actions(ctx, case),
        "now": ctx.now,
    }


def load_inquiry(ctx: Read, key: str) -> dict[str, Any]:
    found = service.get_inquiry.run(ctx, service.OneInquiry(inquiry=key))
    return {
        "inquiry": found,
        "model": serving.route_facts(ctx, found.route).name,
        "names": members.names(ctx, {found.closed_by} if found.closed_by else set()),
        "actions": service.inquiry_actions(ctx, found),
    }


def load_evaluation(ctx: Read, release: str) -> dict[str, Any]:
    found = service.get_evaluation.run(ctx, service.OneEvaluation(release=release))
    facts = hub.release_facts(ctx, release)
    return {
        **_evaluation(ctx, found),
        "actions": service.evaluation_actions(ctx, found),
        "release_name": facts.name,
        "asset": hub.asset_out(ctx, found.asset),
        "minimum": MINIMUM_CASES,
    }


def load_release_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    """What the hub's page of a release says of its evaluation: the figures, and what got better on which evidence."""
    found = service.shown_evaluation(ctx, key)
    if found is None:
        return None
    metrics = found.result["metrics"] if found.result else {}
    shown = [(name, metrics[name]) for name in AT_A_GLANCE if metrics.get(name) is not None]
    return {**_evaluation(ctx, found), "evaluation": found, "figures": shown}


def reasons(ctx: Read, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Gate answers as the `reasons` macro takes them."""
    return [
        {
            "effect": answer["decision"],
            "text": answer[ctx.language],
            "cite": "; ".join(f"{cite['source']} {cite['article']} ({cite['date']})" for cite in answer["cites"]),
            "href": f"/go/{answer['evidence']}" if answer["evidence"] else None,
        }
        for answer in answers
    ]


def _evaluation(ctx: Read, found: service.EvaluationOut | None) -> dict[str, Any]:
    """An evaluation with the records that it was made on, and who found that none fits."""
    named = members.names(ctx, {found.waived_by}) if found and found.waived_by else {}
    return {
        "evaluation": _drawn(found),
        "data": _data(ctx, found.dataset_revision) if found and found.dataset_revision else None,
        "reviewer": named.get(found.waived_by) if found and found.waived_by else None,
    }


def _data(ctx: Read, revision: str) -> dict[str, Any]:
    """The dataset and its revision, by name for who may see them."""
    facts = hub.revision_facts(ctx, revision)
    if not hub.visible_assets(ctx, {facts.asset}):
        return {"revision": None}
    return {"revision": revision, "number": facts.number, "title_zh": facts.title_zh, "title_en": facts.title_en}


def _drawn(found: service.EvaluationOut | None) -> dict[str, Any] | None:
    """An evaluation with what its pictures need: the bins that hold records, each with its 95 % interval."""
    if found is None:
        return None
    result = found.result
    bins = []
    for each in result["calibration"] if result else []:
        if each["count"]:
            low, high = wilson(round(each["observed"] * each["count"]), each["count"])
            bins.append({**each, "low": low, "high": high})
    intervals = result["intervals"] if result else {}
    metrics, method = (result["metrics"], result["method"]) if result else ({}, {})
    figures = [(name, metrics[name], intervals.get(name)) for name in HIGHLIGHTS if name in metrics]
    libraries = [f"{name} {method[name]}" for name in LIBRARIES if name in method]
    return {
        "row": found, "result": result, "bins": bins, "figures": figures, "intervals": intervals, "libraries": libraries,
    }  # fmt: skip


VIEWS = (
    View("/ethics", "ethics_queue.html", load_queue, params=("cursor",)),
    View("/ethics/case/{key}", "ethics_case.html", load_case, id_prefix="case"),
    View("/ethics/inquiry/{key}", "ethics_inquiry.html", load_inquiry, id_prefix="inq"),
    View("/ethics/evaluation/{release}", "ethics_evaluation.html", load_evaluation),
)
PANELS = (Panel("hub_release.html", "ethics_release_panel.html", load_release_panel),)
