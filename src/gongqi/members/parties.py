"""Parties and their roles: who there is, who belongs where, since when.

Invariants: nobody gives a role they do not hold in full themselves, by their own grants and by the token they use; an
organisation keeps at least one owner and the foundation one operator; foundation roles and ownership are for people;
an agent or a site has roles in its own organisation only. An owner cannot draw in a stranger: belonging has
consequences (a reviewer who belongs to a donor must recuse), so someone from outside is added by the foundation.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from sqlalchemy import bindparam, func, or_, select

from gongqi.kernel.access import FOUNDATION
from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.questions import Question
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import rules
from gongqi.members.models import ConsoleSession, Membership, Party

LAST_OF_THEIR_KIND = {"owner": "members.last-owner", "operator": "members.last-operator"}


class PartyOut(Output):
    id: str
    kind: str
    handle: str
    name: str
    org: str | None
    state: str
    created_at: datetime
    version: int


class ProfileOut(PartyOut):
    """`email` is given to the person and to operators, and is null for everyone else."""

    email: str | None


class MembershipOut(Output):
    id: str
    party: str
    org: str
    role: str
    since: datetime
    until: datetime | None


class MeOut(Output):
    """Who the caller is, and what it may do where: permission patterns by organisation, "*" for the foundation.

    `link_of`: whose sign-in link the caller came in by, when it was somebody else's.
    """

    id: str
    kind: str
    name: str
    orgs: list[str]
    grants: dict[str, list[str]]
    scopes: list[str] | None
    session: str | None
    link_of: str | None


class Named(Input):
    handle: str = Field(pattern=rules.HANDLE_PATTERN)
    name: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(min_length=1, max_length=rules.MAX_NAME)


class CreateOrganisation(Named):
    owner: str | None = Field(None, max_length=64)


class CreatePerson(Named):
    email: str | None = Field(None, pattern=rules.EMAIL_PATTERN, max_length=rules.MAX_EMAIL)
    org: str | None = Field(None, max_length=64)
    role: str = Field("member", max_length=40)


class CreateMachine(Named):
    org: str = Field(max_length=64)
    role: str = Field("developer", max_length=40)


class CreateSite(CreateMachine):
    role: str = Field("member", max_length=40)


class GrantMembership(Input):
    """`org` is an organisation's id, or "*" for a role in the foundation."""

    party: str = Field(max_length=64)
    org: str = Field(max_length=64)
    role: str = Field(max_length=40)


class EndMembership(Input):
    membership: str = Field(max_length=64)


class OneParty(Input):
    party: str = Field(max_length=64)


class ListParties(Paged):
    kind: Literal["person", "organisation", "agent", "site"] | None = None
    handle: str | None = Field(None, max_length=rules.MAX_HANDLE)
    org: str | None = Field(None, max_length=64)


class ListMemberships(Paged):
    party: str | None = Field(None, max_length=64)
    org: str | None = Field(None, max_length=64)


class Nothing(Input):
    pass


@verb("members:organisation:create", evidence="members.organisation-created")
def create_organisation(ctx: Write, input: CreateOrganisation) -> PartyOut:
    """Found an organisation; `owner` may already be named."""
    ctx.require("members:organisation:create")
    party = add_party(ctx, "organisation", input)
    ctx.record(party.id, handle=party.handle, name=party.name)
    if input.owner:
        _grant(ctx, _known(ctx, input.owner), party.id, "owner")
    return PartyOut.model_validate(party)


@verb("members:person:create", evidence="members.person-created")
def create_person(ctx: Write, input: CreatePerson) -> PartyOut:
    """Invite a person, into an organisation if one is given. They come in by a one-time link."""
    ctx.require("members:person:create", input.org)
    if input.org:
        _known(ctx, input.org, kind="organisation")
    party = add_party(ctx, "person", input, org=input.org, email=input.email, state="invited")
    ctx.record(party.id, org=input.org)
    if input.org:
        _grant(ctx, party, input.org, input.role)
    return PartyOut.model_validate(party)


@verb("members:agent:create", evidence="members.agent-created")
def create_agent(ctx: Write, input: CreateMachine) -> PartyOut:
    """Register a program that acts for an organisation."""
    ctx.require("members:agent:create", input.org)
    return _create_machine(ctx, "agent", input)


@verb("members:site:create", evidence="members.site-created")
def create_site(ctx: Write, input: CreateSite) -> PartyOut:
    """Register a place where an organisation lends compute or keeps data."""
    ctx.require("members:site:create", input.org)
    return _create_machine(ctx, "site", input)


