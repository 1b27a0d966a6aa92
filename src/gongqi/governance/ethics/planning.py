"""What an evaluation runs: which model, which records, asked how. Three documents decide, and nothing is guessed.

The lineage of the model names its yardstick (`evaluated-on`); the card of that dataset says how it is to be used; the files
of both say by their components and names what is the model and what are the records. The card's entry `evaluation` is,
for a table, `{target, features | "all-numeric", subgroup: {column, kind: terciles}, seed}`; for texts, `{task, …}`, whose
forms are in tasks.py. Records that the model was trained on measure nothing, so a yardstick that shares a file with the
training data is refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Any

from gongqi.governance.ethics.evaluate import Job, Unfit
from gongqi.governance.ethics.tasks import ENGINES, FORMS, TextJob, text_job
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Read
from gongqi.resources.hub import service as hub
from gongqi.resources.serving.engines.parts import MODEL, NEEDS, chosen

HEAD_BYTES = 1 << 20  # where a CSV file shows its header and its first record
FEATURES = 10_000  # columns; more are not a table but an image
NAME = 200  # characters of a column's name
TEXT_BYTES = 64 << 20  # of the records of a model of texts: ten thousand long prompts
ALL_NUMERIC = "all-numeric"
YARDSTICK = "evaluated-on"
LATER_SECONDS = 3600  # an operator installs an engine, or does not


def plan(ctx: Read, release: str) -> dict[str, Any]:
    """What to run: the job with model and data by SHA-256, and the dataset revision it stands in.

    Raises Refused, and Unavailable ethics.engine-missing.
    """
    facts = hub.release_facts(ctx, release)
    yardsticks = sorted({source for source, relation in facts.lineage if relation == YARDSTICK})
    if len(yardsticks) != 1:
        raise Refused("ethics.evaluation-data-not-named", count=len(yardsticks))
    dataset = hub.revision_facts(ctx, yardsticks[0])
    declared = dataset.card.get("other", {}).get("evaluation")
    if not isinstance(declared, dict):
        raise Refused("ethics.evaluation-undeclared")
    try:
        job, data = (_of_texts if "task" in declared else _of_a_table)(ctx, facts, dataset, declared)
    except Unfit as unfit:
        params: dict[str, Any] = unfit.params
        raise Refused(unfit.code, **params) from unfit
    for source in hub.sources(ctx, facts.revision):  # also the yardstick itself, when an ancestor has learned from it
        if source.is_learned_from and data in {f.sha256 for f in hub.revision_facts(ctx, source.revision).files}:
            raise Refused("ethics.evaluation-data-trained-on", revision=source.revision)
    return {"dataset_revision": dataset.revision, "job": job.to_json()}


@contextmanager
def job_on(kernel: Kernel, job: Mapping[str, Any]) -> Iterator[Job | TextJob]:
    """The job with this machine's paths in place of digests; the files are there for as long as the context is."""
    with ExitStack() as held:

        def path(sha256: str) -> str:
            return str(held.enter_context(kernel.blobs.local(sha256)).resolve())

        if "task" in job:
            asked = TextJob.from_json(job)
            files = {part: path(sha256) for part, sha256 in asked.files.items()}
            yield replace(asked, files=files, data=path(asked.data))
        else:
            yield Job.from_json({**job, "model": path(job["model"]), "data": path(job["data"])})


def check_result(job: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """The result, when it is of the very bytes that the job names. Raises Broken."""
    model, files = (job["files"][MODEL], job["files"]) if "task" in job else (job["model"], None)
    if (result["model_sha256"], result.get("files"), result["data_sha256"]) != (model, files, job["data"]):
        raise Broken("ethics.evaluation-failed", detail="the bytes evaluated are not the bytes named")
    return dict(result)


# --- texts -----------------------------------------------------------------------------------------------------------


def _of_texts(
    ctx: Read, facts: hub.ReleaseFacts, dataset: hub.RevisionFacts, declared: Mapping[str, Any]
) -> tuple[TextJob, str]:
    """The job, and the digest of its records. Raises Refused, Unfit, Unavailable."""
    records = _only(dataset.files, "evaluation-data", tuple(FORMS), "ethics.evaluation-data-not-found")
    if records.size > TEXT_BYTES:
        raise Refused("ethics.data-file-too-large", limit_bytes=TEXT_BYTES)
    form = FORMS[PurePosixPath(records.path.lower()).suffix]
    engine, parts = chosen(facts.release, facts.files)
    files = {part.part: part.sha256 for part in parts}
    job = text_job(declared, files=files, data=records.sha256, form=form)
    if ENGINES[job.task] != engine:
        raise Refused("ethics.evaluation-task-unfit", task=job.task, engine=engine)
    if find_spec(NEEDS[engine]) is None:
        raise Unavailable(
            "ethics.engine-missing", retry_after_seconds=LATER_SECONDS, engine=engine, package=NEEDS[engine]
        )
    return job, records.sha256


# --- tables ----------------------------------------------------------------------------------------------------------


def _of_a_table(
    ctx: Read, facts: hub.ReleaseFacts, dataset: hub.RevisionFacts, declared: Mapping[str, Any]
) -> tuple[Job, str]:
    """The job, and the digest of its records. Raises Refused, Unfit."""
    model = _only(facts.files, "parameters", (".onnx",), "ethics.evaluation-model-not-found").sha256
    data = _only(dataset.files, "evaluation-data", (".csv",), "ethics.evaluation-data-not-found").sha256
    if not declared.keys() <= {"target", "features", "subgroup", "seed"}:
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
    return Job.from_json({"seed": 0, **declared, "features": features, "model": model, "data": data}), data


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


def _only(files: Sequence[Any], component: str, endings: tuple[str, ...], code: str) -> Any:
    """The one file of this component and one of these endings. Raises Refused."""
    found = [file for file in files if file.component == component and file.path.lower().endswith(endings)]
    if len(found) != 1:
        raise Refused(code, count=len(found))
    return found[0]
