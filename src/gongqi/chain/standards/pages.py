"""The page of standards: what stands between a submission and a release, gate by gate; and the page of a table.

On the hub's pages: what there is to check a release with other people's tools, the tables of a dataset with what their
donor says of them, and what changed in them between two revisions.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from gongqi.chain.standards import previews, proofs, service
from gongqi.chain.standards.policies import policies
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.gates import POLICY_PATH
from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import Read
from gongqi.resources.hub import service as hub

DRAWN_COLUMNS = 60  # of one table; the figures of the others are in the list
LISTED_TABLES = 30


def load_standards(ctx: Read) -> dict[str, Any]:
    by_source = groupby(service.rules(ctx), key=lambda rule: rule.source)
    return {"gates": [(source, list(rules)) for source, rules in by_source], "policies": policies().values()}


def load_policy(_ctx: Read, name: str) -> dict[str, Any]:
    if name not in policies():
        raise Refused("access.not-found", kind="policy", key=name[:100])
    return {"policy": policies()[name]}


def load_release_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    try:
        return {"proof": proofs.show_proof.run(ctx, proofs.OneProof(release=key))}
    except Unavailable:
        return {"proof": None}
    except Refused:
        return None  # not published


def load_table(ctx: Read, revision: str, path: str) -> dict[str, Any]:
    """A table, or the word for why there is nothing to show of it."""
    seen = hub.get_revision.run(ctx, hub.GetRevision(revision=revision))
    values = {"asset": hub.asset_out(ctx, seen.asset), "revision": seen, "path": path, "figure": figure}
    try:
        found = previews.preview.run(ctx, previews.OneTable(revision=revision, path=path))
    except Unavailable:
        return values | {"preview": None, "state": "coming"}
    except Refused as refused:
        if refused.code not in ("standards.no-table", "standards.table-too-much"):
            raise
        return values | {"preview": None, "state": refused.code.removeprefix("standards.")}
    return values | {"preview": found, "state": "read", "drawn": found.columns[:DRAWN_COLUMNS]}


def figure(value: float | str | None) -> str:
    """A number for people: whole ones grouped by thousands, others to four digits that mean something."""
    if value is None:
        return "—"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def load_tables_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    """On the page of an asset or a revision; nothing where there are no tables, or the caller may not have them."""
    revision = hub.shown_revision(ctx, key)
    if revision is None:
        return None
    try:
        files = hub.files_to_have(ctx, revision.id)
    except Refused:
        return None
    tables = previews.tables_in(ctx, files)
    try:
        described = previews.description_in(ctx, revision.id, files)
    except Unavailable:
        described = None
    if not tables and described is None:
        return None
    listed = tables[:LISTED_TABLES]
    return {"revision": revision, "tables": listed, "left": len(tables) - len(listed), "described": described}


def load_changes_panel(ctx: Read, before: str, after: str) -> dict[str, Any] | None:
    try:
        changed = previews.compare_tables.run(ctx, previews.TwoRevisions(before=before, after=after))
    except Refused:
        return None  # not for this reader; the page itself has said so
    return {"changed": changed, "figure": figure} if changed.tables else None


VIEWS = (
    View("/standards", "standards_list.html", load_standards),
    View(POLICY_PATH + "{name}", "standards_policy.html", load_policy),
    View("/standards/table/{revision}/{path:path}", "standards_table.html", load_table),
)
PANELS = (
    Panel("hub_release.html", "standards_release_panel.html", load_release_panel),
    Panel("hub_asset.html", "standards_tables_panel.html", load_tables_panel),
    Panel("hub_revision.html", "standards_tables_panel.html", load_tables_panel),
    Panel("hub_changes.html", "standards_changes_panel.html", load_changes_panel),
)