@verb("members:membership:grant", evidence="members.membership-granted")
def grant_membership(ctx: Write, input: GrantMembership) -> MembershipOut:
    """Give a party a role in an organisation, or in the foundation."""
    ctx.require("members:membership:grant", None if input.org == FOUNDATION else input.org)
    party = ctx.find(Party, input.party, to="members:party:read")
    if input.org != FOUNDATION:
        _known(ctx, input.org, kind="organisation")
    if not ctx.actor.may("members:membership:grant") and not _belongs(ctx, party, input.org):
        raise Refused("members.outsider", party=party.id, org=input.org)
    return _grant(ctx, party, input.org, input.role)


@verb("members:membership:end", evidence="members.membership-ended")
def end_membership(ctx: Write, input: EndMembership) -> MembershipOut:
    """End a role, at once. Its dates stay on record."""
    row = ctx.find(Membership, input.membership, to="members:membership:end")
    if row.until is not None:
        raise Refused("members.membership-ended", membership=row.id)
    _keep_one(ctx, row)
    row.until = ctx.now
    ctx.record(row.id, party=row.party, org=row.org, role=row.role)
    return MembershipOut.model_validate(row)


@verb("members:party:suspend", evidence="members.party-suspended")
def suspend(ctx: Write, input: OneParty) -> PartyOut:
    """Shut a party out at once: its tokens and sessions stop working, its members lose their roles in it."""
    party = ctx.find(Party, input.party, to="members:party:suspend")
    if party.id == ctx.actor.id or party.state == "suspended":
        raise Refused("members.cannot-suspend", party=party.id)
    for row in ctx.session.scalars(select(Membership).where(Membership.party == party.id, Membership.until.is_(None))):
        _keep_one(ctx, row)
    party.state = "suspended"
    party.suspended_by = FOUNDATION if ctx.actor.may("members:party:suspend") else party.org
    for session in ctx.session.scalars(select(ConsoleSession).where(ConsoleSession.party == party.id)):
        ctx.session.delete(session)
    ctx.record(party.id)
    ctx.session.flush()
    return PartyOut.model_validate(party)


@verb("members:party:restore", evidence="members.party-restored")
def restore(ctx: Write, input: OneParty) -> PartyOut:
    """Let a suspended party back in; its tokens work again unless they were revoked."""
    party = ctx.find(Party, input.party, to="members:party:restore")
    if party.state != "suspended":
        raise Refused("members.not-suspended", party=party.id)
    party.state, party.suspended_by = "active", None
    ctx.record(party.id)
    ctx.session.flush()
    return PartyOut.model_validate(party)


@read("members:party:list")
def list_parties(ctx: Read, input: ListParties) -> Page[PartyOut]:
    query = ctx.visible(Party, to="members:party:read")
    if input.kind:
        query = query.where(Party.kind == input.kind, Party.id.between(*rules.ids_of(input.kind)))
    if input.handle:
        query = query.where(Party.handle == input.handle)
    if input.org:
        now_in = select(Membership.party).where(Membership.org == input.org, Membership.until.is_(None))
        query = query.where(Party.id.in_(now_in))
    return ctx.page(query, Party.id, input, to=PartyOut)


@read("members:party:get")
def get_party(ctx: Read, input: OneParty) -> ProfileOut:
    party = ctx.find(Party, input.party, to="members:party:read")
    profile = ProfileOut.model_validate(party)
    if party.id == ctx.actor.id or ctx.actor.may("members:email:read"):
        return profile
    return profile.model_copy(update={"email": None})


@read("members:membership:list")
def list_memberships(ctx: Read, input: ListMemberships) -> Page[MembershipOut]:
    return ctx.listed(Membership, MembershipOut, input, to="members:membership:read")


@read("members:me:show")
def show_me(ctx: Read, input: Nothing) -> MeOut:
    actor = ctx.actor
    if actor.is_anonymous:
        raise Refused("access.sign-in-needed", permission="members:me:show")
    return MeOut(
        id=actor.id,
        kind=actor.kind,
        name=actor.name,
        orgs=sorted(actor.orgs),
        session=actor.session,
        link_of=actor.link_of,
        grants={place: sorted(patterns) for place, patterns in actor.grants.items()},
        scopes=None if actor.scopes is None else sorted(actor.scopes),
    )


# ---- for other rooms


