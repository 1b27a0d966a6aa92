"""Facts of releases as the writers are told them, without a foundation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gongqi.chain.standards.facts import Facts, FileOf, SourceOf

EVALUATION = {
    "metrics": {"accuracy": 0.97, "roc_auc": None, "records": 140},
    "intervals": {"accuracy": [0.93, 0.99]},
    "subgroups": {
        "column": "radius",
        "groups": [
            {"from": 1.0, "to": 2.0, "accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "false_negative_rate": None}
        ],
    },
}
HIDDEN = SourceOf("rev_hidden", "e" * 64, "trained-on", "ast_hidden", None)
SOURCES = (
    HIDDEN,
    SourceOf("rev_base", "1" * 64, "fine-tuned-from", "ast_base", "2" * 64, "Base", "model", "Lab", 3, "Apache-2.0"),
    SourceOf("rev_test", "3" * 64, "evaluated-on", "ast_test", None, "Held out", "dataset", "Clinic", 1, "CC-BY-4.0"),
)
FILES = (
    FileOf("README.md", "a" * 64, 120, "model-card", "CC-BY-4.0", "CC-BY-4.0"),
    FileOf("data/说明 (1).csv", "b" * 64, 10, "datasets", "CC-BY-4.0", "CC-BY-4.0"),
    FileOf("weights.onnx", "c" * 64, 1 << 33, "parameters", None, "my own terms"),
)


def facts(kind: str = "model", **change: Any) -> Facts:
    made = Facts(
        foundation="Foundation", origin="http://127.0.0.1:8420", release="rel_1", name="1.0.0",
        published_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), statement="d" * 64, asset="ast_1", slug="diagnosis",
        kind=kind, org="org_1", org_name="North", titles={"zh": "诊断", "en": "Diagnosis"}, revision="rev_1",
        digest="f" * 64, created_at=datetime(2026, 1, 1, tzinfo=UTC),
        card={
            "license": "Apache-2.0 AND CC-BY-4.0", "summary": {"en": "Estimates a risk."},
            "intended_use": {"zh": "研究"}, "limitations": {"und": "one hospital"}, "provenance": {"en": "by train.py"},
            "tasks": ["tabular-classification"], "languages": ["zh", "en"],
            "other": {"personal_data": {"en": "None."}},
        },
        license="Apache-2.0 AND CC-BY-4.0", files=FILES, sources=SOURCES, imported=None, evaluation=EVALUATION,
        duties=("A source is less open than this asset.",),
    )  # fmt: skip
    return replace(made, **change)
