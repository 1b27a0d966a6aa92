"""Evaluation of a binary classifier on records it has never seen.

The idea: a job (JSON) on standard input, one canonical JSON document on standard output, so that the result has a
digest that means something. A donated model is somebody else's program: `sandbox.py` runs this file in a bounded
child. Invariants: the same model, data, seed and libraries give the same bytes; what cannot be known is null, not 0; a
rate over fewer than `MINIMUM_CASES` cases is not reported; every failure is a code with parameters and exit status 2.
The input's name and width come from the model itself. Label 1 is the positive class.

Sources: Wilson interval, E. B. Wilson, JASA 22 (1927) 209-212. Brier score, Brier, Mon. Weather Rev. 78 (1950) 1-3.
Calibration error with equal-width bins, Naeini, Cooper and Hauskrecht, AAAI 2015. Percentile bootstrap, Efron and
Tibshirani 1993, ch. 13. Figures by subgroup, fairlearn `MetricFrame`.

This file imports nothing of ours and runs alone (`python evaluate.py < job.json`): releases ship it as evaluation code.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SCHEMA = "gongqi.evaluation/1"
BINS = 10  # calibration bins of equal width; the customary number, and coarse enough for a few hundred records
RESAMPLES = 1000  # bootstrap; the 2.5 % and 97.5 % points then rest on 25 resamples each
Z95 = 1.959963984540054  # the normal quantile of a 95 % interval
MINIMUM_CASES = 10  # below this a rate says more about chance than about the model
MINIMUM_RECORDS = 30  # ten for each of three subgroups
MAXIMUM_RECORDS = 200_000  # a thousand resamples of more would outlast any reasonable time limit
BATCH_RECORDS = 4096  # bounds the memory of one inference
DECIMALS = 6  # float32 arithmetic differs in the seventh digit from one processor to another
SUBGROUP_NOTE = "ethics.note.terciles-not-demographics"


class Unfit(Exception):
    """The model or the data cannot be evaluated; `code` and `params` say why, for people."""

    def __init__(self, code: str, **params: str | int) -> None:
        super().__init__(code, params)
        self.code, self.params = code, params


@dataclass(frozen=True, slots=True)
class Job:
    """What to evaluate: `subgroup` names the numeric column whose terciles are compared."""

    model: str
    data: str
    target: str
    features: tuple[str, ...]
    subgroup: str | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        subgroup = {"column": self.subgroup, "kind": "terciles"} if self.subgroup else None
        return {**asdict(self), "features": list(self.features), "subgroup": subgroup}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Job:
        subgroup = fields.get("subgroup")
        if subgroup and subgroup.get("kind") != "terciles":
            raise Unfit("ethics.subgroup-kind-unknown", kind=str(subgroup.get("kind"))[:64])
        return cls(
            model=str(fields["model"]),
            data=str(fields["data"]),
            target=str(fields["target"]),
            features=tuple(str(name) for name in fields["features"]),
            subgroup=str(subgroup["column"]) if subgroup else None,
            seed=int(fields.get("seed", 0)),
        )


@dataclass(frozen=True, slots=True)
class Records:
    """The held-out records: features [N, F] float32, labels [N] 0 or 1, subgroup values [N] or None."""

    features: np.ndarray
    labels: np.ndarray
    subgroup: np.ndarray | None


def evaluate(job: Job) -> dict[str, Any]:
    """Run the model on the held-out records and measure it. Raises Unfit."""
    records = read_records(Path(job.data), target=job.target, features=job.features, subgroup=job.subgroup)
    predicted, probability = predict(Path(job.model), records.features)
    hits = predicted == records.labels
    groups = None if records.subgroup is None else tercile_groups(records.subgroup)
    metrics, confusion, bins = _overall(records.labels, predicted, probability)
    subgroups = None
    if groups is not None:
        table, gaps = _by_subgroup(records, predicted, groups)
        subgroups = {"column": job.subgroup, **table}
        metrics |= gaps
    result = {
        "schema": SCHEMA,
        "model_sha256": sha256_of(Path(job.model)),
        "data_sha256": sha256_of(Path(job.data)),
        "target": job.target,
        "records": len(hits),
        "positives": int(records.labels.sum()),
        "metrics": metrics,
        "intervals": {
            "accuracy": list(wilson(int(hits.sum()), len(hits))),
            **bootstrap(records.labels, probability, hits, groups, seed=job.seed),
        },
        "confusion": confusion,
        "calibration": bins,
        "subgroups": subgroups,
        "subgroup_note": SUBGROUP_NOTE if subgroups else None,
        "hits": packed(hits),
        "method": _method(job.seed),
    }
    return rounded(result)


def _method(seed: int) -> dict[str, Any]:
    """By what it was measured. What measures takes seconds to import: not before the model has answered."""
    import fairlearn
    import onnxruntime
    import sklearn

    return {
        "seed": seed,
        "resamples": RESAMPLES,
        "bins": BINS,
        "minimum_cases": MINIMUM_CASES,
        "onnxruntime": onnxruntime.__version__,
        "scikit-learn": sklearn.__version__,
        "fairlearn": fairlearn.__version__,
    }


def read_records(path: Path, *, target: str, features: Sequence[str], subgroup: str | None) -> Records:
    """Read the CSV file with a header row that holds the held-out records. Raises Unfit."""
    import numpy as np

    columns = [*features, target, *([subgroup] if subgroup else [])]
    rows: list[list[float]] = []
    with path.open(encoding="utf-8", newline="") as file:
        try:
            reader = csv.DictReader(file)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise Unfit("ethics.data-column-missing", column=column[:64])
            for number, row in enumerate(reader, start=1):
                if number > MAXIMUM_RECORDS:
                    raise Unfit("ethics.data-too-large", maximum=MAXIMUM_RECORDS)
                rows.append([_number(row[column], column, number) for column in columns])
        except (csv.Error, UnicodeDecodeError):
            raise Unfit("ethics.data-not-csv") from None
    if len(rows) < MINIMUM_RECORDS:
        raise Unfit("ethics.data-too-small", records=len(rows), minimum=MINIMUM_RECORDS)
    table = np.asarray(rows, dtype=np.float64)
    labels = table[:, len(features)]
    if not np.isin(labels, (0, 1)).all():
        raise Unfit("ethics.data-labels-not-binary", column=target[:64])
    if labels.min() == labels.max():
        raise Unfit("ethics.data-one-class", column=target[:64])
    return Records(table[:, : len(features)].astype(np.float32), labels.astype(int), table[:, -1] if subgroup else None)


def _number(text: str | None, column: str, row: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Unfit("ethics.data-not-a-number", column=column[:64], row=row)
    return value


def predict(path: Path, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The model's labels [N] and its probabilities of class 1 [N] for the features [N, F]. Raises Unfit."""
    import numpy as np
    import onnxruntime

    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")  # compiled, without type stubs
    errors = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
    errors += (state.NotImplemented, state.RuntimeException)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # the exception says it all
    try:
        # From bytes, in an empty directory: a model that points at files beside it finds none, whatever it names.
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except errors:
        raise Unfit("ethics.model-does-not-load") from None
    name = _input_name(session.get_inputs(), width=features.shape[1])
    kinds = {output.name: output.type for output in session.get_outputs()}
    label, probabilities = _output_names(kinds)
    labels, positive = [], []
    for start in range(0, len(features), BATCH_RECORDS):
        batch = features[start : start + BATCH_RECORDS]
        try:
            answer_labels, answer = session.run([label, probabilities], {name: batch})
        except errors as error:
            is_memory = "allocate memory" in str(error) or "bad_alloc" in str(error)
            raise Unfit("ethics.evaluation-out-of-memory" if is_memory else "ethics.model-does-not-run") from None
        answer_labels, answer = np.asarray(answer_labels), np.asarray(answer)
        if answer.shape != (len(batch), 2) or answer_labels.shape != (len(batch),):
            raise Unfit("ethics.model-output-shape", got=f"{answer_labels.shape} {answer.shape}"[:64])
        labels.append(answer_labels)
        positive.append(answer[:, 1].astype(np.float64))
    predicted, probability = np.concatenate(labels), np.concatenate(positive)
    if not np.isfinite(probability).all():
        raise Unfit("ethics.model-not-finite", records=int((~np.isfinite(probability)).sum()))
    if probability.min() < 0 or probability.max() > 1:
        raise Unfit("ethics.model-not-probabilities")
    if not np.isin(predicted, (0, 1)).all():
        raise Unfit("ethics.model-labels-not-binary")
    return predicted.astype(int), probability


