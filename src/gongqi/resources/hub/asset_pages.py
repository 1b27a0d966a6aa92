"""The pages of one asset: what it is and how it is used, its releases, revisions and lineage, and who may have it.

They share a head (`frame`), which says in this order what the asset is, what the reader may do with it and what there
is to read further; each page then answers for itself why things are so. What a room above has to say on one of them is a
panel of that page's template.
"""

from __future__ import annotations

from typing import Any

from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import service
from gongqi.resources.hub.cards import render_card

PAGE = 30
QUEUE = 50  # requests on one page; whoever has more decides by program
SHOWN_TAGS = 12
ON_TABS = ("hub:revision:change", "hub:access:request", "hub:access:grant")  # have places of their own


def frame(ctx: Read, key: str, tab: str) -> dict[str, Any]:
    """What stands above every page of an asset. Raises Refused access.not-found."""
    asset = service.get_asset.run(ctx, service.GetAsset(asset=key))
    home = members.parties_of(ctx, [asset.org]).get(asset.org)
    may = service.asset_actions(ctx, asset.id)
    return {
        "asset": asset,
        "tab": tab,
        "address": f"{home.handle}/{asset.slug}" if home else asset.slug,
        "head": service.latest_revision(ctx, asset.id),
        "latest": service.latest_releases(ctx, {asset.id}).get(asset.id),
        "labels": service.labels_of(ctx, asset.id),
        "names": members.names(ctx, {asset.org}),
        "actions": [verb for verb in may if verb not in ON_TABS],
        "may_add": "hub:revision:change" in may,
        "may_decide": "hub:access:grant" in may,
    }


def load_asset(ctx: Read, key: str) -> dict[str, Any]:
    values = frame(ctx, key, "about")
    head = values["head"]
    claims = service.claims_of(ctx, head.id) if head else {}
    return values | {
        "claims": claims,
        "tags": tags_in(claims)[:SHOWN_TAGS],
        "card": render_card(service.card_text(ctx, head.id)) if head else "",
        "example": service.example_file(ctx, head.id) if head else None,
        "downloads": service.get_downloads.run(ctx, service.GetDownloads(asset=key)),
    }


def load_releases(ctx: Read, key: str, cursor: str | None = None) -> dict[str, Any]:
    values = frame(ctx, key, "releases")
    asked = service.ListReleases.model_validate({"asset": values["asset"].id, "limit": PAGE, "cursor": cursor or None})
    page = service.list_releases.run(ctx, asked)
    numbers = service.visible_revisions(ctx, {release.revision for release in page.items})
    return values | {"page": page, "numbers": numbers}


def load_revisions(ctx: Read, key: str, cursor: str | None = None) -> dict[str, Any]:
    values = frame(ctx, key, "revisions")
    asset = values["asset"]
    asked = service.ListRevisions.model_validate({"asset": asset.id, "limit": PAGE, "cursor": cursor or None})
    page = service.list_revisions.run(ctx, asked)
    downloads = service.get_downloads.run(ctx, service.GetDownloads(asset=key)).revisions
    return values | {
        "page": page,
        "refs": service.refs_at(ctx, asset.id, {each.id for each in page.items}),
        "taken": {each.revision: each.total for each in downloads},
    }


def load_revision(ctx: Read, key: str) -> dict[str, Any]:
    revision = service.get_revision.run(ctx, service.GetRevision(revision=key))
    values = frame(ctx, revision.asset, "revisions")
    graph = ctx.once(service.lineage_of_revision, revision.id)
    before = service.parent_of(ctx, revision.id)
    return values | {
        "revision": revision,
        "parent": service.visible_revisions(ctx, [before]).get(before) if before else None,
        "refs": service.refs_at(ctx, revision.asset, {revision.id}).get(revision.id, []),
        "size_bytes": sum(file.size for file in revision.files),
        "graph": graph,
        "names": values["names"] | members.names(ctx, orgs_in(graph) | {revision.author}),
        "card": render_card(service.card_text(ctx, revision.id)),
    }


def load_lineage(ctx: Read, key: str) -> dict[str, Any]:
    values = frame(ctx, key, "lineage")
    graph = ctx.once(service.lineage_of_revision, values["head"].id) if values["head"] else None
    named = members.names(ctx, orgs_in(graph)) if graph else {}
    return values | {"graph": graph, "names": values["names"] | named}


def load_access(ctx: Read, key: str) -> dict[str, Any]:
    """One's own request, and for whoever decides, the queue: what waits first."""
    values = frame(ctx, key, "access")
    asset, queue = values["asset"], []
    if values["may_decide"]:
        for state in ("pending", "granted", "refused"):
            asked = service.ListAccess.model_validate({"asset": asset.id, "state": state, "limit": QUEUE})
            queue += service.list_access.run(ctx, asked).items
    mine = service.my_request(ctx, asset.id)
    shown = queue + ([mine] if mine else [])
    return values | {
        "mine": mine,
        "queue": queue[:QUEUE],
        "terms": service.revisions_by_card(ctx, asset.id, {each.terms for each in shown if each.terms}),
        "may_ask": asset.gated != "open" and ctx.actor.may("hub:access:request", ctx.actor.id),
        "names": values["names"] | members.names(ctx, {each.party for each in shown}),
    }


def orgs_in(graph: service.LineageOut) -> set[str]:
    return {node.org for node in graph.nodes if node.org}


def tags_in(card: Any) -> list[tuple[str, str]]:
    """(filter of the search, value) of each word that a card is filed under."""
    other = card.get("other", {}).get("tags")
    tags = [each for each in other if isinstance(each, str)] if isinstance(other, list) else []
    found = [("task", each) for each in card.get("tasks", ())] + [
        ("language", each) for each in card.get("languages", ())
    ]
    return list(dict.fromkeys(found + [("tag", each) for each in tags]))


VIEWS = (
    View("/hub/asset/{key}", "hub_asset.html", load_asset, id_prefix="ast"),
    View("/hub/asset/{key}/releases", "hub_releases.html", load_releases, params=("cursor",)),
    View("/hub/asset/{key}/revisions", "hub_revisions.html", load_revisions, params=("cursor",)),
    View("/hub/asset/{key}/lineage", "hub_lineage.html", load_lineage),
    View("/hub/asset/{key}/access", "hub_access.html", load_access),
    View("/hub/revision/{key}", "hub_revision.html", load_revision, id_prefix="rev"),
)
