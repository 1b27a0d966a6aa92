"""Releases: a revision under a name, brought through the gates, signed and logged.

draft → submitted → published → withdrawn; a submitted release may be withdrawn too. Publication asks the gate in its
own transaction, so nothing can change between the answer and the act; what the gates said is signed together with what
they spoke about (statements.py). Of two who publish at once, one does and the other is told so.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import func, select

from gongqi.books.evidence import service as evidence
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Verdict
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.kernel.words import LANGUAGES, Words
from gongqi.resources.hub.assets import ID, asset_row, check_changeable
from gongqi.resources.hub.events import ReleasePublished, ReleaseSubmitted, ReleaseWithdrawn
from gongqi.resources.hub.gates import RELEASE_PUBLISH, FileFacts, ReleaseQuestion
from gongqi.resources.hub.models import Asset, Release, Revision
from gongqi.resources.hub.revisions import RevisionFacts, revision_facts
from gongqi.resources.hub.rules import Card, completeness
from gongqi.resources.hub.statements import release_statement

# Semantic Versioning 2.0.0 without build metadata, which does not tell releases apart.
NAME = r"^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(-[0-9A-Za-z.-]{1,40})?$"
REASON = 2000
NAMED = {"component": "hub.component.", "flaw": "hub.model-signature-unsound.flaw."}  # parameters that are codes
NEXT = {
    "draft": ("hub:release:submit",),
    "submitted": ("hub:release:publish", "hub:release:withdraw"),
    "published": ("hub:release:withdraw",),
}


class Draft(Input):
    asset: str = Field(max_length=ID)
    revision: str = Field(max_length=ID)
    name: str = Field(pattern=NAME)


class OneRelease(Input):
    release: str = Field(max_length=ID)


class Withdraw(Input):
    release: str = Field(max_length=ID)
    reason: str = Field(min_length=1, max_length=REASON)


class ListReleases(Paged):
    asset: str | None = Field(None, max_length=ID)
    state: str | None = Field(None, pattern="^(draft|submitted|published|withdrawn)$")


class ReleaseOut(Output):
    id: str
    asset: str
    revision: str
    org: str
    name: str
    state: str
    version: int
    created_at: datetime
    submitted_at: datetime | None
    statement_digest: str | None
    evidence: str | None
    published_at: datetime | None
    published_by: str | None
    withdrawn_at: datetime | None
    withdrawn_reason: str | None


class ReleaseDetail(ReleaseOut):
    verdict: dict[str, Any] | None


class CheckAnswer(Output):
    """One reason, in both languages."""

    source: str
    decision: str
    reason: str
    zh: str
    en: str
    params: dict[str, Any]
    cites: list[dict[str, str]]
    evidence: str | None


class CheckOut(Output):
    release: str
    allowed: bool
    answers: list[CheckAnswer]


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What the hub knows about a release, for rooms above; `of` is its revision with asset, files and lineage."""

    release: str
    name: str
    state: str
    org: str
    asset: str
    kind: str
    revision: str
    digest: str
    statement_digest: str | None
    published_at: datetime | None
    files: tuple[FileFacts, ...]
    lineage: tuple[tuple[str, str], ...]
    of: RevisionFacts


