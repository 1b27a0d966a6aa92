"""What there is to check a release with other people's tools, for whoever may see the release."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import Field

from gongqi.chain.standards.documents import FINDINGS
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.verbs import Input, Output, Read, read
from gongqi.resources.hub import service as hub

RETRY_SECONDS = 2


class OneProof(Input):
    release: str = Field(max_length=64)


class ProofDocument(Output):
    name: str
    media_type: str
    sha256: str
    size: int
    url: str


class ProofOut(Output):
    """`percent` and `missing`: how complete the bill of materials is. `croissant`: where a donor's own description
    differs from the files; None when there is no such description."""

    release: str
    documents: list[ProofDocument]
    percent: int
    missing: list[str]
    croissant: list[dict[str, Any]] | None


@read("standards:proof:show")
def show_proof(ctx: Read, input: OneProof) -> ProofOut:
    """The documents of a published release. Raises Refused access.*, hub.release-not-published, Unavailable."""
    found = hub.documents_of(ctx, input.release)
    if not found:
        raise _none_yet(ctx, input.release)
    said = orjson.loads(hub.document_content(ctx, input.release, FINDINGS))
    documents = [
        ProofDocument(**each.model_dump(), url=f"/api/v1/standards/release/{input.release}/{each.name}")
        for each in found
    ]
    return ProofOut(
        release=input.release, documents=documents, percent=said["completeness"]["percent"],
        missing=said["completeness"]["missing"], croissant=said["croissant"],
    )  # fmt: skip


def document(ctx: Read, release: str, name: str) -> tuple[hub.DocumentOut, bytes]:
    """One document of a published release. Raises as `show_proof`."""
    found = hub.documents_of(ctx, release)
    if not found:
        raise _none_yet(ctx, release)
    content = hub.document_content(ctx, release, name)
    return next(each for each in found if each.name == name), content


def _none_yet(ctx: Read, release: str) -> Refused | Unavailable:
    if not hub.is_published(ctx, release):
        return Refused("hub.release-not-published", release=release)
    return Unavailable("standards.not-described-yet", retry_after_seconds=RETRY_SECONDS, release=release)
