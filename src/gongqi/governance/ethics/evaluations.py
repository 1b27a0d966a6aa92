"""Evaluations: every model that is submitted is measured on records it has never seen, before anybody votes.

The model names its yardstick in its lineage (`evaluated-on`); the card of that dataset says how it is to be used
(`evaluation: {target, features | "all-numeric", subgroup: {column, kind}, seed}`). The run itself is a bounded child
process (sandbox.py), outside any transaction. A model or data that cannot be evaluated is a result too: it is stored
with its code, shown, and the gate denies. Records that the model was trained on measure nothing, so a yardstick that
shares a file with the training data is refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import rfc8785
from pydantic import Field
from sqlalchemy import func, select

from gongqi.governance.ethics import rules
from gongqi.governance.ethics.evaluate import Job, Unfit
from gongqi.governance.ethics.models import Evaluation
from gongqi.governance.ethics.rules import Comparison
from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Input, Output, Read, Write, read
from gongqi.kernel.words import LANGUAGES
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.events import ReleaseSubmitted

ID = 64  # characters; ours have 30
HEAD_BYTES = 1 << 20  # where a CSV file shows its header and its first record
FEATURES = 10_000  # columns; more are not a table but an image
NAME = 200  # characters of a column's name
ALL_NUMERIC = "all-numeric"
YARDSTICK = "evaluated-on"


class OneEvaluation(Input):
    release: str = Field(max_length=ID)


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
    """`failure` says in both languages why it failed; `comparison` is None without a like evaluation before."""

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
    failure: dict[str, str] | None = None
    comparison: ComparisonOut | None = None


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


# --- for handlers, flows, gates and pages: the caller has authorised -------------------------------------------------


def on_submitted(ctx: Write, event: ReleaseSubmitted) -> None:
    """Queue the evaluation of a submitted model; the second delivery finds it queued."""
    facts = hub.release_facts(ctx, event.release)
    if facts.kind != "model" or evaluation_of(ctx, facts.release):
        return
    ctx.add(
        Evaluation(
            id=ctx.new_id("eval"), release=facts.release, asset=facts.asset, org=facts.org, revision=facts.revision,
            digest=facts.digest, state="queued", created_at=ctx.now,
        )
    )  # fmt: skip
    ctx.start_flow("ethics.evaluate", key=facts.release, release=facts.release)


def evaluation_of(ctx: Read, release: str) -> Evaluation | None:
    return ctx.session.scalar(select(Evaluation).where(Evaluation.release == release))


def finished_evaluations(ctx: Read) -> int:
    """How many evaluations have been done: a number of the home page, and nothing but a number."""
    query = select(func.count()).select_from(Evaluation).where(Evaluation.state == "done")
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


def plan(ctx: Read, release: str) -> dict[str, Any]:
    """What to run: the job with model and data by SHA-256, and the dataset revision it stands in. Raises Refused."""
    facts = hub.release_facts(ctx, release)
    yardsticks = sorted({source for source, relation in facts.lineage if relation == YARDSTICK})
    if len(yardsticks) != 1:
        raise Refused("ethics.evaluation-data-not-named", count=len(yardsticks))
    dataset = hub.revision_facts(ctx, yardsticks[0])
    model = _only(facts.files, "parameters", ".onnx", "ethics.evaluation-model-not-found")
    data = _only(dataset.files, "evaluation-data", ".csv", "ethics.evaluation-data-not-found")
    for source in hub.sources(ctx, facts.revision):  # also the yardstick itself, when an ancestor has learned from it
        if source.is_learned_from and data in {f.sha256 for f in hub.revision_facts(ctx, source.revision).files}:
            raise Refused("ethics.evaluation-data-trained-on", revision=source.revision)
    return {"dataset_revision": dataset.revision, "job": _job(ctx, dataset.card, model=model, data=data).to_json()}


@contextmanager
def job_on(kernel: Kernel, job: Mapping[str, Any]) -> Iterator[Job]:
    """The job with this machine's paths in place of digests; the files are there for as long as the context is."""
    with kernel.blobs.local(job["model"]) as model, kernel.blobs.local(job["data"]) as data:
        yield Job.from_json({**job, "model": str(model), "data": str(data)})


