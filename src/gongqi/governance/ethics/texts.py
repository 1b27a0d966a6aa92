"""Evaluation of a model of texts on records it has never seen: one that writes (GGUF), or one that embeds (ONNX).

The idea is that of evaluate.py, whose statistics it uses: a job on standard input, one canonical document on standard
output, run in a bounded child (sandbox.py). What differs is how a record comes to be right (tasks.py), and that the model
runs in the engine that will serve it (`serving.engines`). The child gives up its files before it looks at the model.

Multiple choice goes by the likelihood of each choice after the prompt; nothing is written. `accuracy` takes the likeliest,
`accuracy_norm` the likeliest a character: `acc` and `acc_norm` of lm-evaluation-harness. The choices' likelihoods, brought
to a sum of one, are the model's confidence, of which calibration and Brier score are those of "the likeliest is right"
(Guo et al., ICML 2017). Exact match goes by the line that is written without chance, compared as Unicode's NFKC, without
case, white space run together. Retrieval ranks the different answers of all records by their cosine with the prompt:
`accuracy` is recall@1, and `ndcg_at_10` is what MTEB ranks models by. What is as likely or as near as another is behind
it.

Figures above chance: what is right beyond what guessing gives, over all beyond it, (a - c) / (1 - c); Cohen, Educ. Psychol.
Meas. 20 (1960) 37-46, with the chance of a guess among the choices.
"""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gongqi.governance.ethics.evaluate import (
    BINS,
    MINIMUM_CASES,
    RESAMPLES,
    Unfit,
    bootstrap,
    calibration_bins,
    calibration_error,
    gap_of,
    main,
    packed,
    rounded,
    sha256_of,
    wilson,
)
from gongqi.governance.ethics.prompts import Records, database, read_records
from gongqi.governance.ethics.tasks import ENGINES, EXACT_MATCH, MULTIPLE_CHOICE, RETRIEVAL, VALUES, TextJob
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.sandbox import confine
from gongqi.resources.serving.engines.encoder import Encoder
from gongqi.resources.serving.engines.parts import LLAMA, MODEL
from gongqi.resources.serving.engines.writer import Text, Wishes, Writer

if TYPE_CHECKING:
    import numpy as np

SCHEMA = "gongqi.text-evaluation/1"
SUBGROUP_NOTE = "ethics.note.values-as-declared"
THREADS = 4  # at most: beside an evaluation a server has calls to answer
CONTEXT_TOKENS = 4096  # of a prompt with what goes on from it; memory is set aside for all of it
SPARE_TOKENS = 16  # beyond those of the answer: what is written longer than that is another answer
BATCH_TOKENS = 8192  # of texts that are embedded together, padding included
MAXIMUM_GROUPS = 50  # a picture of more says nothing
NEARBY = 1e-6  # cosines that float32 cannot tell apart
LIBRARIES = {LLAMA: ("llama-cpp-python",), "onnx": ("onnxruntime", "tokenizers")}


@dataclass(frozen=True, slots=True)
class Answered:
    """Which records came out right; how sure the model was of each, where it says; how often a guess is right."""

    hits: np.ndarray
    chance: float
    confidence: np.ndarray | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


def evaluate(job: TextJob) -> dict[str, Any]:
    """Ask the model every record and measure what it says. Raises Unfit."""
    records = read_records(job)
    answered = ASKED[job.task](_engine(job), records, job.delimiter)
    return rounded(_result(job, records, answered))


def _engine(job: TextJob) -> Any:
    threads = min(THREADS, os.cpu_count() or 1)
    try:
        if ENGINES[job.task] == LLAMA:
            return Writer(Path(job.files[MODEL]), context_tokens=CONTEXT_TOKENS, threads=threads)
        return Encoder({part: Path(path).read_bytes() for part, path in job.files.items()}, threads=threads)
    except Refused as error:
        raise Unfit(error.code, reason=str(error.params.get("reason"))[:200]) from error
    except Unavailable:
        raise Unfit("ethics.model-does-not-run") from None


# ---- the three tasks


