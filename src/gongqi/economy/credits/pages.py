"""The pages of credits: the policies with the splits that concern the reader, how one fee was divided, and on the page of
a deployment how each of its fees will be."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

from gongqi.books.ledger.rules import written
from gongqi.economy.credits import service
from gongqi.economy.credits.rules import SHARES
from gongqi.kernel.money import UNITS
from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import Paged, Read
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.serving import service as serving

PAGE = 30
FINER = 2  # places by which an exact share is shown finer than an amount


def load_credits(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    splits = service.ListSplits.model_validate({"limit": PAGE, "cursor": cursor})
    return {
        "shares": SHARES,
        "policies": service.list_policies.run(ctx, Paged(limit=PAGE, cursor=None)).items,
        "page": service.list_splits.run(ctx, splits),
    }


def load_split(ctx: Read, key: str) -> dict[str, Any]:
    split = service.get_split.run(ctx, service.OneSplit(split=key))
    return {
        "split": split,
        "write": partial(written, unit=split.unit),
        "receipt": service.get_split_receipt.run(ctx, service.OneSplit(split=key)) if split.evidence else None,
        "due": [_due(split.fees, line, UNITS[split.unit].decimals) for line in split.lines],
        "releases": service.releases_on_path(ctx, split),
    }


def load_deployment_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    """What of a fee goes where, before any is paid: the lineage with the share of each source on its edge."""
    claims = service.claims_on(ctx, key)
    if not claims:
        return None
    deployment = serving.deployment_facts(ctx, key)
    names = members.names(ctx, {claim.owner for claim in claims})
    shown = {deployment.asset} | {claim.asset for claim in claims if claim.asset}
    assets = hub.visible_assets(ctx, shown)
    if shown - assets.keys():
        return None
    return {"deployment": deployment, "claims": claims, "names": names, "assets": assets, "share": _percent}


def load_release_lineage(ctx: Read, key: str) -> dict[str, Any] | None:
    return _lineage(ctx, hub.get_release.run(ctx, hub.OneRelease(release=key)).revision)


def load_revision_lineage(ctx: Read, key: str) -> dict[str, Any] | None:
    return _lineage(ctx, hub.get_revision.run(ctx, hub.GetRevision(revision=key)).id)


def load_asset_lineage(ctx: Read, key: str) -> dict[str, Any] | None:
    head = hub.latest_revision(ctx, hub.get_asset.run(ctx, hub.GetAsset(asset=key)).id)
    return _lineage(ctx, head.id) if head else None


def _lineage(ctx: Read, revision: str) -> dict[str, Any] | None:
    """The lineage with what flows back along it; None where no fee would, and the hub's own picture stands."""
    graph = ctx.once(hub.lineage_of_revision, revision)
    shares, own = service.shares_on(ctx, graph)
    if not shares:
        return None
    names = members.names(ctx, {node.org for node in graph.nodes if node.org})
    carried = {edge: _percent(weight) for edge, weight in shares.items()}
    return {"graph": graph, "carried": carried, "own": _percent(own), "names": names}


def _percent(weight: Fraction) -> str:
    """A share in percent, to the basis point of the policy; a share that is finer is rounded, and says so."""
    points = weight * 10_000
    text = f"{round(points) / 100:g}%"
    return text if points.denominator == 1 else f"≈ {text}"


def _due(fees: int | None, line: service.LineOut, decimals: int) -> str:
    """The exact share of `fees` that a line is a claim to, two places finer than what can be paid."""
    if fees is None or line.weight is None or line.whole is None:
        return ""
    exact = (Decimal(fees) * line.weight / line.whole).scaleb(-decimals)
    return f"{exact.quantize(Decimal(1).scaleb(-decimals - FINER)):,}"


PANELS = (
    Panel("serving_deployment.html", "credits_deployment_panel.html", load_deployment_panel),
    Panel("hub_release.html", "credits_lineage_panel.html", load_release_lineage, place="lineage"),
    Panel("hub_revision.html", "credits_lineage_panel.html", load_revision_lineage, place="lineage"),
    Panel("hub_lineage.html", "credits_lineage_panel.html", load_asset_lineage, place="lineage"),
)
VIEWS = (
    View("/credits", "credits_list.html", load_credits, params=("cursor",)),
    View("/credits/split/{key}", "credits_split.html", load_split, id_prefix="spl"),
)