def affiliations(ctx: Read, party: str, at: datetime) -> frozenset[str]:
    """The organisations `party` was affiliated with at `at`: by any role, by being its agent or site, or by being it.

    For conflicts of interest, so it asks for no permission and shows nothing but ids.
    """
    then = (Membership.since <= at, or_(Membership.until.is_(None), Membership.until > at))
    roles = select(Membership.org).where(Membership.party == party, Membership.org != FOUNDATION, *then)
    orgs = set(ctx.session.scalars(roles))
    row = ctx.session.get(Party, party)
    if row is not None and row.kind == "organisation":
        orgs.add(row.id)
    if row is not None and row.kind in rules.MACHINES and row.org:
        orgs.add(row.org)
    return frozenset(orgs)


def holders(ctx: Read, role: str, org: str = FOUNDATION) -> frozenset[str]:
    """The active parties that now hold `role` in `org`: the board's roster is holders(ctx, "reviewer")."""
    query = select(Membership.party).join(Party, Party.id == Membership.party)
    query = query.where(Membership.role == role, Membership.org == org, Membership.until.is_(None))
    return frozenset(ctx.session.scalars(query.where(Party.state != "suspended")))


def foundation(ctx: Read) -> str:
    """The organisation that the foundation itself is. Raises: Broken("members.foundation-missing")."""
    found = ctx.session.scalar(select(Party.id).where(Party.handle == rules.FOUNDATION_HANDLE))
    if found is None:
        raise Broken("members.foundation-missing", handle=rules.FOUNDATION_HANDLE)
    return found


def require_organisation(ctx: Read, org: str) -> PartyOut:
    """The organisation `org`. Raises: Refused("members.party-unknown")."""
    return PartyOut.model_validate(_known(ctx, org, kind="organisation"))


_ORGANISATION = Question(
    select(*(getattr(Party, name) for name in PartyOut.model_fields)).where(
        Party.handle == bindparam("handle"), Party.kind == "organisation"
    )
)


def organisation_called(ctx: Read, handle: str) -> PartyOut | None:
    """The organisation with this handle; such names are public."""
    row = _ORGANISATION.first(ctx.session, handle=handle)
    return PartyOut.model_validate(row) if row else None


def party_called(ctx: Read, handle: str) -> PartyOut:
    """The party with this handle, if the actor may see it. Raises: Refused("members.party-unknown")."""
    row = ctx.session.scalar(ctx.visible(Party, to="members:party:read").where(Party.handle == handle))
    if row is None:
        raise Refused("members.party-unknown", party=handle[:64], kind="party")
    return PartyOut.model_validate(row)


def parties_of(ctx: Read, ids: Collection[str]) -> dict[str, PartyOut]:
    """These parties, whoever asks: for rooms whose own rows have been authorised and name them."""
    rows = ctx.session.scalars(select(Party).where(Party.id.in_(sorted(ids))))
    return {row.id: PartyOut.model_validate(row) for row in rows}


def names(ctx: Read, ids: Collection[str]) -> dict[str, str]:
    """Names to show for these ids; an id the actor may not see stands for itself."""
    query = ctx.visible(Party, to="members:party:read").where(Party.id.in_(sorted(ids)))
    return {each: each for each in ids} | {party.id: shown_name(ctx, party) for party in ctx.session.scalars(query)}


def shown_name(ctx: Read, party: Party | PartyOut) -> str:
    """A party has one name, as it calls itself; the foundation, whose house this is, has one in each language."""
    settings = ctx.kernel.settings
    is_foundation = party.handle == rules.FOUNDATION_HANDLE and party.name == settings.foundation[: rules.MAX_NAME]
    return settings.foundation_in(ctx.language) if is_foundation else party.name


def actions(ctx: Read, key: str) -> list[tuple[str, dict[str, str]]]:
    """The verbs that the actor may use on this party, each with what it is to be filled with."""
    party = ctx.find(Party, key, to="members:party:read")
    change = "members:party:restore" if party.state == "suspended" else "members:party:suspend"
    on_party = ("members:signin:link", "members:token:issue", change)
    found = [(verb, {"party": key}) for verb in on_party if ctx.actor.may_somewhere(verb) and ctx.may(verb, party)]
    if party.kind == "organisation":
        verbs = ("members:membership:grant", "members:person:create", "members:agent:create", "members:site:create")
        found += [(verb, {"org": key}) for verb in verbs if ctx.actor.may(verb, key)]
        found += [("members:tier:set", {"org": key})] if ctx.actor.may("members:tier:set") else []
    return found


