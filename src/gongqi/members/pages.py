"""The pages of identity: the directory, one party, and one's own account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gongqi.kernel.access import FOUNDATION
from gongqi.kernel.room import View
from gongqi.kernel.verbs import MAX_PAGE, Read
from gongqi.members import service

KINDS = ("organisation", "person", "agent", "site")


def load_directory(ctx: Read, kind: str | None = None, cursor: str | None = None) -> dict[str, Any]:
    chosen = kind if kind in KINDS else KINDS[0]
    page = service.list_parties.run(ctx, service.ListParties.model_validate({"kind": chosen, "cursor": cursor}))
    return {
        "kinds": KINDS,
        "kind": chosen,
        "page": page,
        "names": {party.id: service.shown_name(ctx, party) for party in page.items},
        "verbs": [(each, {}) for each in service.creations(ctx)],
    }


def load_party(ctx: Read, key: str) -> dict[str, Any]:
    party = service.get_party.run(ctx, service.OneParty(party=key))
    held = _memberships(ctx, party=key)
    inside = _memberships(ctx, org=key) if party.kind == "organisation" else []
    tokens = _tokens(ctx, key)
    ids = {row.org for row in held} | {row.party for row in inside} | _given([party.org], tokens)
    return {
        "party": party,
        "name": service.shown_name(ctx, party),
        "held": held,
        "endable": service.endable(ctx, [row.id for row in (*held, *inside)]),
        "inside": inside,
        "names": service.names(ctx, ids - {FOUNDATION}),
        "tokens": tokens,
        "tiers": _tiers(ctx, key) if party.kind == "organisation" else [],
        "now": ctx.now,
        "verbs": service.actions(ctx, key),
    }


def load_me(ctx: Read) -> dict[str, Any]:
    me = service.show_me.run(ctx, service.Nothing())
    party = service.get_party.run(ctx, service.OneParty(party=me.id))
    held = _memberships(ctx, party=me.id)
    sessions = service.list_sessions.run(ctx, service.ListSessions(limit=MAX_PAGE, cursor=None)).items
    tokens = _tokens(ctx, me.id)
    ids = {row.org for row in held} | _given([], [*sessions, *tokens])
    return {
        "party": party,
        "held": held,
        "endable": service.endable(ctx, [row.id for row in held]),
        "names": service.names(ctx, ids - {FOUNDATION}),
        "sessions": sessions,
        "current": me.session,
        "tokens": tokens,
        "now": ctx.now,
        "verbs": [(each, {}) for each in ("members:token:issue", "members:password:set") if ctx.may(each)],
    }


def _given(ids: list[str | None], ways_in: Sequence[service.SessionOut | service.TokenOut]) -> set[str]:
    """Those of these ids, and of those whose link these ways in came by, that are."""
    return {each for each in (*ids, *(row.link_of for row in ways_in)) if each}


def _tokens(ctx: Read, party: str) -> list[service.TokenOut]:
    return service.list_tokens.run(ctx, service.ListTokens(party=party, limit=MAX_PAGE, cursor=None)).items


def _tiers(ctx: Read, org: str) -> list[service.TierOut]:
    return service.list_tiers.run(ctx, service.ListTiers(org=org, limit=MAX_PAGE, cursor=None)).items


def _memberships(ctx: Read, **which: str) -> list[service.MembershipOut]:
    return service.list_memberships.run(ctx, service.ListMemberships.model_validate({"limit": MAX_PAGE, **which})).items


VIEWS = (
    View("/members", "members_list.html", load_directory, params=("kind", "cursor")),
    View("/members/organisation/{key}", "members_party.html", load_party, id_prefix="org"),
    View("/members/person/{key}", "members_party.html", load_party, id_prefix="per"),
    View("/members/agent/{key}", "members_party.html", load_party, id_prefix="agt"),
    View("/members/site/{key}", "members_party.html", load_party, id_prefix="site"),
    View("/me", "members_me.html", load_me),
)
