"""A revision as an OCI manifest, and a manifest as the files of a revision. Pure thought.

The same revision gives the same bytes. Every file is a layer of its own, raw, so that its digest is that of the file;
archives of files would be other bytes and another copy. A layer says where its file belongs in two annotations: that of
ModelPack, and that by which `oras` names what it writes.

Source: OCI Image Manifest 1.1; CNCF Model Format Specification 1 (`spec.md`, `config.md`, `annotations.md`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gongqi.kernel.errors import Refused
from gongqi.resources.hub.revisions import RevisionFacts
from gongqi.resources.hub.rules import check_path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
MODEL = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
NOTHING = "application/vnd.oci.empty.v1+json"
FILEPATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
LIMIT_BYTES = 4 << 20  # of a manifest: what clients and other registries take
LAYERS = 10_000  # as many files as one commit may name

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_LAYER = re.compile(r"application/vnd\.(?:cncf|cnai)\.model\.(weight|weight\.config|doc|code|dataset)\.v1\.raw")
_PACKED = re.compile(r"application/vnd\.(?:cncf|cnai)\.model\..*\.v1\.tar.*")
UNPACK = "io.deis.oras.content.unpack"  # oras says so of a folder; of a plain file it says `…layer.v1.tar` all the same

# What kind of layer a file is: by what its committer said it is, else by its name.
BY_COMPONENT = {
    "parameters": "weight", "intermediate-parameters": "weight", "architecture": "weight.config",
    "model-metadata": "weight.config", "training-code": "code", "inference-code": "code", "evaluation-code": "code",
    "preprocessing-code": "code", "supporting-libraries": "code", "datasets": "dataset", "evaluation-data": "dataset",
    "sample-outputs": "dataset",
}  # fmt: skip
BY_SUFFIX = {
    **dict.fromkeys((".safetensors", ".gguf", ".onnx", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".tflite"), "weight"),
    **dict.fromkeys((".py", ".ipynb", ".sh", ".c", ".cc", ".cpp", ".rs", ".go", ".js", ".ts"), "code"),
    **dict.fromkeys((".csv", ".jsonl", ".parquet", ".arrow", ".tsv"), "dataset"),
    **dict.fromkeys((".json", ".yaml", ".yml", ".toml", ".model", ".jinja"), "weight.config"),
}


class Descriptor(BaseModel):
    """Content by its digest, as manifests speak of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    mediaType: str = Field(max_length=255)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0, le=2**62)
    annotations: dict[str, str] = Field(default_factory=dict)

    @property
    def sha256(self) -> str:
        return self.digest.removeprefix("sha256:")

    @property
    def path(self) -> str:
        return self.annotations.get(FILEPATH) or self.annotations.get(TITLE) or ""


class Manifest(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    schemaVersion: Literal[2]
    mediaType: str = Field(MANIFEST, max_length=255)
    artifactType: str = Field("", max_length=255)
    config: Descriptor
    layers: list[Descriptor] = Field(min_length=1, max_length=LAYERS)
    subject: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """A manifest that somebody sent: its files, path → digest; `kind` is that of an asset it would make."""

    digest: str
    config: str
    config_type: str
    files: Mapping[str, str]
    artifact_type: str
    kind: str


def digest_of(content: bytes) -> str:
    return sha256(content).hexdigest()


def described(facts: RevisionFacts) -> tuple[bytes, bytes]:
    """(manifest, config) of a revision. Raises Refused hub.oci-manifest-too-large."""
    layers = [
        {
            "mediaType": f"application/vnd.cncf.model.{layer_kind(file.path, file.component)}.v1.raw",
            "digest": f"sha256:{file.sha256}",
            "size": file.size,
            "annotations": {FILEPATH: file.path, TITLE: file.path},
        }
        for file in sorted(facts.files, key=lambda file: file.path)
    ]
    config = _canonical(_config(facts))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": MODEL,
        "config": {"mediaType": CONFIG, "digest": f"sha256:{digest_of(config)}", "size": len(config)},
        "layers": layers,
        "annotations": {
            "org.opencontainers.image.created": _moment(facts.created_at),
            "org.opencontainers.image.revision": facts.digest,
            "org.opencontainers.image.title": facts.title_en,
            **({"org.opencontainers.image.licenses": facts.card["license"]} if facts.card.get("license") else {}),
        },
    }
    content = _canonical(manifest)
    if len(content) > LIMIT_BYTES:
        raise Refused("hub.oci-manifest-too-large", size_bytes=len(content), limit_bytes=LIMIT_BYTES)
    return content, config


