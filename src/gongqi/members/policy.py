"""Who may see and do what with parties, memberships, tokens and sessions.

Organisations and agents are public names: one must be able to say who answers for an asset. People are not: they are
seen by themselves, by members of an organisation they share, by the foundation's roles, and by everyone once they serve
as reviewers, because a reviewer acts in public.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, false, or_, select, true

from gongqi.kernel.access import FOUNDATION, Actor, Policy, Rule, any_of, owned_by_actor, where, within
from gongqi.members.models import ConsoleSession, Membership, OrganisationTier, Party, Token
from gongqi.members.rules import MACHINES

REVIEWER = "reviewer"

_machines = Party.kind.in_(sorted(MACHINES))
_has_roles_elsewhere = (
    select(Membership.id)
    .where(Membership.party == Party.id, Membership.org != Party.org, Membership.until.is_(None))
    .correlate(Party)
    .exists()
)
_reviewers = select(Membership.party).where(Membership.org == FOUNDATION, Membership.role == REVIEWER)


def foundation(actor: Actor, permission: str) -> ColumnElement[bool]:
    """All rows, for those who hold the permission foundation-wide."""
    return true() if actor.may(permission) else false()


def both(condition: ColumnElement[bool], rule: Rule) -> Rule:
    return lambda actor, permission: and_(condition, rule(actor, permission))


def colleagues(actor: Actor, permission: str) -> ColumnElement[bool]:
    """People who now belong to an organisation in which the actor holds the permission, or were invited by it."""
    orgs = sorted(actor.orgs_with(permission) & actor.orgs)
    if not orgs:
        return false()
    inside = select(Membership.party).where(Membership.org.in_(orgs), Membership.until.is_(None))
    return or_(Party.id.in_(inside), and_(Party.kind == "person", Party.org.in_(orgs), Party.state == "invited"))


POLICIES = (
    Policy(
        Party,
        read="members:party:read",
        rules={
            "members:party:read": any_of(
                where(Party.kind.in_(["organisation", "agent"])),
                where(Party.id.in_(_reviewers)),
                owned_by_actor(Party.id),
                both(Party.kind == "site", within(Party.org)),
                colleagues,
                foundation,
            ),
            "members:party:suspend": any_of(both(_machines, within(Party.org)), foundation),
            # What the foundation has shut out, its owner does not let back in.
            "members:party:restore": any_of(
                both(and_(_machines, Party.suspended_by.is_distinct_from(FOUNDATION)), within(Party.org)), foundation
            ),
            "members:token:issue": any_of(owned_by_actor(Party.id), both(_machines, within(Party.org))),
            "members:password:set": both(Party.kind == "person", owned_by_actor(Party.id)),
            # An owner may bring in whom they invited until that person has come in; then the account is theirs alone.
            # So it is once others have given that person a role: an owner must not come in as a reviewer.
            "members:signin:link": both(
                Party.kind == "person",
                any_of(foundation, both(and_(Party.state == "invited", ~_has_roles_elsewhere), within(Party.org))),
            ),
        },
    ),
    Policy(
        Membership,
        read="members:membership:read",
        rules={
            "members:membership:read": any_of(
                owned_by_actor(Membership.party),
                within(Membership.org),
                where(and_(Membership.org == FOUNDATION, Membership.role == REVIEWER)),
            ),
            "members:membership:end": any_of(owned_by_actor(Membership.party), within(Membership.org)),
        },
    ),
    Policy(OrganisationTier, read="members:tier:read", rules={"members:tier:read": within(OrganisationTier.org)}),
    Policy(
        Token,
        read="members:token:read",
        rules={
            "members:token:read": any_of(owned_by_actor(Token.party), within(Token.org)),
            "members:token:revoke": any_of(owned_by_actor(Token.party), within(Token.org)),
        },
    ),
    Policy(
        ConsoleSession,
        read="members:session:read",
        rules={
            "members:session:read": any_of(owned_by_actor(ConsoleSession.party), foundation),
            "members:session:end": any_of(owned_by_actor(ConsoleSession.party), foundation),
        },
    ),
)
