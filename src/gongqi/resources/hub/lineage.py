"""Lineage: what a revision was made from, and what was made from it.

Edges point from the derived revision to its source. A source exists before what is derived from it, so the graph has no
cycle; it may still be large, so every walk is bounded and says when it stopped early.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Row, select
from sqlalchemy.orm import InstrumentedAttribute

from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Answer, by_policy
from gongqi.kernel.verbs import Output, Read, read
from gongqi.resources.hub.assets import OPENNESS
from gongqi.resources.hub.gates import ReleaseQuestion
from gongqi.resources.hub.models import Asset, Inspection, Lineage, Release, Revision
from gongqi.resources.hub.releases import OneRelease
from gongqi.resources.hub.signatures import SIGNATURE_PATH, check_presigned

MAX_NODES = 200  # what one picture or one split can account for
MAX_DEPTH = 32  # generations
MAX_EDGES = 4000  # read for one generation: anyone may derive from what is public, as often as they like
EVALUATED_ON = "evaluated-on"

CITE_ARTEFACT, CITE_LINEAGE, CITE_PRESIGNED = by_policy("release", 5), by_policy("release", 6), by_policy("release", 8)


class Source(NamedTuple):
    """A revision that another rests on, directly or through others; `relation` is that of the edge that led here.

    `is_learned_from`: some path leads here on which nothing was only a yardstick.
    """

    revision: str
    relation: str
    org: str
    asset: str
    is_learned_from: bool


class LineageNode(Output):
    """A revision. When the reader may not see it, only its id and that it is there are told."""

    revision: str
    hidden: bool = False
    asset: str | None = None
    org: str | None = None
    kind: str | None = None
    number: int | None = None
    digest: str | None = None
    title_zh: str | None = None
    title_en: str | None = None
    release: str | None = None


class LineageEdge(Output):
    derived: str
    source: str
    relation: str


class LineageOut(Output):
    revision: str
    nodes: list[LineageNode]
    edges: list[LineageEdge]
    truncated: bool


@read("hub:release:lineage")
def graph(ctx: Read, input: OneRelease) -> LineageOut:
    release = ctx.find(Release, input.release, to="hub:release:read")
    return ctx.once(lineage_of_revision, release.revision)


def lineage_of_revision(ctx: Read, revision: str) -> LineageOut:
    """All sources of a revision and all that was made from it, as far as MAX_NODES reach."""
    up, whole_up = _walk(ctx, revision, Lineage.from_revision, Lineage.to_revision)
    down, whole_down = _walk(ctx, revision, Lineage.to_revision, Lineage.from_revision)
    keys = {revision} | {key for edge in (*up, *down) for key in (edge.from_revision, edge.to_revision)}
    return LineageOut(
        revision=revision,
        nodes=_nodes(ctx, sorted(keys)),
        edges=[LineageEdge(derived=e.from_revision, source=e.to_revision, relation=e.relation) for e in (*up, *down)],
        truncated=not (whole_up and whole_down),
    )


def sources(ctx: Read, revision: str) -> list[Source]:
    """Everything a revision rests on, nearest first, each revision once. For rooms above: the caller has authorised.

    What was both learned from and evaluated on is named for the learning: the milder word must not hide the other.
    """
    edges, _ = _walk(ctx, revision, Lineage.from_revision, Lineage.to_revision)
    relations: dict[str, str] = {}
    learned_from = {revision}
    for edge in edges:
        if relations.setdefault(edge.to_revision, edge.relation) == EVALUATED_ON:
            relations[edge.to_revision] = edge.relation
    grown = True
    while grown:
        more = {e.to_revision for e in edges if e.relation != EVALUATED_ON and e.from_revision in learned_from}
        grown = not more <= learned_from
        learned_from |= more
    query = select(Revision.id, Asset.org, Asset.id).join(Asset, Asset.id == Revision.asset)
    rows = ctx.session.execute(query.where(Revision.id.in_(relations)))
    homes = {key: (org, asset) for key, org, asset in rows}
    return [Source(key, relation, *homes[key], key in learned_from) for key, relation in relations.items()]


def _walk(
    ctx: Read, start: str, near: InstrumentedAttribute[str], far: InstrumentedAttribute[str]
) -> tuple[list[Row[tuple[str, str, str]]], bool]:
    """The edges reached generation by generation, and whether these are all."""
    seen, frontier, edges = {start}, [start], []
    edge = (Lineage.from_revision, Lineage.relation, Lineage.to_revision)
    for _ in range(MAX_DEPTH):
        beside = select(*edge).where(near.in_(frontier)).order_by(*edge).limit(MAX_EDGES + 1)
        found = ctx.session.execute(beside).all()
        if not found:
            return edges, True
        if len(found) > MAX_EDGES:
            return edges, False
        frontier = [key for key in dict.fromkeys(getattr(each, far.key) for each in found) if key not in seen]
        if len(seen) + len(frontier) > MAX_NODES:
            return edges, False
        edges += found
        seen |= set(frontier)
    return edges, False


def _nodes(ctx: Read, keys: list[str]) -> list[LineageNode]:
    seen = ctx.visible(Revision, to="hub:revision:read").where(Revision.id.in_(keys))
    revisions = {row.id: row for row in ctx.session.scalars(seen)}
    shown = select(Asset.id, Asset.org, Asset.kind, Asset.title_zh, Asset.title_en)
    assets = {
        row.id: row for row in ctx.session.execute(shown.where(Asset.id.in_({r.asset for r in revisions.values()})))
    }
    published = select(Release.revision, Release.id).where(Release.revision.in_(keys), Release.state == "published")
    releases = {row[0]: row[1] for row in ctx.session.execute(published.order_by(Release.published_at))}
    nodes = []
    for key in keys:
        row = revisions.get(key)
        if row is None:
            nodes.append(LineageNode(revision=key, hidden=True))
            continue
        asset = assets[row.asset]
        nodes.append(
            LineageNode(
                revision=key, asset=asset.id, org=asset.org, kind=asset.kind, number=row.number, digest=row.digest,
                title_zh=asset.title_zh, title_en=asset.title_en, release=releases.get(key),
            )
        )  # fmt: skip
    return nodes


# --- what the hub itself answers at the gate -------------------------------------------------------------------------


def answer_lineage(ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """A model names what it was made from. A source less open than what rests on it is allowed, and said."""
    if not question.lineage:
        if question.kind == "model":
            return [Answer("deny", "hub.gate.lineage-missing", cites=(CITE_LINEAGE,))]
        return [Answer("allow", "hub.gate.lineage-not-needed", cites=(CITE_LINEAGE,))]
    own = ctx.session.get(Asset, question.asset)
    assert own is not None, "the question names an asset of this hub"
    keys = sorted({key for key, _ in question.lineage})
    homes = select(Revision.id, Asset.visibility).join(Asset, Asset.id == Revision.asset).where(Revision.id.in_(keys))
    closed = sorted(
        key for key, openness in ctx.session.execute(homes) if OPENNESS.index(openness) < OPENNESS.index(own.visibility)
    )
    named = Answer("allow", "hub.gate.lineage-named", {"sources": len(keys)}, (CITE_LINEAGE,))
    if not closed:
        return [named]
    return [named, Answer("require", "hub.gate.lineage-hidden", {"hidden": len(closed)}, (CITE_LINEAGE,))]


def answer_artefact(ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """Every file is still there in full and was inspected; what could not be recognised is a duty to look."""
    digests = {file.sha256 for file in question.files}
    inspections = {
        (row.sha256, row.name): row
        for row in ctx.session.scalars(select(Inspection).where(Inspection.sha256.in_(digests)))
    }
    warnings: list[tuple[str, str]] = []
    for file in question.files:
        row = inspections.get((file.sha256, file.path.rsplit("/", 1)[-1]))
        held = ctx.blobs.find(file.sha256)
        lost = held is None or held.size != file.size
        if row is None or lost:
            reason = "hub.gate.artefact-lost" if lost else "hub.gate.artefact-uninspected"
            return [Answer("deny", reason, {"path": file.path}, (CITE_ARTEFACT,))]
        warnings += [(file.path, finding["code"]) for finding in row.findings]
    if not warnings:
        return [Answer("allow", "hub.gate.artefact-clean", {"files": len(question.files)}, (CITE_ARTEFACT,))]
    path, code = warnings[0]
    params = {"count": len(warnings), "path": path, "code": code}
    return [Answer("require", "hub.gate.artefact-look", params, (CITE_ARTEFACT,))]


def answer_presigned(ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """Whether the signature that came with the files holds, where one came. One that does not is said, and stops nothing."""
    files = {file.path: (file.sha256, file.size) for file in question.files}
    if SIGNATURE_PATH not in files:
        return []
    try:
        key = check_presigned(files, lambda path, limit: ctx.blobs.read(files[path][0], limit_bytes=limit))
    except Refused as refused:
        return [Answer("require", "hub.gate.presigned-unsound", refused.params, (CITE_PRESIGNED,))]
    return [Answer("allow", "hub.gate.presigned-holds", {"key_id": key}, (CITE_PRESIGNED,))]