def _input_name(inputs: Sequence[Any], *, width: int) -> str:
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        got = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
        raise Unfit("ethics.model-input-kind", got=got[:200])
    declared = inputs[0].shape[1]
    if isinstance(declared, int) and declared != width:
        raise Unfit("ethics.model-input-width", declared=declared, features=width)
    return inputs[0].name


def _output_names(kinds: Mapping[str, str]) -> tuple[str, str]:
    """The names of the integer output (labels) and of the float output (probabilities)."""
    label = [name for name, kind in kinds.items() if kind == "tensor(int64)"]
    probabilities = [name for name, kind in kinds.items() if kind == "tensor(float)"]
    if len(label) != 1 or len(probabilities) != 1:
        raise Unfit("ethics.model-output-kind", got=", ".join(f"{n} {k}" for n, k in kinds.items())[:200])
    return label[0], probabilities[0]


def _overall(labels: np.ndarray, predicted: np.ndarray, probability: np.ndarray) -> tuple[dict, dict, list]:
    from sklearn import metrics as sk

    names = ("true_negative", "false_positive", "false_negative", "true_positive")
    confusion = dict(zip(names, map(int, sk.confusion_matrix(labels, predicted, labels=[0, 1]).ravel()), strict=True))
    bins = calibration_bins(labels, probability)
    metrics = {
        "records": len(labels),
        "accuracy": float(sk.accuracy_score(labels, predicted)),
        "balanced_accuracy": float(sk.balanced_accuracy_score(labels, predicted)),
        "roc_auc": float(sk.roc_auc_score(labels, probability)),
        "brier": float(sk.brier_score_loss(labels, probability)),
        "expected_calibration_error": calibration_error(bins),
        "false_negative_rate": confusion["false_negative"] / int(labels.sum()),
        "selection_rate": float(predicted.mean()),
    }
    return metrics, confusion, bins


