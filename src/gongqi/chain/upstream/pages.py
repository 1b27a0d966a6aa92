"""The pages of upstream: what was given and promised, and one donation."""

from __future__ import annotations

from typing import Any

from gongqi.chain.upstream import service
from gongqi.chain.upstream.rules import AUDIENCES
from gongqi.kernel.room import Figure, View
from gongqi.kernel.verbs import Paged, Read
from gongqi.members import service as members
from gongqi.resources.hub import service as hub

PAGE = 30


def load_upstream(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    given = {"limit": PAGE, "cursor": cursor}
    page = service.list_donations.run(ctx, service.ListDonations.model_validate(given))
    pledges = service.list_pledges.run(ctx, Paged.model_validate({"limit": PAGE}))
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
        "decisions": [name for name in verbs if donation.state == "offered" and ctx.actor.may(name)],
    }


def _is_open(donation: service.DonationOut, audience: str) -> bool:
    return donation.visibility in AUDIENCES[AUDIENCES.index(audience) :]


VIEWS = (
    View("/upstream", "upstream_list.html", load_upstream, params=("cursor",)),
    View("/upstream/donation/{key}", "upstream_donation.html", load_donation, id_prefix="don"),
)
FIGURES = (Figure("upstream.figure.donations", "/upstream", service.accepted_donations),)
