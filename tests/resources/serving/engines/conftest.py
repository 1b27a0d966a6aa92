"""Small real models, and engines that run them in this process."""

from __future__ import annotations

import pytest

from tests.sim import tiny_models


@pytest.fixture(scope="session")
def embedder() -> dict[str, bytes]:
    return tiny_models.embedder()


def by_part(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files by their parts, as an engine is handed them."""
    from gongqi.resources.serving.engines.parts import DESCRIBED, MODEL

    return {MODEL: files["onnx/model.onnx"]} | {part: files[path] for part, path in DESCRIBED.items() if path in files}