def calibration_bins(labels: np.ndarray, probability: np.ndarray) -> list[dict[str, Any]]:
    """For each bin of the probability: how often class 1 was forecast, and how often it came (null in an empty bin)."""
    place = bin_numbers(probability)
    bins = []
    for number in range(BINS):
        inside = place == number
        count = int(inside.sum())
        mean, observed = (float(probability[inside].mean()), float(labels[inside].mean())) if count else (None, None)
        bounds = {"from": number / BINS, "to": (number + 1) / BINS}
        bins.append({**bounds, "count": count, "mean": mean, "observed": observed})
    return bins


def calibration_error(bins: Sequence[Mapping[str, Any]]) -> float:
    filled = [each for each in bins if each["count"]]
    return sum(b["count"] * abs(b["observed"] - b["mean"]) for b in filled) / sum(b["count"] for b in filled)


def bin_numbers(probability: np.ndarray) -> np.ndarray:
    """The bin of each probability; the last bin is closed on the right, so that 1.0 has a place."""
    import numpy as np

    return np.minimum((probability * BINS).astype(int), BINS - 1)


def tercile_groups(values: np.ndarray) -> np.ndarray:
    """0, 1 or 2 for the lower, middle and upper third of the values. Raises Unfit when a third would be empty."""
    import numpy as np

    groups = np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values, side="left")
    if len(np.unique(groups)) != 3:
        raise Unfit("ethics.subgroup-without-spread")
    return groups


