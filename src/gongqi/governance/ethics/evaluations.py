"""Evaluations: every model that is submitted is measured on records it has never seen, before anybody votes.

What is run, planning.py says; how, tables and texts alike, the files that stand alone: evaluate.py, texts.py. The run is a
bounded child process (sandbox.py), outside any transaction. A model or data that cannot be evaluated is a result too: it is
stored with its code, shown, and the gate denies. Where this foundation lacks what would run the model, that says nothing of
the model: the state is `unavailable`, and the gate denies all the same. Then, and after a failure, it can be asked for
again; and of a model that no evaluation fits a reviewer says so, by name and with the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import rfc8785
from pydantic import Field
from sqlalchemy import func, select

from gongqi.governance.ethics import decisions, rules
from gongqi.governance.ethics.board import ID, REASON, refuse_borrowed, refuse_conflict
from gongqi.governance.ethics.models import Evaluation
from gongqi.governance.ethics.rules import Comparison
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Read, Write, read, verb
from gongqi.kernel.words import LANGUAGES
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.events import ReleaseSubmitted

QUEUED, DONE, FAILED, UNAVAILABLE = "queued", "done", "failed", "unavailable"


class OneEvaluation(Input):
    release: str = Field(max_length=ID)


class WaiveEvaluation(Input):
    """`reason` says why none of the evaluations there are fits this model; it is public."""

    release: str = Field(max_length=ID)
    reason: str = Field(min_length=1, max_length=REASON)


class ChangeOut(Output):
    metric: str
    before: float | None
    after: float | None
    is_better: bool | None


class ComparisonOut(Output):
    """This release against the one before it. `verdict` is a text key that says what may be concluded."""

    release: str
    name: str
    evaluation: str
    result_digest: str
    changes: list[ChangeOut]
    records: int
    gained: int
    lost: int
    p_value: float
    verdict: str


class EvaluationOut(Output):
    """`failure` says in both languages why it failed; `waiver`, why a reviewer found that none fits; `comparison` is None
    without a like evaluation before."""

    id: str
    release: str
    asset: str
    org: str
    revision: str
    digest: str
    dataset_revision: str | None
    state: str
    job: dict[str, Any] | None
    result: dict[str, Any] | None
    result_digest: str | None
    code: str | None
    created_at: datetime
    finished_at: datetime | None
    evidence: str | None
    waived_by: str | None
    waived_at: datetime | None
    waiver: str | None
    failure: dict[str, str] | None = None
    comparison: ComparisonOut | None = None


@verb("ethics:evaluation:repeat", evidence="ethics.evaluation-repeated")
def repeat_evaluation(ctx: Write, input: OneEvaluation) -> EvaluationOut:
    """Evaluate a release again that could not be: the machine was busy, or has got what it lacked. A result stays."""
    row = _found(ctx, input.release, to="ethics:evaluation:repeat")
    if row.state not in (FAILED, UNAVAILABLE):
        raise Refused("ethics.evaluation-stands", state=row.state)
    ctx.record(row.id, release=row.release, digest=row.digest, code=row.code)
    row.state, row.code, row.params, row.finished_at = QUEUED, None, None, None
    row.waived_by = row.waived_at = row.waiver = None
    ctx.session.flush()
    ctx.start_flow("ethics.evaluate", key=f"{row.release} {ctx.now.isoformat()}", release=row.release)
    return EvaluationOut.model_validate(row)


@verb("ethics:evaluation:waive", evidence="ethics.evaluation-waived")
def waive_evaluation(ctx: Write, input: WaiveEvaluation) -> EvaluationOut:
    """Say, as a reviewer who belongs to none of the parties, that no evaluation fits a model. It does not undo a result,
    and what only cannot be run here is not waived."""
    row = _found(ctx, input.release, to="ethics:evaluation:waive")
    refuse_borrowed(ctx)
    if ctx.actor.id not in members.holders(ctx, decisions.REVIEWER):
        raise Refused("ethics.not-a-reviewer")
    refuse_conflict(ctx, row.org, row.revision)
    if row.state != FAILED:
        raise Refused("ethics.evaluation-stands", state=row.state)
    row.waived_by, row.waived_at, row.waiver = ctx.actor.id, ctx.now, input.reason
    row.evidence = ctx.record(
        row.id, release=row.release, digest=row.digest, code=row.code, reason_digest=decisions.sha256(input.reason)
    )
    ctx.session.flush()
    return EvaluationOut.model_validate(row)


@read("ethics:evaluation:get")
def get_evaluation(ctx: Read, input: OneEvaluation) -> EvaluationOut:
    found = shown_evaluation(ctx, input.release)
    if found is None:
        raise Refused("access.not-found", kind="evaluation", key=input.release)
    return found


def shown_evaluation(ctx: Read, release: str) -> EvaluationOut | None:
    """The evaluation of a release, if there is one and the actor may see it."""
    row = ctx.session.scalar(ctx.visible(Evaluation, to="ethics:evaluation:read").where(Evaluation.release == release))
    if row is None:
        return None
    shown = EvaluationOut.model_validate(row)
    return shown.model_copy(update={"failure": failure_of(ctx, row), "comparison": comparison(ctx, row.release)})


def evaluation_actions(ctx: Read, row: EvaluationOut) -> list[str]:
    """The verbs that the actor may use on this evaluation now."""
    found = []
    if row.state in (FAILED, UNAVAILABLE) and ctx.actor.may("ethics:evaluation:repeat", row.org):
        found.append("ethics:evaluation:repeat")
    if row.state == FAILED and not row.waiver and ctx.actor.id in members.holders(ctx, decisions.REVIEWER):
        found.append("ethics:evaluation:waive")
    return found


# --- for handlers, flows, gates and pages: the caller has authorised -------------------------------------------------


def on_submitted(ctx: Write, event: ReleaseSubmitted) -> None:
    """Queue the evaluation of a submitted model; the second delivery finds it queued."""
    facts = hub.release_facts(ctx, event.release)
    if facts.kind != "model" or evaluation_of(ctx, facts.release):
        return
    ctx.add(
        Evaluation(
            id=ctx.new_id("eval"), release=facts.release, asset=facts.asset, org=facts.org, revision=facts.revision,
            digest=facts.digest, state=QUEUED, created_at=ctx.now,
        )
    )  # fmt: skip
    ctx.start_flow("ethics.evaluate", key=facts.release, release=facts.release)


def evaluation_of(ctx: Read, release: str) -> Evaluation | None:
    return ctx.session.scalar(select(Evaluation).where(Evaluation.release == release))


def finished_evaluations(ctx: Read) -> int:
    """How many evaluations have been done: a number of the home page, and nothing but a number."""
    query = select(func.count()).select_from(Evaluation).where(Evaluation.state == DONE)
    return ctx.session.scalar(query) or 0


def failure_of(ctx: Read, row: Evaluation) -> dict[str, str] | None:
    """Why an evaluation failed, in both languages."""
    if row.code is None:
        return None
    refusal, words = Refused(row.code, **(row.params or {})), ctx.kernel.house.words
    return {language: words.error(refusal, language)[1] for language in LANGUAGES}


def comparison(ctx: Read, release: str) -> ComparisonOut | None:
    """What changed since the release published before; None when there is none, or none on the same records."""
    before = hub.previous_release(ctx, release)
    old, new = evaluation_of(ctx, before.release) if before else None, evaluation_of(ctx, release)
    if not (before and old and new and old.result and new.result and old.result_digest):
        return None
    try:
        found: Comparison = rules.compare(old.result, new.result)
    except Refused:
        return None  # other records or another method: two numbers, but no comparison
    return ComparisonOut(
        release=before.release, name=before.name, evaluation=old.id, result_digest=old.result_digest,
        changes=[ChangeOut.model_validate(change) for change in found.changes], records=found.records,
        gained=found.gained, lost=found.lost, p_value=found.p_value, verdict=rules.conclusion(found),
    )  # fmt: skip


def store(ctx: Write, release: str, outcome: Mapping[str, Any]) -> str:
    """Write down how an evaluation ended: `outcome` has job and result, or code and params. Returns its state."""
    row = evaluation_of(ctx, release)
    assert row is not None, "evaluations are never deleted"
    row.job, row.dataset_revision = outcome.get("job"), outcome.get("dataset_revision")
    row.finished_at = ctx.now
    facts: dict[str, Any] = {"release": row.release, "digest": row.digest}
    if "result" in outcome:
        result = outcome["result"]
        row.state, row.result = DONE, result
        row.result_digest = hashlib.sha256(rfc8785.dumps(result)).hexdigest()
        facts |= {
            "result_digest": row.result_digest, "model_sha256": result["model_sha256"],
            "data_sha256": result["data_sha256"], **result["metrics"],
        }  # fmt: skip
    else:
        row.state = UNAVAILABLE if outcome.get("is_unavailable") else FAILED
        row.code, row.params = outcome["code"], outcome["params"]
        facts |= {"code": row.code}
    row.evidence = ctx.record(row.id, kind=f"ethics.evaluation-{row.state}", **facts)
    ctx.session.flush()
    return row.state


# --- within ----------------------------------------------------------------------------------------------------------


def _found(ctx: Read, release: str, *, to: str) -> Evaluation:
    """The evaluation of a release, to act upon. Raises Refused."""
    seen = ctx.session.scalar(ctx.visible(Evaluation, to="ethics:evaluation:read").where(Evaluation.release == release))
    if seen is None:
        raise Refused("access.not-found", kind="evaluation", key=release)
    return ctx.find(Evaluation, seen.id, to=to)
