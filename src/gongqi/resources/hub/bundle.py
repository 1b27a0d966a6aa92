"""The offline bundle: a release with everything that proves it, in one file that anybody can hand on.

What it holds, and in which order, follows from the release alone: the same bundle, the same bytes. `verify.py` says what
each part proves, and judges it with no server, no network and no database.

Source: in-toto Statement v1 and DSSE (books.evidence.signing), C2SP checkpoints (notes), RFC 8785.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
import rfc8785

from gongqi.resources.hub import container

FORMAT = "gongqi.bundle.v1"

MANIFEST, STATEMENT, KEYS = "manifest.json", "statement.dsse.json", "keyset.json"
ENTRY, PROOF, CHECKPOINT = "evidence/entry.json", "evidence/proof.json", "evidence/checkpoint.txt"
LINEAGE, GATES, FILES, DOCUMENTS = "lineage.json", "gates.json", "files/", "documents/"
DOCUMENTS_STATEMENT = "documents.dsse.json"  # among the documents, the statement over the others
DOCUMENTS_TYPE = "urn:gongqi:release-documents:v1"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What goes into a bundle: `entry` as logged, `inclusion` in hex, `files` as (path, sha256, size in bytes).

    `envelopes` holds the sources' own signed statements, by statement digest; those not named are left out.
    `documents` by file name, the statement over them too.
    """

    envelope: Mapping[str, Any]
    keys: bytes
    entry: bytes
    index: int
    size: int
    inclusion: Sequence[str]
    checkpoint: bytes
    envelopes: Mapping[str, Mapping[str, Any]]
    files: Sequence[tuple[str, str, int]]
    documents: Mapping[str, bytes] = field(default_factory=dict)


class Bytes(Protocol):
    """Where the files' bytes are: the blob store, or anything like it."""

    def chunks(self, sha256: str) -> Iterator[bytes]: ...


def stream_bundle(bundle: Bundle, blobs: Bytes) -> Iterator[bytes]:
    """The bundle as a stream of bytes: the same bundle, the same bytes."""
    said = _payload(bundle.envelope)
    documents = {
        MANIFEST: rfc8785.dumps(manifest_of(said)),
        STATEMENT: rfc8785.dumps(dict(bundle.envelope)),
        KEYS: bundle.keys,
        ENTRY: bundle.entry,
        PROOF: rfc8785.dumps({"inclusion": list(bundle.inclusion), "index": bundle.index, "size": bundle.size}),
        CHECKPOINT: bundle.checkpoint,
        LINEAGE: rfc8785.dumps({"sources": _sources(said, bundle.envelopes)}),
        GATES: rfc8785.dumps(said["predicate"]["gates"]),
        **{DOCUMENTS + name: bundle.documents[name] for name in sorted(bundle.documents)},
    }

    def members() -> Iterator[tuple[str, int, Iterator[bytes]]]:
        for name, content in documents.items():
            yield name, len(content), iter((content,))
        for path, sha256, size in sorted(bundle.files):
            yield FILES + path, size, blobs.chunks(sha256)

    return container.encode(members())


def _sources(said: Mapping[str, Any], envelopes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "envelope": envelopes.get(row["statement"] or "")} for row in said["predicate"]["lineage"]]


def write_bundle(bundle: Bundle, blobs: Bytes, path: Path) -> None:
    """Write the bundle to `path`, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("xb") as file:
            for chunk in stream_bundle(bundle, blobs):
                file.write(chunk)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def manifest_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """What the bundle is, for a reader with nothing but an editor. All of it follows from the statement."""
    predicate = said["predicate"]
    sizes = {row["path"]: row["size"] for row in predicate["files"]}
    return {
        "format": FORMAT,
        "foundation": predicate["foundation"],
        "release": predicate["release"],
        "asset": predicate["asset"],
        "revision": predicate["revision"],
        "published_at": predicate["published_at"],
        "files": [
            {"path": row["name"], "sha256": row["digest"]["sha256"], "size": sizes[row["name"]]}
            for row in said["subject"]
        ],
        "verify": "gongqi verify FILE",
    }


def _payload(envelope: Mapping[str, Any]) -> dict[str, Any]:
    return orjson.loads(b64decode(envelope["payload"]))