def _by_subgroup(records: Records, predicted: np.ndarray, groups: np.ndarray) -> tuple[dict[str, Any], dict]:
    import numpy as np
    from fairlearn.metrics import MetricFrame, false_negative_rate, selection_rate
    from sklearn.metrics import accuracy_score

    measures = {
        "accuracy": accuracy_score, "false_negative_rate": false_negative_rate, "selection_rate": selection_rate,
    }  # fmt: skip
    frame: Any = MetricFrame(metrics=measures, y_true=records.labels, y_pred=predicted, sensitive_features=groups)
    assert records.subgroup is not None
    table = []
    for number, name in enumerate(("low", "middle", "high")):
        inside = groups == number
        count, positives = int(inside.sum()), int(records.labels[inside].sum())
        figures = {key: float(frame.by_group[key][number]) for key in measures}
        table.append(
            {
                "name": name,
                "from": float(records.subgroup[inside].min()),
                "to": float(records.subgroup[inside].max()),
                "records": count,
                "positives": positives,
                "accuracy": figures["accuracy"],
                "accuracy_interval": list(wilson(int((predicted == records.labels)[inside].sum()), count)),
                "false_negative_rate": figures["false_negative_rate"] if positives >= MINIMUM_CASES else None,
                "selection_rate": figures["selection_rate"],
            }
        )
    gaps = {f"{key}_gap": gap_of([row[key] for row in table]) for key in measures}
    cuts = [float(cut) for cut in np.quantile(records.subgroup, [1 / 3, 2 / 3])]
    return {"kind": "terciles", "cuts": cuts, "groups": table}, gaps


def gap_of(values: Sequence[float | None]) -> float | None:
    """Largest minus smallest of the figures that may be reported; unknown when fewer than two may."""
    known = [value for value in values if value is not None]
    return max(known) - min(known) if len(known) > 1 else None


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a proportion by Wilson's score method; sound at 0 and 1, where the normal one is empty."""
    centre = successes + Z95**2 / 2
    half = Z95 * math.sqrt(successes * (trials - successes) / trials + Z95**2 / 4)
    return max(0.0, (centre - half) / (trials + Z95**2)), min(1.0, (centre + half) / (trials + Z95**2))


def bootstrap(
    labels: np.ndarray, probability: np.ndarray | None, hits: np.ndarray, groups: np.ndarray | None, *, seed: int
) -> dict[str, list[float]]:
    """95 % percentile intervals of what is not a plain proportion, by drawing the records again with replacement.

    Each figure is a sum over records, so a resample is one vector of how often each record was drawn.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    count, size = len(labels), 0 if groups is None else int(groups.max()) + 1
    known = np.zeros(count) if probability is None else probability
    squares, excess, place = (known - labels) ** 2, labels - known, bin_numbers(known)
    figures: dict[str, list[float]] = {"brier": [], "expected_calibration_error": [], "accuracy_gap": []}
    for _ in range(RESAMPLES):
        times = np.bincount(draw.integers(count, size=count), minlength=count)
        if probability is not None:
            figures["brier"].append(float(times @ squares) / count)
            excess_by_bin = np.bincount(place, weights=times * excess, minlength=BINS)
            figures["expected_calibration_error"].append(float(np.abs(excess_by_bin).sum()) / count)
        if groups is not None:
            drawn, right = (np.bincount(groups, weights=each, minlength=size) for each in (times, times * hits))
            if drawn.min() > 0:
                figures["accuracy_gap"].append(float(np.ptp(right / drawn)))
    return {
        name: [float(point) for point in np.quantile(values, [0.025, 0.975])]
        for name, values in figures.items()
        if values
    }


def packed(hits: np.ndarray) -> str:
    """One bit a record, in the order of the file: two evaluations on the same data can then be compared pairwise."""
    import numpy as np

    return np.packbits(hits).tobytes().hex()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return value


def main(measure: Callable[[Any], dict[str, Any]] = lambda asked: evaluate(Job.from_json(asked))) -> int:
    """The door of the child process: a job in, a result or an error out."""
    import rfc8785

    try:
        result, status = measure(json.load(sys.stdin)), 0
    except Unfit as unfit:
        result, status = {"error": unfit.code, "params": unfit.params}, 2
    except MemoryError:
        result, status = {"error": "ethics.evaluation-out-of-memory", "params": {}}, 2
    except Exception:
        traceback.print_exc()
        result, status = {"error": "ethics.evaluation-failed", "params": {}}, 2
    sys.stdout.buffer.write(rfc8785.dumps(result) + b"\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
