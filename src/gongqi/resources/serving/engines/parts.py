"""Which engine runs a release, and which of its files: told by names and components alone, so that it can be said at once.

A model that writes is one GGUF file, which has its tokenizer and its template inside. A model of embeddings is one ONNX
graph with its `tokenizer.json`, laid out as the tools of sentence-transformers and Optimum lay it out: the graph at the top
or in a folder, what describes it at the top. Whether the files are what their names say is found by the engine, which
reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from gongqi.kernel.errors import Refused

ONNX, LLAMA = "onnx", "llama.cpp"
PARAMETERS = "parameters"
MODEL, TOKENIZER = "model", "tokenizer"
ENGINES = {".onnx": ONNX, ".gguf": LLAMA}  # by the ending of the one file that is the model
NEEDS = {ONNX: "tokenizers", LLAMA: "llama_cpp"}  # the module that must be installed for it
MAX_MODEL_BYTES = {  # one is in memory twice while it is loaded; the other is only mapped
    ONNX: 512 << 20, LLAMA: 64 << 30,
}  # fmt: skip
MAX_TOKENIZER_BYTES = 64 << 20
MAX_SETTINGS_BYTES = 1 << 20

# What else an ONNX model is told from: its part, and where it is, from the top or beside the graph.
DESCRIBED = {
    TOKENIZER: "tokenizer.json", "tokenizer-settings": "tokenizer_config.json", "config": "config.json",
    "modules": "modules.json", "pooling": "1_Pooling/config.json", "sentences": "sentence_bert_config.json",
}  # fmt: skip


class File(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def component(self) -> str | None: ...


class Part(NamedTuple):
    part: str
    sha256: str
    size: int


class Chosen(NamedTuple):
    engine: str
    parts: tuple[Part, ...]


def chosen(release: str, files: Sequence[File], wanted: str | None = None) -> Chosen:
    """The engine of a release and what it is handed; `wanted` is the path of the model where there are several.

    Raises Refused: serving.no-engine, serving.engine-file-missing, serving.model-too-large.
    """
    models = [
        (file, engine)
        for file in files
        if file.component == PARAMETERS and (engine := _engine(file.path)) and wanted in (None, file.path)
    ]
    if len(models) != 1:
        raise Refused("serving.no-engine", release=release, count=len(models))
    [(model, engine)] = models
    parts = [_part(MODEL, model, limit=MAX_MODEL_BYTES[engine])]
    if engine == LLAMA:  # one file says all
        return Chosen(engine, tuple(parts))
    parts += _described(files, model.path)
    if not any(part.part == TOKENIZER for part in parts):
        raise Refused("serving.engine-file-missing", release=release, file=DESCRIBED[TOKENIZER])
    return Chosen(engine, tuple(parts))


def _engine(path: str) -> str | None:
    return next((engine for ending, engine in ENGINES.items() if path.endswith(ending)), None)


def _described(files: Iterable[File], model: str) -> Iterable[Part]:
    """Each file from beside the graph if it is there, else from the top."""
    folder = model.rpartition("/")[0]
    by_path = {file.path: file for file in files}
    for part, path in DESCRIBED.items():
        found = by_path.get(f"{folder}/{path}") or by_path.get(path)
        if found is not None:
            yield _part(part, found, limit=MAX_TOKENIZER_BYTES if part == TOKENIZER else MAX_SETTINGS_BYTES)


def _part(name: str, file: File, *, limit: int) -> Part:
    if file.size > limit:
        raise Refused("serving.model-too-large", limit_bytes=limit)
    return Part(name, file.sha256, file.size)
