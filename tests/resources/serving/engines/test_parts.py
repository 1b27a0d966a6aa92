"""Which engine runs a release, by the names and components of its files."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.engines import parts


@dataclass(frozen=True)
class File:
    path: str
    component: str | None = None
    size: int = 10
    sha256: str = ""


def files(*paths: str) -> list[File]:
    return [File(path, "parameters" if path.endswith((".onnx", ".gguf")) else None, sha256=path) for path in paths]


def refused(*given: object, **more: object) -> str:
    with pytest.raises(Refused) as caught:
        parts.chosen("rel", *given, **more)  # type: ignore[arg-type]
    return caught.value.code


def test_what_describes_a_model_is_taken_from_beside_it_and_else_from_the_top() -> None:
    listed = files("onnx/model.onnx", "onnx/tokenizer.json", "tokenizer.json", "1_Pooling/config.json", "README.md")
    found = parts.chosen("rel", listed)
    assert found.engine == "onnx"
    assert [(part.part, part.sha256) for part in found.parts] == [
        ("model", "onnx/model.onnx"), ("tokenizer", "onnx/tokenizer.json"), ("pooling", "1_Pooling/config.json"),
    ]  # fmt: skip


def test_of_several_models_one_is_named() -> None:
    listed = files("onnx/model.onnx", "onnx/model_int8.onnx", "tokenizer.json")
    assert refused(listed) == "serving.no-engine"
    assert parts.chosen("rel", listed, "onnx/model_int8.onnx").parts[0].sha256 == "onnx/model_int8.onnx"
    assert refused(listed, "onnx/none.onnx") == "serving.no-engine"


def test_a_model_that_writes_is_one_file() -> None:
    found = parts.chosen("rel", files("model-q4.gguf", "tokenizer.json", "config.json"))
    assert found == ("llama.cpp", (("model", "model-q4.gguf", 10),))
    assert refused(files("a-00001-of-00002.gguf", "a-00002-of-00002.gguf")) == "serving.no-engine"


def test_what_has_no_model_no_tokenizer_or_too_much_is_refused() -> None:
    assert refused(files("README.md", "tokenizer.json")) == "serving.no-engine"
    assert refused([File("model.onnx", "datasets"), *files("tokenizer.json")]) == "serving.no-engine"
    assert refused(files("model.onnx")) == "serving.engine-file-missing"
    large = File("model.onnx", "parameters", parts.MAX_MODEL_BYTES[parts.ONNX] + 1)
    assert refused([large, *files("tokenizer.json")]) == "serving.model-too-large"
    assert refused([*files("model.onnx"), File("tokenizer.json", None, 1 << 30)]) == "serving.model-too-large"
