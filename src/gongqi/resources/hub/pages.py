"""The hub's pages: browse, and one release with gates and proof. Those of an asset are asset_pages.py and file_pages.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import browsing, service
from gongqi.resources.hub.adding import VIEWS as ADD_VIEWS
from gongqi.resources.hub.asset_pages import VIEWS as ASSET_VIEWS
from gongqi.resources.hub.asset_pages import orgs_in
from gongqi.resources.hub.file_pages import VIEWS as FILE_VIEWS

PAGE = 30
RECENT = 20  # imports on an asset's page
CHANGED_FILES = 200  # on one page
KINDS = ("model", "dataset", "code", "agent", "tool")
FACETS = ("license", "openness", "task", "language", "library", "org")  # in the order in which people ask
SHOWN_VALUES = 8  # of one facet
FILTERS = ("org", "license", "openness", "task", "language", "library", "tag")  # as the search takes them
SEALS = {"deny": "broken", "require": "claimed", "allow": "proven"}  # the worst answer of a gate decides its seal


def load_browse(ctx: Read, cursor: str | None = None, kind: str | None = None, **asked: str | None) -> dict[str, Any]:
    """Newest first; with words, what they fit best first. `asked`: what else the search takes, words among it."""
    chosen = {"kind": kind if kind in KINDS else None, **{name: value for name, value in asked.items() if value}}
    given = service.SearchAssets.model_validate({"limit": PAGE, "cursor": cursor or None, **chosen})
    page = service.search_assets.run(ctx, given)
    facts = [(name, value) for name, value in chosen.items() if value and name != "q"]
    counted = service.facets(ctx, words=given.q, facts=facts)
    orgs = {asset.org for asset in page.items} | {value for value, _ in counted.counts.get("org", ())[:SHOWN_VALUES]}
    return {
        "page": page,
        "kinds": KINDS,
        "kind": given.kind,
        "q": given.q,
        "filters": {name: value for name, value in chosen.items() if name in FILTERS},
        "kept": {name: value for name, value in chosen.items() if value},
        "more": {name: value for name, value in (chosen | {"cursor": page.next}).items() if value},
        "facets": [(name, counted.counts[name][:SHOWN_VALUES]) for name in FACETS if counted.counts.get(name)],
        "by_kind": dict(counted.counts.get("kind", ())),
        "counted": counted,
        "heads": browsing.heads_of(ctx, page.items),
        "releases": service.latest_releases(ctx, {asset.id for asset in page.items}),
        "names": members.names(ctx, orgs | ({given.org} if given.org else set())),
    }


def load_imports(ctx: Read, key: str) -> dict[str, Any] | None:
    """Where the latest revision came from, and what is or was on its way."""
    latest = service.latest_revision(ctx, key)
    found = {
        "origin": service.origin_of(ctx, latest.id) if latest else None,
        "imports": service.imports_of(ctx, key, RECENT),
    }
    return found if any(found.values()) else None


def load_origin(ctx: Read, key: str) -> dict[str, Any] | None:
    """Where a revision came from."""
    origin = service.origin_of(ctx, service.get_revision.run(ctx, service.GetRevision(revision=key)).id)
    return {"origin": origin, "imports": []} if origin else None


def load_release(ctx: Read, key: str) -> dict[str, Any]:
    release = service.get_release.run(ctx, service.OneRelease(release=key))
    asset = service.asset_out(ctx, release.asset)
    verdict = release.verdict or service.ask_gates(ctx, release.id).as_json()
    graph = service.graph.run(ctx, service.OneRelease(release=key))
    parties = orgs_in(graph) | {asset.org} | ({release.published_by} if release.published_by else set())
    return {
        "release": release,
        "asset": asset,
        "revision": ctx.once(service.revision_facts, release.revision),
        "is_signed": release.verdict is not None,
        "allowed": verdict["allowed"],
        "gates": _gates(ctx, verdict),
        "graph": graph,
        "names": members.names(ctx, parties),
        "actions": service.release_actions(ctx, release.id),
    }


def load_changes(ctx: Read, before: str, after: str) -> dict[str, Any]:
    changes = service.compare_revisions.run(ctx, service.CompareRevisions(before=before, after=after))
    return {
        "changes": changes,
        "asset": service.asset_out(ctx, changes.after.asset),
        "shown": changes.files[:CHANGED_FILES],
        "listed": sum(changes.counts.values()),
    }


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


PANELS = (
    Panel("hub_asset.html", "hub_origin.html", load_imports),
    Panel("hub_revision.html", "hub_origin.html", load_origin),
)
VIEWS = (
    View("/hub", "hub_browse.html", load_browse, params=("q", "kind", *FILTERS, "cursor")),
    *ASSET_VIEWS,
    *FILE_VIEWS,
    *ADD_VIEWS,
    View("/hub/changes/{before}/{after}", "hub_changes.html", load_changes),
    View("/hub/release/{key}", "hub_release.html", load_release, id_prefix="rel"),
)
