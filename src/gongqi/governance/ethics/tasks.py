"""What a model may be asked to show, and what the card of the records must say for it. Pure.

A table with a yes-or-no target is classified (evaluate.py). Texts are asked in three ways (texts.py):

    task             the model   columns                  a record is right when
    multiple-choice  writes      prompt, choices, label   the choice that is likeliest after the prompt is the right one
    exact-match      writes      prompt, answer           the line written after the prompt is the answer
    retrieval        embeds      prompt, answer           of the answers of all records its own is nearest to the prompt

Sources: lm-evaluation-harness (EleutherAI), tasks of the kinds `multiple_choice` and `generate_until`; MTEB (Muennighoff
et al., EACL 2023), retrieval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gongqi.governance.ethics.evaluate import Unfit
from gongqi.resources.serving.engines.parts import LLAMA, ONNX

CLASSIFICATION = "classification"
MULTIPLE_CHOICE, EXACT_MATCH, RETRIEVAL = "multiple-choice", "exact-match", "retrieval"
ENGINES = {MULTIPLE_CHOICE: LLAMA, EXACT_MATCH: LLAMA, RETRIEVAL: ONNX}  # what a model must run in to be asked
TASKS = (CLASSIFICATION, *ENGINES)
COLUMNS = {
    MULTIPLE_CHOICE: ("prompt", "choices", "label"), EXACT_MATCH: ("prompt", "answer"), RETRIEVAL: ("prompt", "answer"),
}  # fmt: skip
FORMS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}  # of the records, by the ending of their file
VALUES = "values"  # subgroups are the records that have the same value
DELIMITER = " "  # between a prompt and a choice, as lm-evaluation-harness has it
MAX_NAME = 200  # characters of a column's name
MAX_DELIMITER = 8


@dataclass(frozen=True, slots=True)
class TextJob:
    """What to ask of which model: `files` are the model's by their parts, `columns` says what the columns of the task are
    called in the data, `subgroup` names the column whose values are compared."""

    task: str
    files: Mapping[str, str]
    data: str
    form: str
    columns: Mapping[str, str]
    subgroup: str | None = None
    delimiter: str = DELIMITER
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        subgroup = {"column": self.subgroup, "kind": VALUES} if self.subgroup else None
        return {**asdict(self), "files": dict(self.files), "columns": dict(self.columns), "subgroup": subgroup}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> TextJob:
        subgroup = fields["subgroup"]
        return cls(**{**fields, "subgroup": subgroup["column"] if subgroup else None})


def text_job(declared: Mapping[str, Any], *, files: Mapping[str, str], data: str, form: str) -> TextJob:
    """The job that a card declares, for a model and data by their digests.

    Raises Unfit ethics.evaluation-undeclared, ethics.subgroup-kind-unknown.
    """
    undeclared = Unfit("ethics.evaluation-undeclared")
    task = declared.get("task")
    if not isinstance(task, str) or task not in COLUMNS:
        raise undeclared
    columns = {name: declared.get(name, name) for name in COLUMNS[task]}
    delimiter, seed, subgroup = declared.get("delimiter", DELIMITER), declared.get("seed", 0), declared.get("subgroup")
    if declared.keys() - {"task", "delimiter", "seed", "subgroup", *columns}:
        raise undeclared
    if subgroup is not None and not (isinstance(subgroup, dict) and subgroup.keys() == {"column", "kind"}):
        raise undeclared
    names = [*columns.values(), *([subgroup["column"]] if subgroup else [])]
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in names):
        raise undeclared
    if not isinstance(delimiter, str) or len(delimiter) > MAX_DELIMITER or type(seed) is not int:
        raise undeclared
    if subgroup and subgroup["kind"] != VALUES:
        raise Unfit("ethics.subgroup-kind-unknown", kind=str(subgroup["kind"])[:64])
    return TextJob(task, files, data, form, columns, subgroup["column"] if subgroup else None, delimiter, seed)
