"""The hub's pages: browse, one asset (at its latest or any other revision), one release with gates and proof."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import service

PAGE = 30
RECENT = 20  # revisions and releases on an asset's page
SHOWN_FILES = 200
SHOWN_CARD_CHARACTERS = 60_000  # some twenty printed pages; the rest is in the file
KINDS = ("model", "dataset", "code", "agent", "tool")
FILTERS = ("org", "license", "openness", "task", "language", "library", "tag")  # as the search takes them
SEALS = {"deny": "broken", "require": "claimed", "allow": "proven"}  # the worst answer of a gate decides its seal


def load_browse(ctx: Read, cursor: str | None = None, kind: str | None = None, **asked: str | None) -> dict[str, Any]:
    """Newest first; with words, what they fit best first. `asked`: what else the search takes, words among it."""
    chosen = {"kind": kind if kind in KINDS else None, **{name: value for name, value in asked.items() if value}}
    given = service.SearchAssets.model_validate({"limit": PAGE, "cursor": cursor or None, **chosen})
    page = service.search_assets.run(ctx, given)
    names = members.names(ctx, {asset.org for asset in page.items} | ({given.org} if given.org else set()))
    return {
        "page": page,
        "kinds": KINDS,
        "kind": given.kind,
        "q": given.q,
        "filters": {name: names.get(value, value) for name, value in chosen.items() if name in FILTERS},
        "kept": {name: value for name, value in chosen.items() if value and name != "kind"},
        "more": {name: value for name, value in (chosen | {"cursor": page.next}).items() if value},
        "releases": service.latest_releases(ctx, {asset.id for asset in page.items}),
        "names": names,
    }


def load_asset(ctx: Read, key: str) -> dict[str, Any]:
    asset = service.get_asset.run(ctx, service.GetAsset(asset=key))
    return _asset(ctx, asset, service.latest_revision(ctx, asset.id))


def load_revision(ctx: Read, key: str) -> dict[str, Any]:
    revision = service.get_revision.run(ctx, service.GetRevision(revision=key))
    return _asset(ctx, service.asset_out(ctx, revision.asset), revision)


def load_release(ctx: Read, key: str) -> dict[str, Any]:
    release = service.get_release.run(ctx, service.OneRelease(release=key))
    asset = service.asset_out(ctx, release.asset)
    verdict = release.verdict or service.ask_gates(ctx, release.id).as_json()
    graph = service.graph.run(ctx, service.OneRelease(release=key))
    parties = _orgs(graph) | {asset.org} | ({release.published_by} if release.published_by else set())
    return {
        "release": release,
        "asset": asset,
        "revision": service.revision_facts(ctx, release.revision),
        "is_signed": release.verdict is not None,
        "allowed": verdict["allowed"],
        "gates": _gates(ctx, verdict),
        "graph": graph,
        "names": members.names(ctx, parties),
        "actions": service.release_actions(ctx, release.id),
    }


def _asset(ctx: Read, asset: service.AssetOut, revision: service.RevisionOut | None) -> dict[str, Any]:
    facts = service.revision_facts(ctx, revision.id) if revision else None
    graph = service.lineage_of_revision(ctx, revision.id) if revision else None
    recent = {"asset": asset.id, "limit": RECENT}
    return {
        "asset": asset,
        "revision": revision,
        "facts": facts,
        "files": facts.files[:SHOWN_FILES] if facts else (),
        "card": render_card(service.card_text(ctx, revision.id)) if revision else "",
        "graph": graph,
        "revisions": service.list_revisions.run(ctx, service.ListRevisions.model_validate(recent)).items,
        "releases": service.list_releases.run(ctx, service.ListReleases.model_validate(recent)).items,
        "names": members.names(ctx, {asset.org} | (_orgs(graph) if graph else set())),
        "actions": service.asset_actions(ctx, asset.id),
    }


def _orgs(graph: service.LineageOut) -> set[str]:
    return {node.org for node in graph.nodes if node.org}


def _gates(ctx: Read, verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a gate: its name, seal, worst decision, and each reason with where it comes from."""
    rows: dict[str, dict[str, Any]] = {}
    for answer in service.worded(ctx, verdict):
        key = f"gate.{answer.source}"
        name = ctx.text(key) if ctx.kernel.house.words.has(key) else answer.source
        row = rows.setdefault(answer.source, {"name": name, "reasons": [], "worst": "allow"})
        row["worst"] = min(row["worst"], answer.decision, key=list(SEALS).index)
        text = answer.zh if ctx.language == "zh" else answer.en
        cites = [f"{c['source']}, {c['article']} ({c['authority']}, {c['date']})" for c in answer.cites]
        href = next((c["url"] for c in answer.cites if c["url"].startswith("https://")), None)
        row["reasons"].append({"effect": answer.decision, "text": text, "cite": "; ".join(cites), "href": href})
    return [row | {"seal": SEALS[row["worst"]]} for row in rows.values()]


@lru_cache(maxsize=128)
def render_card(body: str) -> Markup:
    """A card's body as HTML: CommonMark and tables, no raw HTML, no pictures, headings below those of the page."""
    tokens = _MARKDOWN.parse(body[:SHOWN_CARD_CHARACTERS])
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    for opening, content, closing in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if opening.type == "th_open" and not content.content.strip():
            opening.tag = closing.tag = "td"  # an empty corner heads nothing
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


# Pictures would be fetched from wherever the author likes, and tell them who reads.
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable("table").disable("image")

VIEWS = (
    View("/hub", "hub_browse.html", load_browse, params=("q", "kind", *FILTERS, "cursor")),
    View("/hub/asset/{key}", "hub_asset.html", load_asset, id_prefix="ast"),
    View("/hub/revision/{key}", "hub_asset.html", load_revision, id_prefix="rev"),
    View("/hub/release/{key}", "hub_release.html", load_release, id_prefix="rel"),
)
