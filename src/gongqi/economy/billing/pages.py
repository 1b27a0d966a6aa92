"""The pages of billing: the funds with what is in them, and the aid that the reader may see; and on the page of an
organisation its own aid."""

from __future__ import annotations

from typing import Any

from gongqi.economy.billing import service
from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import MAX_PAGE, Read
from gongqi.members import service as members

PAGE = 30


def load_billing(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    funds = service.list_funds.run(ctx, service.ListFunds.model_validate({"limit": PAGE, "cursor": cursor}))
    return {"funds": funds, **_aid(ctx)}


def load_organisation_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    shown = _aid(ctx, org=key)
    return shown if shown["aid"] else None


def _aid(ctx: Read, **which: str) -> dict[str, Any]:
    aid = service.list_aid.run(ctx, service.ListAid.model_validate({"limit": MAX_PAGE, **which})).items
    funds = {
        each.id: each.name for each in service.list_funds.run(ctx, service.ListFunds(limit=MAX_PAGE, cursor=None)).items
    }
    return {"aid": aid, "fund_names": funds, "names": members.names(ctx, {each.org for each in aid}), "now": ctx.now}


PANELS = (Panel("members_party.html", "billing_organisation_panel.html", load_organisation_panel),)
VIEWS = (View("/billing", "billing_list.html", load_billing, params=("cursor",)),)
