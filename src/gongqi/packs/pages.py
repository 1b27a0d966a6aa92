"""The page of packs: what is loaded, its rules with the articles they rest on, its worked cases, and what the rules say of
the reader's own question; and on the page of a model the rules that act on calls of it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import Read
from gongqi.packs import rules, service
from gongqi.packs.reading import ReadPack, failures
from gongqi.packs.shelf import shelf
from gongqi.resources.serving import routes as serving
from gongqi.resources.serving.crossings import country_of


def load_packs(ctx: Read, caller: str = "", server: str = "", audience: str = "", as_of: str = "") -> dict[str, Any]:
    asked = {"caller": caller.upper(), "server": server.upper(), "audience": audience, "as_of": as_of or None}
    try:
        found = service.ask_rules.run(ctx, service.AskRules.model_validate(asked))
    except ValidationError:  # of a question that was typed into the address
        asked, found = dict.fromkeys(asked, ""), service.ask_rules.run(ctx, service.AskRules.model_validate({}))
    loaded = {name: service.LoadedPackOut.model_validate(row) for name, row in service.loaded_now(ctx).items()}
    return {
        "packs": [_shown(ctx, pack, loaded.get(pack.name)) for pack in shelf().values()],
        "asked": asked,
        "found": found,
        "may_load": ctx.actor.may("packs:pack:load"),
    }


def load_model_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    """The rules that may act on calls of this model: those in force that are not out of the question."""
    server = country_of(serving.route_facts(ctx, key).region)
    found = service.ask_rules.run(ctx, service.AskRules.model_validate({"server": server})).items
    rows = [finding for finding in found if finding.state != "not-applicable"]
    return {"rules": rows} if rows else None


def _shown(ctx: Read, pack: ReadPack, row: service.LoadedPackOut | None) -> dict[str, Any]:
    failed = failures(pack)
    return {
        "pack": pack,
        "row": row,
        "is_altered": row is not None and row.digest != pack.digest,
        "rules": [service.finding_out(ctx, pack, rules.Finding(rule, "applies")) for rule in pack.rules],
        "cases": [(case, case.en not in failed) for case in pack.cases],
    }


VIEWS = (View("/packs", "packs_list.html", load_packs, params=("caller", "server", "audience", "as_of")),)
PANELS = (Panel("serving_model.html", "packs_model_panel.html", load_model_panel),)