def about(subject: tuple[str, int], name: str, media_type: str, sha256: str, size: int, at: datetime) -> bytes:
    """The manifest of one document about another manifest, (digest, size)."""
    digest, subject_size = subject
    layer = {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": size, "annotations": {TITLE: name}}
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type,
            "config": {"mediaType": NOTHING, "digest": f"sha256:{digest_of(b'{}')}", "size": 2},
            "layers": [layer],
            "subject": {"mediaType": MANIFEST, "digest": f"sha256:{digest}", "size": subject_size},
            "annotations": {"org.opencontainers.image.created": _moment(at), TITLE: name},
        }
    )


def layer_kind(path: str, component: str | None) -> str:
    """`weight`, `weight.config`, `code`, `dataset`, or `doc` for whatever is none of these."""
    return BY_COMPONENT.get(component or "") or BY_SUFFIX.get(PurePosixPath(path).suffix.lower(), "doc")


def parse(content: bytes) -> Pushed:
    """A pushed manifest. Raises Refused hub.oci-manifest-invalid, hub.oci-unsupported, hub.oci-layer-packed, hub.path-*."""
    if (of := _media_type(content)) == INDEX:
        raise Refused("hub.oci-unsupported", what=of)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise Refused("hub.oci-manifest-invalid", where=where[:100], why=first["msg"][:200]) from error
    if manifest.subject or manifest.mediaType != MANIFEST:
        raise Refused("hub.oci-unsupported", what="subject" if manifest.subject else ascii(manifest.mediaType)[1:-1])
    files: dict[str, str] = {}
    for number, layer in enumerate(manifest.layers):
        if not layer.path:
            raise Refused("hub.oci-manifest-invalid", where=f"layers.{number}.annotations", why=f"{FILEPATH}, {TITLE}")
        if _PACKED.fullmatch(layer.mediaType) or layer.annotations.get(UNPACK) == "true":
            raise Refused("hub.oci-layer-packed", path=ascii(layer.path[:100])[1:-1])
        if check_path(layer.path) in files:
            raise Refused("hub.path-twin", path=layer.path, other=layer.path)
        files[layer.path] = layer.sha256
    artifact_type = manifest.artifactType or manifest.config.mediaType
    config = manifest.config
    return Pushed(digest_of(content), config.sha256, config.mediaType, files, artifact_type, _kind(manifest.layers))


def _media_type(content: bytes) -> str:
    """What a document says it is; an index has no layers, and should hear that it is one."""
    try:
        document = orjson.loads(content)
    except ValueError:
        return ""
    return str(document.get("mediaType", "")) if isinstance(document, dict) else ""


def _kind(layers: Iterable[Descriptor]) -> str:
    kinds = set()
    for layer in layers:
        said = _LAYER.fullmatch(layer.mediaType)
        kinds.add(said[1] if said else layer_kind(layer.path, None))
    return "dataset" if "dataset" in kinds and "weight" not in kinds else "model"


def _config(facts: RevisionFacts) -> dict[str, Any]:
    """What ModelPack asks for. What the card does not say is left out rather than guessed."""
    summary = facts.card.get("summary") or {}
    descriptor = {
        "createdAt": _moment(facts.created_at),
        "name": facts.slug,
        "title": facts.title_en,
        "description": summary.get("en") or next(iter(summary.values()), None),
        "revision": facts.digest,
        "licenses": [facts.card["license"]] if facts.card.get("license") else None,
    }
    config = {"format": next(iter(_formats(facts)), None)}
    digests = [f"sha256:{file.sha256}" for file in sorted(facts.files, key=lambda file: file.path)]
    return {
        "descriptor": {name: value for name, value in descriptor.items() if value},
        "config": {name: value for name, value in config.items() if value},
        "modelfs": {"type": "layers", "diffIds": digests},
    }


def _formats(facts: RevisionFacts) -> list[str]:
    weights = [file.path for file in facts.files if layer_kind(file.path, file.component) == "weight"]
    return sorted({PurePosixPath(path).suffix.lower().lstrip(".") for path in weights} - {""})


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _canonical(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