def check_result(job: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """The result, when it is of the very bytes that the job names. Raises Broken."""
    if (result["model_sha256"], result["data_sha256"]) != (job["model"], job["data"]):
        raise Broken("ethics.evaluation-failed", detail="the bytes evaluated are not the bytes named")
    return dict(result)


def store(ctx: Write, release: str, outcome: Mapping[str, Any]) -> str:
    """Write down how an evaluation ended: `outcome` has job and result, or code and params. Returns its state."""
    row = evaluation_of(ctx, release)
    assert row is not None, "evaluations are never deleted"
    row.job, row.dataset_revision = outcome.get("job"), outcome.get("dataset_revision")
    row.finished_at = ctx.now
    facts: dict[str, Any] = {"release": row.release, "digest": row.digest}
    if "result" in outcome:
        result = outcome["result"]
        row.state, row.result = "done", result
        row.result_digest = hashlib.sha256(rfc8785.dumps(result)).hexdigest()
        facts |= {
            "result_digest": row.result_digest, "model_sha256": result["model_sha256"],
            "data_sha256": result["data_sha256"], **result["metrics"],
        }  # fmt: skip
    else:
        row.state, row.code, row.params = "failed", outcome["code"], outcome["params"]
        facts |= {"code": row.code}
    row.evidence = ctx.record(row.id, kind=f"ethics.evaluation-{row.state}", **facts)
    ctx.session.flush()
    return row.state


# --- within ----------------------------------------------------------------------------------------------------------


def _only(files: Any, component: str, suffix: str, code: str) -> str:
    """The SHA-256 of the one file of this component and kind. Raises Refused."""
    found = [file.sha256 for file in files if file.component == component and file.path.lower().endswith(suffix)]
    if len(found) != 1:
        raise Refused(code, count=len(found))
    return found[0]


def _job(ctx: Read, card: Mapping[str, Any], *, model: str, data: str) -> Job:
    """The job as the data's card declares it. Raises Refused."""
    declared = card.get("other", {}).get("evaluation")
    if not isinstance(declared, dict) or not declared.keys() <= {"target", "features", "subgroup", "seed"}:
        raise Refused("ethics.evaluation-undeclared")
    target, features, subgroup = declared.get("target"), declared.get("features"), declared.get("subgroup")
    if features == ALL_NUMERIC:
        features = [name for name in _numeric_columns(ctx.blobs, data) if name != target]
    names = [target, *features] if isinstance(features, list) else [target]
    named = isinstance(features, list) and 0 < len(features) <= FEATURES
    if not named or not all(isinstance(name, str) and 0 < len(name) <= NAME for name in names):
        raise Refused("ethics.evaluation-undeclared")
    if subgroup is not None and not (isinstance(subgroup, dict) and isinstance(subgroup.get("column"), str)):
        raise Refused("ethics.evaluation-undeclared")
    if not isinstance(declared.get("seed", 0), int):
        raise Refused("ethics.evaluation-undeclared")
    try:
        return Job.from_json({"seed": 0, **declared, "features": features, "model": model, "data": data})
    except Unfit as unfit:
        params: dict[str, Any] = unfit.params
        raise Refused(unfit.code, **params) from unfit


def _numeric_columns(blobs: Any, sha256: str) -> list[str]:
    """The columns whose value in the first record is a number. Raises Refused."""
    with blobs.open(sha256) as file:
        head = file.read(HEAD_BYTES)
    try:
        rows = csv.reader(io.StringIO(head.decode("utf-8-sig", "strict" if len(head) < HEAD_BYTES else "ignore")))
        header, first = next(rows), next(rows)
    except (csv.Error, UnicodeDecodeError, StopIteration):
        raise Refused("ethics.data-not-csv") from None
    return [name for name, value in zip(header, first, strict=False) if _is_number(value)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
