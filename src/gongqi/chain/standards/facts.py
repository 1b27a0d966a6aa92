"""What the writers of documents are told about a published release: all of it, and nothing they would have to look up.

Two rules hold here, so that no writer can break them. Times are those of the release, so the same release gives the same
document. A source that is not public is named by its ids and digests only, as the release's own statement names it:
documents travel, and nobody can say later who has read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from gongqi.governance.compliance import service as compliance
from gongqi.governance.ethics import service as ethics
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import service as hub

TRAINED, EVALUATED = "trained-on", "evaluated-on"


@dataclass(frozen=True, slots=True)
class FileOf:
    """One file. `license` is a normalised SPDX expression, or None when what is `claimed` cannot be read as one."""

    path: str
    sha256: str
    size: int
    component: str | None
    license: str | None
    claimed: str | None


@dataclass(frozen=True, slots=True)
class SourceOf:
    """What the release was made from. The fields from `title` on are None for a source that is not public."""

    revision: str
    digest: str
    relation: str
    asset: str
    statement: str | None
    title: str | None = None
    kind: str | None = None
    org: str | None = None
    number: int | None = None
    license: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """A published release. `duties` are the conditions under which the gates let it pass, in English."""

    foundation: str
    origin: str
    release: str
    name: str
    published_at: datetime
    statement: str
    asset: str
    slug: str
    kind: str
    org: str
    org_name: str
    titles: Mapping[str, str]
    revision: str
    digest: str
    created_at: datetime
    card: Mapping[str, Any]
    license: str | None
    files: tuple[FileOf, ...]
    sources: tuple[SourceOf, ...]
    imported: hub.Origin | None
    evaluation: Mapping[str, Any] | None
    duties: tuple[str, ...]

    @property
    def page(self) -> str:
        return f"{self.origin}/hub/release/{self.release}"

    @property
    def title(self) -> str:
        return self.titles["en"] or self.titles["zh"]

    def url_of(self, path: str) -> str:
        return f"{self.origin}/api/v1/hub/revision/{self.revision}/file/{quote(path)}"

    def said(self, field: str) -> str | None:
        """What the card says under a field, in English, or else in the language it was written in."""
        words = self.card.get(field) or {}
        if not isinstance(words, Mapping):
            return str(words)
        return next((words[language] for language in ("en", "und", "zh") if words.get(language)), None)


def gather(ctx: Read, release: str) -> Facts:
    """The facts of a published release; the caller has authorised. Raises Refused hub.release-not-published."""
    found = hub.release_facts(ctx, release)
    if found.published_at is None or found.statement_digest is None:
        raise Refused("hub.release-not-published", release=release)
    of, claimed = found.of, found.of.card.get("license")
    evaluation = ethics.shown_evaluation(ctx, release)
    return Facts(
        foundation=ctx.kernel.settings.foundation,
        origin=ctx.kernel.settings.origin,
        release=found.release,
        name=found.name,
        published_at=found.published_at,
        statement=found.statement_digest,
        asset=found.asset,
        slug=of.slug,
        kind=found.kind,
        org=found.org,
        org_name=members.names(ctx, {found.org}).get(found.org, found.org),
        titles={"zh": of.title_zh, "en": of.title_en},
        revision=found.revision,
        digest=found.digest,
        created_at=of.created_at,
        card=of.card,
        license=compliance.expression(claimed),
        files=tuple(
            FileOf(
                f.path, f.sha256, f.size, f.component, compliance.expression(f.license or claimed), f.license or claimed
            )
            for f in found.files
        ),
        sources=tuple(_source(ctx, revision, relation) for revision, relation in found.lineage),
        imported=hub.origin_of(ctx, found.revision),
        evaluation=evaluation.result if evaluation else None,
        duties=_duties(ctx, release),
    )


def _source(ctx: Read, revision: str, relation: str) -> SourceOf:
    of = hub.revision_facts(ctx, revision)
    statements = [hub.release_facts(ctx, each).statement_digest for each in hub.releases_of(ctx, revision)[:1]]
    known = SourceOf(revision, of.digest, relation, of.asset, next(iter(statements), None))
    if of.visibility != "public":
        return known
    return SourceOf(
        revision, of.digest, relation, of.asset, known.statement, title=of.title_en or of.title_zh, kind=of.kind,
        org=members.names(ctx, {of.org}).get(of.org, of.org), number=of.number,
        license=compliance.expression(of.card.get("license")),
    )  # fmt: skip


def _duties(ctx: Read, release: str) -> tuple[str, ...]:
    verdict = hub.get_release.run(ctx, hub.OneRelease(release=release)).verdict or {"answers": ()}
    required = {"answers": [each for each in verdict["answers"] if each["decision"] == "require"]}
    return tuple(answer.en for answer in hub.worded(ctx, required))


def instant(moment: datetime) -> str:
    """A moment as all three forms write it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def listed(facts: Facts, limit: int) -> Sequence[FileOf]:
    """The files that a document lists one by one: all of them, up to a limit that it has to own up to."""
    return facts.files[:limit]
