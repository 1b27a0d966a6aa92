"""The pages of billing: the funds with what is in them, and the aid that the reader may see; a month's statement and an
invoice, to be printed; the tax table; and on the page of an organisation its aid and its months."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from gongqi.economy.billing import service
from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import MAX_PAGE, Read
from gongqi.members import service as members
from gongqi.resources.serving import service as serving

PAGE = 30
OFFERED = {"limit": MAX_PAGE, "state": "offered"}
READ_STATEMENT = "billing:statement:get"
OF_THE_FOUNDATION = (
    "billing:fund:open",
    "billing:aid:grant",
    "billing:package:publish",
    "billing:tax:publish",
)  # an owner's right to all within does not reach them


def load_billing(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    funds = service.list_funds.run(ctx, service.ListFunds.model_validate({"limit": PAGE, "cursor": cursor}))
    orgs = sorted(ctx.actor.orgs_with(READ_STATEMENT) & ctx.actor.orgs)
    shown = _aid(ctx) | {"may_buy": ctx.actor.may_somewhere("billing:subscription:start")}
    bought = _bought(ctx)
    verbs = [each for each in OF_THE_FOUNDATION if ctx.actor.may(each)]
    verbs += ["billing:fund:give"] if ctx.actor.may_somewhere("billing:fund:give") else []
    return {
        "funds": funds,
        "verbs": verbs,
        "orgs": orgs,
        **shown,
        **bought,
        "packages": service.list_packages.run(ctx, service.ListPackages.model_validate(OFFERED)).items,
        "may_withdraw": ctx.actor.may("billing:package:withdraw"),
        "names": shown["names"] | bought["names"] | members.names(ctx, orgs),
        "invoices": service.list_invoices.run(ctx, service.ListInvoices.model_validate({"limit": PAGE})).items,
        **_months(ctx),
    }


def load_taxes(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    page = service.list_taxes.run(ctx, service.ListTaxes.model_validate({"limit": PAGE, "cursor": cursor}))
    return {
        "page": page,
        "rate": _rate,
        "now": ctx.now,
        "may_publish": ctx.actor.may("billing:tax:publish"),
        "may_end": ctx.actor.may("billing:tax:end"),
    }


def load_invoice(ctx: Read, key: str) -> dict[str, Any]:
    invoice = service.get_invoice.run(ctx, service.OneInvoice(invoice=key))
    notes = service.ListInvoices.model_validate({"corrects": key, "limit": MAX_PAGE})
    return {
        "invoice": invoice,
        "currency": service.CURRENCIES[invoice.unit],
        "rate": _rate,
        "notes": service.list_invoices.run(ctx, notes).items,
        "has_packages": any(each.what == service.PACKAGE for each in invoice.lines),
        "may_credit": invoice.corrects is None and ctx.actor.may("billing:invoice:credit"),
    }


def load_statement(ctx: Read, org: str, month: str, unit: str = service.UNIT) -> dict[str, Any]:
    statement = service.get_statement.run(ctx, service.asked(org, month, unit))
    before, after = statement.since - timedelta(days=1), statement.until
    return {
        "statement": statement,
        "exact": partial(serving.exact, unit=statement.unit),
        "before": f"{before:%Y-%m}",
        "after": f"{after:%Y-%m}" if statement.is_over else None,
        "last": statement.until - timedelta(days=1),
        "issued": service.issued_for(ctx, org, month, statement.unit) if statement.is_over else None,
        "may_issue": statement.unit in service.CURRENCIES and ctx.actor.may("billing:invoice:issue", org),
    }


def load_organisation_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    shown, bought = _aid(ctx, org=key), _bought(ctx, org=key)
    is_organisation = members.parties_of(ctx, {key})[key].kind == "organisation"  # the page is that of any party
    may_read = is_organisation and ctx.actor.may(READ_STATEMENT, key)
    if not (shown["aid"] or bought["subscriptions"] or may_read):
        return None
    names = shown["names"] | bought["names"]
    return {**shown, **bought, **_months(ctx), "names": names, "org": key if may_read else None}


def _rate(each: Any) -> str:
    """As it is written: 6 % of 600 basis points; where there is no tax, nothing."""
    return f"{service.percent(each.rate_bp).normalize():f}%" if each.category != "O" else "–"


def _months(ctx: Read) -> dict[str, str]:
    first = ctx.now.replace(day=1)
    return {"month": f"{first:%Y-%m}", "month_before": f"{first - timedelta(days=1):%Y-%m}"}


def _bought(ctx: Read, **which: str) -> dict[str, Any]:
    rows = service.list_subscriptions.run(ctx, service.ListSubscriptions.model_validate({"limit": PAGE, **which})).items
    packages = service.list_packages.run(ctx, service.ListPackages.model_validate({"limit": MAX_PAGE})).items
    end = "billing:subscription:end"
    return {
        "subscriptions": rows,
        "package_names": {each.id: each.name for each in packages},
        "names": members.names(ctx, {each.org for each in rows}),
        "endable": {each.id for each in rows if each.state == "running" and ctx.actor.may(end, each.org)},
    }


def _aid(ctx: Read, **which: str) -> dict[str, Any]:
    aid = service.list_aid.run(ctx, service.ListAid.model_validate({"limit": MAX_PAGE, **which})).items
    funds = service.list_funds.run(ctx, service.ListFunds(limit=MAX_PAGE, cursor=None)).items
    return {
        "aid": aid,
        "fund_names": {each.id: each.name for each in funds},
        "names": members.names(ctx, {each.org for each in aid}),
        "may_end": ctx.actor.may("billing:aid:end"),
        "now": ctx.now,
    }


PANELS = (Panel("members_party.html", "billing_organisation_panel.html", load_organisation_panel),)
VIEWS = (
    View("/billing", "billing_list.html", load_billing, params=("cursor",)),
    View("/billing/taxes", "billing_taxes.html", load_taxes, params=("cursor",)),
    View("/billing/invoice/{key}", "billing_invoice.html", load_invoice, id_prefix="inv"),
    View("/billing/statement/{org}/{month}", "billing_statement.html", load_statement, params=("unit",)),
)
