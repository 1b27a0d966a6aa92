"""What the hospital, the laboratory and the application do on their own machines in the worked example.

The data are real: Breast Cancer Wisconsin (Diagnostic), UCI dataset 17, CC BY 4.0, as scikit-learn ships it. They are
divided once, by `SEED`:

- `first`: the records of the hospital's first revision;
- `returned`: what the application meets later, and whose true labels it sends back;
- `held_out`: the foundation's evaluation set, never trained on, stratified by diagnosis.

How the seed was chosen: not for the best story but for the middle one. Over the seeds 0 to 100 a model trained on
first + returned has a lower (better) Brier score on the held-out records than one trained on first alone in 91 of 101,
and a higher accuracy in 79 (lower in 13); `SEED` is the division whose gain in Brier score is the median of the 101.

Everything here is deterministic: the same call writes the same bytes. scikit-learn is imported only when called, so
that the command line stays quick. The model is made by the very `train.py` that is donated with it, run as a program.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

SEED = 59  # the median division, see above; a test computes it again
FIRST_SHARE = 0.2  # of the records that may be trained on; small, as a first donation is
HELD_OUT_RECORDS = 171  # 30 % of 569
RECORD, TARGET, SUBGROUP = "record", "malignant", "mean_radius"
MATERIALS = Path(__file__).parent / "materials"
TRAINING_SECONDS = 120  # a hundred times what it takes


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a donation: its path in the folder, the kind of component it is, its licence."""

    path: str
    component: str
    license: str