def choose(writer: Any, records: Records, delimiter: str) -> Answered:
    """Which choice is likeliest after each prompt. Raises Unfit."""
    import numpy as np

    hits, norms, sure = [], [], []
    for row, (prompt, choices, label) in enumerate(
        zip(records.prompts, records.choices, records.labels, strict=True), start=1
    ):
        begun = writer.prompt(prompt.rstrip())
        wholes = [writer.prompt(prompt + delimiter + choice) for choice in choices]
        size = _shared(begun, wholes)
        longest = max(map(len, wholes))
        if not 0 < size < longest <= writer.context:
            raise Unfit("ethics.prompt-unfit", row=row, tokens=longest, maximum=writer.context)
        found = np.array(writer.likelihoods(wholes[0][:size], [whole[size:] for whole in wholes]))
        if not np.isfinite(found).all():
            raise Unfit("ethics.model-not-finite", records=1)
        hits.append(_is_first(found, label))
        norms.append(_is_first(found / [len(choice) for choice in choices], label))
        shares = np.exp(found - found.max())
        sure.append(float(shares.max() / shares.sum()))
    chance = float(np.mean([1 / len(choices) for choices in records.choices]))
    return Answered(np.array(hits), chance, np.array(sure), {"accuracy_norm": float(np.mean(norms))})


def write(writer: Any, records: Records, delimiter: str) -> Answered:
    """Whether the line written after each prompt is the answer. Raises Unfit."""
    import numpy as np

    hits = []
    for row, (prompt, answer) in enumerate(zip(records.prompts, records.answers, strict=True), start=1):
        tokens, limit = writer.prompt(prompt), len(writer.tokens(answer)) + SPARE_TOKENS
        if len(tokens) + limit > writer.context:
            raise Unfit("ethics.prompt-unfit", row=row, tokens=len(tokens) + limit, maximum=writer.context)
        line, said = Text(["\n"]), ""
        for step in writer.steps(tokens, Wishes(temperature=0.0), limit):
            said += line.feed(step.text)
            if line.has_stopped:
                break
        hits.append(_plain(said + line.end()) == _plain(answer))
    return Answered(np.array(hits), 0.0)


def find(encoder: Any, records: Records, delimiter: str) -> Answered:
    """How near to each prompt its own answer is among the different answers of all records. Raises Unfit."""
    import numpy as np

    answers = list(dict.fromkeys(records.answers))
    place = {answer: number for number, answer in enumerate(answers)}
    documents, prompts = _directions(encoder, answers), _directions(encoder, records.prompts)
    ranks = []
    for prompt, answer in zip(prompts, records.answers, strict=True):
        near = documents @ prompt
        ranks.append(int((near >= near[place[answer]] - NEARBY).sum()))  # itself, and all that are not behind it
    rank = np.array(ranks)
    gains = np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0)
    return Answered(rank == 1, 1 / len(answers), None, {"ndcg_at_10": float(gains.mean())})


ASKED = {MULTIPLE_CHOICE: choose, EXACT_MATCH: write, RETRIEVAL: find}


def _is_first(found: np.ndarray, label: int) -> bool:
    """Whether this is the largest; to be as large as another is not enough, or who knows nothing is right by place."""
    return bool((found >= found[label]).sum() == 1)


