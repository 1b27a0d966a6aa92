"""Runs the classifier: python infer.py MODEL.onnx DATA.csv prints each record with its probability of being malignant.

The order of the features is written in the model itself.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main() -> None:
    model_path, data_path = map(Path, sys.argv[1:])
    session = onnxruntime.InferenceSession(model_path.read_bytes(), providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["features"])
    with data_path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    features = np.array([[float(row[name]) for name in names] for row in rows], dtype=np.float32)
    probabilities = np.asarray(session.run(["probabilities"], {"features": features})[0])
    for row, probability in zip(rows, probabilities[:, 1], strict=True):
        print(f"{row['record']},{probability:.4f}")


if __name__ == "__main__":
    main()