# A licence made for software on the programs, and one made for everything else on the rest.
MODEL_PARTS = (
    Part("README.md", "model-card", "CC-BY-4.0"),
    Part("DATA.md", "data-card", "CC-BY-4.0"),
    Part("REPORT.md", "technical-report", "CC-BY-4.0"),
    Part("architecture.py", "architecture", "Apache-2.0"),
    Part("evaluate.py", "evaluation-code", "Apache-2.0"),
    Part("infer.py", "inference-code", "Apache-2.0"),
    Part("model.onnx", "parameters", "CC-BY-4.0"),
    Part("results.json", "evaluation-results", "CC-BY-4.0"),
    Part("train.py", "training-code", "Apache-2.0"),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What the application meets in one go: the records now, the true labels when the diagnosis is known."""

    records: tuple[str, ...]
    features: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The whole dataset: names of records and columns, features, labels (1 is malignant)."""

    records: tuple[str, ...]
    columns: tuple[str, ...]
    features: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Division:
    """Row numbers of the three parts; together they are all rows, each once."""

    first: tuple[int, ...]
    returned: tuple[int, ...]
    held_out: tuple[int, ...]


@cache
def table() -> Table:
    """The 569 records as UCI gives them; only the sense of the label is turned (scikit-learn codes malignant as 0)."""
    from sklearn.datasets import load_breast_cancer

    bunch: Any = load_breast_cancer()
    return Table(
        records=tuple(f"wdbc-{number:03d}" for number in range(1, len(bunch.data) + 1)),
        columns=tuple(str(name).replace(" ", "_") for name in bunch.feature_names),
        features=tuple(tuple(float(value) for value in row) for row in bunch.data),
        labels=tuple(1 - int(label) for label in bunch.target),
    )


def divide(seed: int = SEED) -> Division:
    """Divide the records, each time with the same shares of malignant ones."""
    from sklearn.model_selection import train_test_split

    labels = table().labels

    def split(rows: Sequence[int], second: int) -> tuple[list[int], list[int]]:
        parts: Any = train_test_split(rows, stratify=[labels[row] for row in rows], random_state=seed, test_size=second)
        return parts[0], parts[1]

    trainable, held_out = split(range(len(labels)), HELD_OUT_RECORDS)
    first, returned = split(trainable, len(trainable) - round(FIRST_SHARE * len(trainable)))
    # The records return in the order of the division, which is random; the files are sorted.
    return Division(tuple(sorted(first)), tuple(returned), tuple(sorted(held_out)))


def make_dataset(folder: Path) -> list[Part]:
    """The hospital's first revision."""
    rows = [_row(number) for number in divide().first]
    return _write_dataset(folder, rows, "这是第一个版本。 This is the first revision.")


def extend_dataset(folder: Path, previous: Path, outcomes: Sequence[Batch]) -> list[Part]:
    """The next revision: the records of the `previous` data.csv and those whose outcome the application returned."""
    with previous.open(encoding="utf-8", newline="") as file:
        rows = {row[RECORD]: row for row in csv.DictReader(file)}
    before = len(rows)
    for batch in outcomes:
        for record, features, label in zip(batch.records, batch.features, batch.labels, strict=True):
            rows[record] = _named(record, features, label)
    added = len(rows) - before
    story = f"本版本新增 {added} 条由应用回流的记录。 This revision adds {added} records that an application returned."
    return _write_dataset(folder, [rows[record] for record in sorted(rows)], story)


def make_evaluation_set(folder: Path) -> list[Part]:
    """The held-out records; the card says how a model is to be evaluated on them."""
    extra = {
        "evaluation": {
            "target": TARGET,
            "features": list(table().columns),
            "subgroup": {"column": SUBGROUP, "kind": "terciles"},
            "seed": 0,
        }
    }
    rows = [_row(number) for number in divide().held_out]
    story = "这些记录只用于评测，不得用于训练。 These records are for evaluation only and must not be trained on."
    return _write_dataset(folder, rows, story, component="evaluation-data", extra=extra)


def outcomes(batch_size: int = 53) -> Iterator[Batch]:
    """The records that the application meets after release 1, in batches; six of them with the default size."""
    returned, whole = divide().returned, table()
    for start in range(0, len(returned), batch_size):
        rows = returned[start : start + batch_size]
        yield Batch(
            tuple(whole.records[row] for row in rows),
            tuple(whole.features[row] for row in rows),
            tuple(whole.labels[row] for row in rows),
        )


def train(datasets: Sequence[Path], folder: Path, *, data_card: Path, lineage: Sequence[str]) -> list[Part]:
    """Train on the data.csv files, and write everything that is donated with the model.

    `lineage` names the dataset revisions (asset@digest). Raises subprocess.CalledProcessError when training fails.
    """
    from gongqi.governance.ethics import evaluate

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("architecture.py", "train.py", "infer.py"):
        shutil.copyfile(MATERIALS / name, folder / name)
    shutil.copyfile(evaluate.__file__, folder / "evaluate.py")
    shutil.copyfile(data_card, folder / "DATA.md")
    data = [str(path.resolve()) for path in datasets]
    command = [sys.executable, "-B", "train.py", "model.onnx", "results.json", *data]
    # One thread: the order of floating-point sums, and so the last bit of a weight, depends on their number.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=TRAINING_SECONDS)
    results = json.loads((folder / "results.json").read_text("utf-8"))
    _write_text(folder / "README.md", "model.md", {**results, "lineage": json.dumps(list(lineage))})
    _write_text(folder / "REPORT.md", "report.md", results)
    return list(MODEL_PARTS)


def _row(number: int) -> dict[str, str]:
    whole = table()
    return _named(whole.records[number], whole.features[number], whole.labels[number])


def _named(record: str, features: Sequence[float], label: int) -> dict[str, str]:
    # repr is the shortest text that reads back as the same number.
    values = {name: repr(float(value)) for name, value in zip(table().columns, features, strict=True)}
    return {RECORD: record, **values, TARGET: str(label)}


def _write_dataset(
    folder: Path,
    rows: Sequence[Mapping[str, str]],
    story: str,
    *,
    component: str = "datasets",
    extra: Mapping[str, Any] | None = None,
) -> list[Part]:
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [RECORD, *table().columns, TARGET], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    figures = {
        "records": len(rows),
        "malignant": sum(row[TARGET] == "1" for row in rows),
        "extra": yaml.safe_dump(dict(extra), allow_unicode=True, sort_keys=False) if extra else "",
        "part": story,
    }
    _write_text(folder / "README.md", "dataset.md", figures)
    return [Part("README.md", "data-card", "CC-BY-4.0"), Part("data.csv", component, "CC-BY-4.0")]


def _write_text(path: Path, template: str, values: Mapping[str, Any]) -> None:
    text = Template((MATERIALS / template).read_text("utf-8")).substitute(values)
    path.write_text(text, encoding="utf-8", newline="\n")
