"""The pages of upstream: what was given and promised, and one donation."""

from __future__ import annotations

from typing import Any

from gongqi.chain.upstream import service
from gongqi.chain.upstream.pledges import ListPledges, OnePledge, get_pledge, list_pledges, pledges_for
from gongqi.chain.upstream.rules import AUDIENCES
from gongqi.kernel.room import Figure, Panel, View
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import service as hub

PAGE = 30


def load_upstream(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    given = {"limit": PAGE, "cursor": cursor}
    page = service.list_donations.run(ctx, service.ListDonations.model_validate(given))
    pledges = list_pledges.run(ctx, ListPledges.model_validate({"limit": PAGE}))
    rows = [*page.items, *pledges.items]
    return {
        "page": page,
        "pledges": pledges.items,
        "assets": hub.visible_assets(ctx, {row.asset for row in rows if row.asset}),
        "names": members.names(ctx, {row.org for row in rows}),
    }


def load_donation(ctx: Read, key: str) -> dict[str, Any]:
    donation = service.get_donation.run(ctx, service.OneDonation(donation=key))
    verbs = ("upstream:donation:accept", "upstream:donation:decline")
    return {
        "donation": donation,
        "asset": hub.visible_assets(ctx, {donation.asset}).get(donation.asset),
        "names": members.names(ctx, {donation.org}),
        "stages": [
            {"audience": stage.audience, "opens_at": stage.opens_at, "is_open": _is_open(donation, stage.audience)}
            for stage in donation.schedule
        ],
        "decisions": [name for name in verbs if donation.state == "offered" and ctx.actor.may(name)]
        + _moves(ctx, donation),
    }


def _moves(ctx: Read, donation: service.DonationOut) -> list[str]:
    """What its own people may still do about its hours."""
    name, is_open = "upstream:donation:reschedule", donation.visibility == donation.schedule[-1].audience
    return [name] if donation.state != "declined" and not is_open and ctx.actor.may(name, donation.org) else []


def load_pledge(ctx: Read, key: str) -> dict[str, Any]:
    pledge = get_pledge.run(ctx, OnePledge(pledge=key))
    may_end = pledge.revocation != "irrevocable" and pledge.ends_at is None
    return {
        "pledge": pledge,
        "asset": hub.visible_assets(ctx, {pledge.asset}).get(pledge.asset) if pledge.asset else None,
        "names": members.names(ctx, {pledge.org}),
        "actions": ["upstream:pledge:revoke"]
        if may_end and ctx.actor.may("upstream:pledge:revoke", pledge.org)
        else [],
    }


def load_asset_pledges(ctx: Read, key: str) -> dict[str, Any] | None:
    """The pledges about what the page shows."""
    pledges = pledges_for(ctx, key)
    return {"about": pledges, "names": members.names(ctx, {each.org for each in pledges})} if pledges else None


def load_release_pledges(ctx: Read, key: str) -> dict[str, Any] | None:
    return load_asset_pledges(ctx, hub.release_facts(ctx, key).asset)


def _is_open(donation: service.DonationOut, audience: str) -> bool:
    return donation.visibility in AUDIENCES[AUDIENCES.index(audience) :]


PANELS = (
    Panel("hub_asset.html", "upstream_pledges.html", load_asset_pledges),
    Panel("hub_release.html", "upstream_pledges.html", load_release_pledges),
)
VIEWS = (
    View("/upstream", "upstream_list.html", load_upstream, params=("cursor",)),
    View("/upstream/pledge/{key}", "upstream_pledge.html", load_pledge, id_prefix="plg"),
    View("/upstream/donation/{key}", "upstream_donation.html", load_donation, id_prefix="don"),
)
FIGURES = (Figure("upstream.figure.donations", "/upstream", service.accepted_donations),)