def _shared(begun: Sequence[int], wholes: Sequence[Sequence[int]]) -> int:
    """How many tokens of the prompt begin all of these: where a choice merges into the prompt's last token, fewer."""
    shared = 0
    for tokens in zip(begun, *wholes, strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    return min(shared, min(map(len, wholes)) - 1)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _directions(encoder: Any, texts: Sequence[str]) -> np.ndarray:
    """Vectors of length one, [texts, dimensions], in the order of the texts; those of like length are run together."""
    import numpy as np

    rows = encoder.tokens(texts)
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    found = np.zeros((len(rows), encoder.dimensions), np.float32)
    while order:
        fitting = max(1, BATCH_TOKENS // max(1, len(rows[order[-1]])))
        batch, order = order[-fitting:], order[:-fitting]
        try:
            found[batch] = encoder.vectors([rows[number] for number in batch])
        except Unavailable:
            raise Unfit("ethics.model-does-not-run") from None
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


# ---- the figures


def _result(job: TextJob, records: Records, answered: Answered) -> dict[str, Any]:
    hits, count = answered.hits, len(answered.hits)
    metrics = {
        "records": count, "accuracy": float(hits.mean()),
        "chance_corrected_accuracy": (float(hits.mean()) - answered.chance) / (1 - answered.chance)
        if answered.chance < 1 else None,
        **answered.figures,
    }  # fmt: skip
    bins: list[dict[str, Any]] = []
    if answered.confidence is not None:
        bins = calibration_bins(hits, answered.confidence)
        metrics["brier"] = float(((answered.confidence - hits) ** 2).mean())
        metrics["expected_calibration_error"] = calibration_error(bins)
    intervals = {
        "accuracy": list(wilson(int(hits.sum()), count)),
        **bootstrap(hits.astype(int), answered.confidence, hits, None, seed=job.seed),
    }
    subgroups = None
    if records.groups is not None:
        subgroups = {"column": job.subgroup, "kind": VALUES, "groups": _by_value(records.groups, hits)}
        metrics["accuracy_gap"] = gap_of([row["accuracy"] for row in subgroups["groups"]])
        intervals |= _gap_interval(records.groups, subgroups["groups"], hits, seed=job.seed)
    return {
        "schema": SCHEMA,
        "task": job.task,
        "model_sha256": sha256_of(Path(job.files[MODEL])),
        "files": {part: sha256_of(Path(path)) for part, path in job.files.items()},
        "data_sha256": sha256_of(Path(job.data)),
        "target": job.columns.get("label") or job.columns["answer"],
        "records": count,
        "chance": answered.chance,
        "metrics": metrics,
        "intervals": intervals,
        "calibration": bins,
        "subgroups": subgroups,
        "subgroup_note": SUBGROUP_NOTE if subgroups else None,
        "hits": packed(hits),
        "method": {
            "seed": job.seed, "resamples": RESAMPLES, "bins": BINS, "minimum_cases": MINIMUM_CASES,
            **{name: version(name) for name in (*LIBRARIES[ENGINES[job.task]], "fairlearn")},
        },
    }  # fmt: skip


def _by_value(groups: Sequence[str], hits: np.ndarray) -> list[dict[str, Any]]:
    """The figures of each group, in the order of their names. Raises Unfit."""
    import numpy as np
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    names = sorted(set(groups))
    if len(names) > MAXIMUM_GROUPS:
        raise Unfit("ethics.subgroups-too-many", groups=len(names), maximum=MAXIMUM_GROUPS)
    right = np.ones(len(hits), int)
    frame: Any = MetricFrame(
        metrics={"accuracy": accuracy_score}, y_true=right, y_pred=hits.astype(int), sensitive_features=list(groups)
    )
    table = []
    for name in names:
        inside = np.array([each == name for each in groups])
        count, is_enough = int(inside.sum()), int(inside.sum()) >= MINIMUM_CASES
        table.append(
            {
                "name": name, "records": count,
                "accuracy": float(frame.by_group["accuracy"][name]) if is_enough else None,
                "accuracy_interval": list(wilson(int(hits[inside].sum()), count)) if is_enough else None,
            }
        )  # fmt: skip
    return table


def _gap_interval(
    groups: Sequence[str], table: Sequence[Mapping[str, Any]], hits: np.ndarray, *, seed: int
) -> dict[str, list[float]]:
    """Of the gap between the groups that are large enough to be reported; none when fewer than two are."""
    import numpy as np

    numbers = {row["name"]: number for number, row in enumerate(row for row in table if row["accuracy"] is not None)}
    if len(numbers) < 2:
        return {}
    inside = np.array([each in numbers for each in groups])
    own = np.array([numbers[each] for each in groups if each in numbers])
    return bootstrap(hits[inside].astype(int), None, hits[inside], own, seed=seed)


# ---- the child


def measured(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Confined to the open files of the job before anything of the model is read."""
    job = TextJob.from_json(asked)
    _import(job)
    with contextlib.ExitStack() as held:
        paths = {**job.files, "data of the job": job.data}
        opened = {name: held.enter_context(Path(path).open("rb")).fileno() for name, path in paths.items()}
        confine.leave_files(sys.path, opened.values())
        places = {name: f"/dev/fd/{descriptor}" for name, descriptor in opened.items()}
        data = places.pop("data of the job")
        return evaluate(replace(job, files=places, data=data))


def _import(job: TextJob) -> None:
    """All that is used, while a library of the system can still be loaded."""
    os.environ["OMP_WAIT_POLICY"] = "passive"  # threads that wait for each other do not hold a processor while they do
    import sklearn.metrics  # noqa: F401

    if ENGINES[job.task] == LLAMA:
        import llama_cpp  # noqa: F401  # pyright: ignore[reportMissingImports] - an extra
    else:
        import tokenizers  # noqa: F401
    if job.form == "parquet":
        database()


if __name__ == "__main__":
    own = os.dup(1)  # what a library prints goes to the other stream
    os.dup2(2, 1)
    sys.stdout = os.fdopen(own, "w")
    status = main(measured)
    sys.stdout.flush()
    sys.exit(status)
