"""Trains the classifier and writes it as ONNX: python train.py MODEL.onnx RESULTS.json DATA.csv [DATA.csv ...]

The same records give the same model, whatever the order of files and rows. The results are those of a five-fold
cross-validation on the training records; they say nothing about records from elsewhere.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnx
from architecture import classifier  # pyright: ignore[reportMissingImports]  # the file beside this one
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.metrics import accuracy_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

RECORD, TARGET = "record", "malignant"
OPSETS = {"": 18, "ai.onnx.ml": 3}  # fixed, so that a newer exporter does not change the model's bytes


def read(paths: list[Path]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Feature names, features [N, F] and labels [N] of all records, each record once, in the order of their names."""
    rows: dict[str, dict[str, str]] = {}
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows[row[RECORD]] = row
    ordered = [rows[record] for record in sorted(rows)]
    names = [name for name in ordered[0] if name not in (RECORD, TARGET)]
    features = np.array([[float(row[name]) for name in names] for row in ordered])
    return names, features, np.array([int(row[TARGET]) for row in ordered])


def export(names: list[str], features: np.ndarray, labels: np.ndarray) -> bytes:
    """Train on all records and return the ONNX bytes: features [N, F] -> label [N], probabilities [N, 2]."""
    model = classifier().fit(features, labels)
    graph = convert_sklearn(
        model,
        name="breast-tumour-classifier",
        initial_types=[("features", FloatTensorType([None, len(names)]))],
        options={id(model): {"zipmap": False}},
        target_opset=OPSETS,
    )
    assert isinstance(graph, onnx.ModelProto)
    onnx.helper.set_model_props(graph, {"features": json.dumps(names), "target": TARGET})
    return graph.SerializeToString(deterministic=True)


def main() -> None:
    model_path, results_path, *data_paths = map(Path, sys.argv[1:])
    names, features, labels = read(data_paths)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    answers = cross_val_predict(classifier(), features, labels, cv=folds, method="predict_proba")
    probability = np.asarray(answers)[:, 1]
    results = {
        "method": "five-fold cross-validation on the training records",
        "records": len(labels),
        "malignant": int(labels.sum()),
        "accuracy": round(float(accuracy_score(labels, probability >= 0.5)), 4),
        "roc_auc": round(float(roc_auc_score(labels, probability)), 4),
        "brier": round(float(brier_score_loss(labels, probability)), 4),
    }
    model_path.write_bytes(export(names, features, labels))
    results_path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