@verb("hub:release:draft", evidence="hub.release-drafted")
def draft(ctx: Write, input: Draft) -> ReleaseOut:
    asset = ctx.find(Asset, input.asset, to="hub:release:draft")
    check_changeable(asset)
    revision = ctx.find(Revision, input.revision, to="hub:release:draft")
    if revision.asset != asset.id:
        raise Refused("hub.revision-of-another-asset", revision=revision.id, asset=asset.id)
    if not any(revision.card.values()):
        raise Refused("hub.card-missing")
    if ctx.session.scalar(select(Release.id).where(Release.asset == asset.id, Release.name == input.name)):
        raise Refused("hub.release-name-taken", name=input.name)
    release = ctx.add(
        Release(
            id=ctx.new_id("rel"), asset=asset.id, revision=revision.id, org=asset.org, name=input.name, state="draft",
            created_at=ctx.now,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(release.id, asset=asset.id, revision=revision.id, digest=revision.digest)
    return ReleaseOut.model_validate(release)


@verb("hub:release:submit", evidence="hub.release-submitted")
def submit(ctx: Write, input: OneRelease) -> ReleaseOut:
    release = ctx.find(Release, input.release, to="hub:release:submit")
    if release.state != "draft":
        raise Refused("hub.release-not-draft", release=release.id, state=release.state)
    check_changeable(asset_row(ctx, release.asset))
    facts = revision_facts(ctx, release.revision)
    release.state, release.submitted_at = "submitted", ctx.now
    ctx.session.flush()
    ctx.record(release.id, asset=release.asset, revision=release.revision, digest=facts.digest)
    ctx.emit(ReleaseSubmitted(**_named(release, facts)))
    return ReleaseOut.model_validate(release)


@verb("hub:release:publish", evidence="hub.release-published")
def publish(ctx: Write, input: OneRelease) -> ReleaseOut:
    release = ctx.find(Release, input.release, to="hub:release:publish")
    if release.state in ("published", "withdrawn"):
        raise Refused("hub.release-already-published", release=release.id, state=release.state)
    if release.state != "submitted":
        raise Refused("hub.release-not-submitted", release=release.id)
    check_changeable(asset_row(ctx, release.asset))
    facts = revision_facts(ctx, release.revision)
    verdict = ctx.ask(RELEASE_PUBLISH, _question(release, facts))
    if not verdict.allowed:
        reasons = "; ".join(f"{source}: {answer.reason}" for source, answer in verdict.denials)
        raise Refused("hub.gates-denied", release=release.id, reasons=reasons)
    release.state, release.published_at, release.published_by = "published", ctx.now, ctx.actor.id
    said = verdict.as_json()
    envelope = evidence.sign_statement(ctx, release_statement(ctx, release, facts, said))
    release.verdict, release.envelope = said, envelope
    release.statement_digest = hashlib.sha256(b64decode(envelope["payload"])).hexdigest()
    release.evidence = ctx.record(
        release.id, asset=release.asset, revision=release.revision, digest=facts.digest,
        statement_digest=release.statement_digest, allowed=True, files=len(facts.files),
    )  # fmt: skip
    ctx.session.flush()
    ctx.emit(ReleasePublished(**_named(release, facts)))
    return ReleaseOut.model_validate(release)


@verb("hub:release:withdraw", evidence="hub.release-withdrawn")
def withdraw(ctx: Write, input: Withdraw) -> ReleaseOut:
    """Say that a release should no longer be used. Its bytes and its proof stay: others have relied on them."""
    release = ctx.find(Release, input.release, to="hub:release:withdraw")
    if release.state not in ("submitted", "published"):
        raise Refused("hub.release-not-open", release=release.id, state=release.state)
    _take_back(ctx, release, input.reason)
    return ReleaseOut.model_validate(release)


@read("hub:release:list")
def list_releases(ctx: Read, input: ListReleases) -> Page[ReleaseOut]:
    return ctx.listed(Release, ReleaseOut, input, to="hub:release:read")


@read("hub:release:get")
def get_release(ctx: Read, input: OneRelease) -> ReleaseDetail:
    return ReleaseDetail.model_validate(ctx.find(Release, input.release, to="hub:release:read"))


@read("hub:release:check")
def check(ctx: Read, input: OneRelease) -> CheckOut:
    """What the gates say at this moment, whatever they said at publication."""
    release = ctx.find(Release, input.release, to="hub:release:read")
    verdict = ask_gates(ctx, release.id)
    return CheckOut(release=release.id, allowed=verdict.allowed, answers=worded(ctx, verdict.as_json()))


# --- for rooms above and pages: the caller has authorised ------------------------------------------------------------


def revision_released(ctx: Read, release: str) -> tuple[str, str]:
    """(asset, revision) of a release. Raises Refused access.not-found."""
    row = _row(ctx, release)
    return row.asset, row.revision


def release_facts(ctx: Read, release: str) -> ReleaseFacts:
    """Any release with its revision. Raises Refused access.not-found."""
    row = _row(ctx, release)
    of = ctx.once(revision_facts, row.revision)
    return ReleaseFacts(
        release=row.id, name=row.name, state=row.state, org=row.org, asset=row.asset, kind=of.kind,
        revision=row.revision, digest=of.digest, statement_digest=row.statement_digest, published_at=row.published_at,
        files=of.files, lineage=of.lineage, of=of,
    )  # fmt: skip


def withdraw_all(ctx: Write, asset: str, reason: str) -> int:
    """Withdraw whatever of an asset is published or under review; returns how many releases that were."""
    open_ones = select(Release).where(Release.asset == asset, Release.state.in_(("submitted", "published")))
    rows = ctx.session.scalars(open_ones.order_by(Release.id)).all()
    for release in rows:
        _take_back(ctx, release, reason)
    return len(rows)


def release_envelope(ctx: Read, release: str) -> dict[str, Any] | None:
    """The signed statement of a published release; None before."""
    return _row(ctx, release).envelope


def previous_release(ctx: Read, release: str) -> ReleaseFacts | None:
    """The release of the same asset that was published last before this one (before now, while it is unpublished)."""
    row = _row(ctx, release)
    query = select(Release.id).where(Release.asset == row.asset, Release.id != row.id, Release.state == "published")
    if row.published_at:
        query = query.where(Release.published_at < row.published_at)
    found = ctx.session.scalar(query.order_by(Release.published_at.desc(), Release.id.desc()).limit(1))
    return release_facts(ctx, found) if found else None


def releases_of(ctx: Read, revision: str) -> list[str]:
    """The published releases of a revision, newest first."""
    query = select(Release.id).where(Release.revision == revision, Release.state == "published")
    return list(ctx.session.scalars(query.order_by(Release.published_at.desc(), Release.id.desc())))


def latest_releases(ctx: Read, assets: Collection[str]) -> dict[str, ReleaseOut]:
    """Of each of these assets, the release published last, if the reader may see one."""
    seen = ctx.visible(Release, to="hub:release:read").where(Release.asset.in_(assets), Release.state == "published")
    rows = ctx.session.scalars(seen.order_by(Release.published_at, Release.id))
    return {row.asset: ReleaseOut.model_validate(row) for row in rows}


def visible_releases(ctx: Read, keys: Collection[str]) -> dict[str, ReleaseOut]:
    """Of these releases, those that the reader may see."""
    query = ctx.visible(Release, to="hub:release:read").where(Release.id.in_(keys))
    return {row.id: ReleaseOut.model_validate(row) for row in ctx.session.scalars(query)}


def release_actions(ctx: Read, release: str) -> list[str]:
    """The verbs that the actor may use on a release in its state."""
    row = _row(ctx, release)
    return [verb for verb in NEXT.get(row.state, ()) if ctx.may(verb, row)]


def published_releases(ctx: Read) -> int:
    """How many published releases the reader may see: a number of the home page."""
    published = ctx.visible(Release, to="hub:release:read").where(Release.state == "published")
    return ctx.session.scalar(published.with_only_columns(func.count())) or 0


def ask_gates(ctx: Read, release: str) -> Verdict:
    row = _row(ctx, release)
    return ctx.ask(RELEASE_PUBLISH, _question(row, revision_facts(ctx, row.revision)))


def worded(ctx: Read, verdict: Mapping[str, Any]) -> list[CheckAnswer]:
    """The answers of a verdict (as_json), each reason in both languages."""
    words = ctx.kernel.house.words
    return [
        CheckAnswer.model_validate(
            answer
            | {
                language: words.text(answer["reason"], language, **_worded_params(words, answer["params"], language))
                for language in LANGUAGES
            }
        )
        for answer in verdict["answers"]
    ]


def _take_back(ctx: Write, release: Release, reason: str) -> None:
    facts = revision_facts(ctx, release.revision)
    before, release.state = release.state, "withdrawn"
    release.withdrawn_at, release.withdrawn_reason = ctx.now, reason
    ctx.session.flush()
    ctx.record(release.id, kind="hub.release-withdrawn", was=before, digest=facts.digest, private={"reason": reason})
    ctx.emit(ReleaseWithdrawn(**_named(release, facts)))


def _worded_params(words: Words, params: Mapping[str, Any], language: str) -> dict[str, Any]:
    """The parameters of a reason, what has a name in the reader's language by that name."""
    keys = {name: f"{NAMED[name]}{params[name]}" for name in NAMED.keys() & params.keys()}
    return dict(params) | {name: words.text(key, language, **params) for name, key in keys.items() if words.has(key)}


def _row(ctx: Read, release: str) -> Release:
    row = ctx.session.get(Release, release)
    if row is None:
        raise Refused("access.not-found", kind="release", key=release[:100])
    return row


def _named(release: Release, facts: RevisionFacts) -> dict[str, str]:
    return {
        "release": release.id, "asset": release.asset, "revision": release.revision, "digest": facts.digest,
        "org": release.org,
    }  # fmt: skip


def _question(release: Release, facts: RevisionFacts) -> ReleaseQuestion:
    card = Card(**{**facts.card, "body": ""})
    points = completeness(card, facts.kind)
    return ReleaseQuestion(
        release=release.id, asset=facts.asset, kind=facts.kind, org=facts.org, revision=facts.revision,
        digest=facts.digest, name=release.name, files=facts.files, card=facts.card, card_percent=points.percent,
        card_missing=points.missing, lineage=facts.lineage,
    )  # fmt: skip