def creations(ctx: Read) -> list[str]:
    """The kinds of party that the actor may add; organisations only foundation-wide."""
    verbs = ("members:person:create", "members:agent:create", "members:site:create")
    founding = ["members:organisation:create"] if ctx.actor.may("members:organisation:create") else []
    return founding + [verb for verb in verbs if ctx.actor.may_somewhere(verb)]


def endable(ctx: Read, ids: Collection[str]) -> frozenset[str]:
    """Those of these memberships that the actor may end."""
    query = ctx.visible(Membership, to="members:membership:end").where(Membership.id.in_(sorted(ids)))
    return frozenset(row.id for row in ctx.session.scalars(query))


# ---- within


def add_party(
    ctx: Write, kind: str, named: Named, *, org: str | None = None, email: str | None = None, state: str = "active"
) -> Party:
    if ctx.session.scalar(select(Party.id).where(Party.handle == named.handle)):
        raise Refused("members.handle-taken", handle=named.handle)
    party = Party(
        id=ctx.new_id(rules.prefix_of(kind)),
        kind=kind,
        handle=named.handle,
        name=named.name,
        email=email,
        org=org,
        state=state,
        created_at=ctx.now,
    )
    ctx.add(party)
    ctx.session.flush()
    return party


def add_membership(ctx: Write, party: str, org: str, role: str) -> Membership:
    row = ctx.add(Membership(id=ctx.new_id("mem"), party=party, org=org, role=role, since=ctx.now))
    ctx.record(row.id, kind="members.membership-granted", party=party, org=org, role=role)
    return row


def _create_machine(ctx: Write, kind: str, input: CreateMachine) -> PartyOut:
    _known(ctx, input.org, kind="organisation")
    party = add_party(ctx, kind, input, org=input.org)
    public: dict[str, Any] = (
        {"handle": party.handle} if kind == "agent" else {}
    )  # a site's name is its organisation's own
    ctx.record(party.id, org=input.org, **public)
    _grant(ctx, party, input.org, input.role)
    return PartyOut.model_validate(party)


def _known(ctx: Read, key: str, *, kind: str | None = None) -> Party:
    party = ctx.session.get(Party, key)
    if party is None or (kind and party.kind != kind):
        raise Refused("members.party-unknown", party=key[:64], kind=kind or "party")
    return party


def _belongs(ctx: Read, party: Party, org: str) -> bool:
    if party.org == org and (party.kind in rules.MACHINES or party.state == "invited"):
        return True
    query = select(Membership.id).where(Membership.party == party.id, Membership.org == org, Membership.until.is_(None))
    return ctx.session.scalar(query.limit(1)) is not None


def _grant(ctx: Write, party: Party, org: str, role: str) -> MembershipOut:
    """Add the role, if it exists there, fits the party and is not more than the giver has."""
    known = ctx.kernel.house.vocabulary.roles.get(role)
    if known is None or known.scope != ("foundation" if org == FOUNDATION else "organisation"):
        raise Refused("members.role-unknown", role=role)
    if party.kind == "organisation" or (party.kind in rules.MACHINES and (org != party.org or role == "owner")):
        raise Refused("members.role-unfit", role=role, kind=party.kind)
    scopes, grants = ctx.actor.scopes, ctx.actor.grants
    held = grants.get(FOUNDATION, frozenset()) | grants.get(org, frozenset())
    if not rules.covers(held, known.grants) or (scopes is not None and not rules.covers(scopes, known.grants)):
        raise Refused("members.role-beyond-giver", role=role)
    current = select(Membership.id).where(Membership.party == party.id, Membership.org == org, Membership.role == role)
    if ctx.session.scalar(current.where(Membership.until.is_(None))):
        raise Refused("members.role-held", role=role, party=party.id)
    return MembershipOut.model_validate(add_membership(ctx, party.id, org, role))


def _keep_one(ctx: Write, leaving: Membership) -> None:
    """Refuse if nobody else who can act would hold this role after `leaving` has gone."""
    code = LAST_OF_THEIR_KIND.get(leaving.role)
    if code is None:
        return
    others = (
        select(func.count())
        .select_from(Membership)
        .join(Party, Party.id == Membership.party)
        .where(Membership.org == leaving.org, Membership.role == leaving.role, Membership.until.is_(None))
        .where(Membership.party != leaving.party, Party.state == "active")
    )
    if not ctx.session.scalar(others):
        raise Refused(code, org=leaving.org)
