"""What the foundation signs about a release, and the bundle that carries it away.

The statement is an in-toto Statement v1; its subjects are the files by digest. Its predicate says whose they are, under
which licences, what the gates answered and why (an evaluation by its digest, as the answer's evidence), and for each
source the digest of the statement that its own release had at that moment. One signature covers the whole ancestry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rfc8785
from sqlalchemy import select

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import KeySet
from gongqi.books.evidence.signing import statement
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.resources.hub.access import check_may_have
from gongqi.resources.hub.bundle import Bundle
from gongqi.resources.hub.elsewhere.imports import origin_of
from gongqi.resources.hub.models import Release, ReleaseDocument
from gongqi.resources.hub.revisions import RevisionFacts, files_of, revision_facts

PREDICATE_TYPE = "urn:gongqi:release:v1"


def release_statement(ctx: Read, release: Release, facts: RevisionFacts, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The statement about a release that is being published now, with this verdict."""
    predicate = {
        "foundation": ctx.kernel.settings.foundation,
        "release": {"id": release.id, "name": release.name},
        "asset": {"id": facts.asset, "org": facts.org, "kind": facts.kind, "slug": facts.slug},
        "revision": {
            "id": facts.revision, "number": facts.number, "digest": facts.digest, "card_sha256": facts.card_sha256,
        },
        "license": facts.card.get("license"),
        "files": [
            {"path": f.path, "size": f.size, "component": f.component, "license": f.license} for f in facts.files
        ],
        "gates": dict(verdict),
        "lineage": [_source(ctx, key, relation) for key, relation in facts.lineage],
        **_imported(ctx, facts.revision),
        "published_at": ctx.now.isoformat(timespec="microseconds"),
    }  # fmt: skip
    return statement({file.path: file.sha256 for file in facts.files}, PREDICATE_TYPE, predicate)


def _imported(ctx: Read, revision: str) -> dict[str, Any]:
    """Where the files came from, when they came from another hub."""
    origin = origin_of(ctx, revision)
    if origin is None:
        return {}
    said = origin.model_dump(include={"endpoint", "repo", "commit", "license", "claims"})
    return {"imported_from": {**said, "at": origin.at.isoformat(timespec="microseconds")}}


def _source(ctx: Read, revision: str, relation: str) -> dict[str, Any]:
    facts = revision_facts(ctx, revision)
    published = select(Release.statement_digest).where(Release.revision == revision, Release.state == "published")
    signed = ctx.session.scalar(published.order_by(Release.published_at.desc(), Release.id.desc()).limit(1))
    return {
        "relation": relation, "revision": revision, "digest": facts.digest, "asset": facts.asset, "statement": signed,
    }  # fmt: skip


def bundle_of(ctx: Read, release: str) -> Bundle:
    """Everything that proves a published release. Of a source that the reader may not see, only its digests go along.

    Raises Refused hub.release-not-published, hub.asset-gated, hub.release-withdrawn, Unavailable
    evidence.not-sequenced-yet.
    """
    row = ctx.find(Release, release, to="hub:release:read")
    if row.envelope is None or row.evidence is None or row.verdict is None:
        raise Refused("hub.release-not-published", release=row.id)
    check_may_have(ctx, row.revision)
    proof = evidence.proof(ctx, row.evidence)
    keys = KeySet.parse(rfc8785.dumps(evidence.keyset(ctx)))
    return Bundle(
        envelope=row.envelope, keys=keys.encode(), entry=rfc8785.dumps(proof["entry"]), index=proof["index"],
        size=proof["size"], inclusion=proof["inclusion"], checkpoint=proof["checkpoint"].encode(),
        envelopes=_envelopes(ctx, row), files=[(f.path, f.sha256, f.size) for f in files_of(ctx, row.revision)],
        documents=_documents(ctx, row.id),
    )  # fmt: skip


def statement_of(ctx: Read, release: str) -> dict[str, Any]:
    """The signed statement alone, to whoever may see the release. Raises Refused hub.release-not-published."""
    row = ctx.find(Release, release, to="hub:release:read")
    if row.envelope is None:
        raise Refused("hub.release-not-published", release=row.id)
    return row.envelope


def _envelopes(ctx: Read, release: Release) -> dict[str, dict[str, Any]]:
    """The signed statements of the sources' own releases, by digest, as far as the reader may see those."""
    keys = [key for key, _ in revision_facts(ctx, release.revision).lineage]
    seen = ctx.visible(Release, to="hub:release:read").where(Release.revision.in_(keys))
    rows = ctx.session.scalars(seen.where(Release.statement_digest.is_not(None)))
    return {row.statement_digest: row.envelope for row in rows if row.statement_digest and row.envelope}


def _documents(ctx: Read, release: str) -> dict[str, bytes]:
    found = select(ReleaseDocument.name, ReleaseDocument.content).where(ReleaseDocument.release == release)
    return {row.name: row.content for row in ctx.session.execute(found)}
