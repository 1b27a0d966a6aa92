"""Who may do what, as data and as SQL.

An `Actor` is resolved once at the door: what it is, which roles it holds where, and what its token narrows that to. A
room's `Policy` turns (actor, permission) into an SQL predicate over one table, so that reaching a row and being allowed
to reach it are the same query. Default deny: a permission that a policy does not name matches no row, and a token can
only ever narrow what its owner may do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, false, or_, true
from sqlalchemy.orm import InstrumentedAttribute

from gongqi.kernel.db import Base
from gongqi.kernel.errors import Broken

PUBLIC = "public"  # a permission like any other, held by everyone
WITHHELD = "withheld"  # who acted, in an entry of evidence that does not say
FOUNDATION = "*"  # the scope of a role that holds everywhere

Rule = Callable[["Actor", str], ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Actor:
    """Someone or something that acts.

    `grants` maps a scope (an organisation's id, or FOUNDATION) to permission patterns; `orgs` lists the organisations it
    belongs to in any role; `scopes` are a token's patterns, None when nothing narrows it.

    `token` is the token in use, or the one that the session rests on; `link_of` is whoever's sign-in link it came in by,
    when that was not its own: then that other could have acted in its name.
    """

    id: str
    kind: str
    name: str
    grants: Mapping[str, frozenset[str]] = field(default_factory=dict)
    orgs: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    session: str | None = None
    token: str | None = None
    link_of: str | None = None

    @property
    def is_anonymous(self) -> bool:
        return self.kind == "anonymous"

    def may(self, permission: str, org: str | None = None) -> bool:
        """Whether the actor holds `permission` foundation-wide or, when given, within `org`."""
        if permission == PUBLIC:
            return True
        if self.scopes is not None and not matches(self.scopes, permission):
            return False
        places = (FOUNDATION,) if org is None else (FOUNDATION, org)
        return any(matches(self.grants.get(place, frozenset()), permission) for place in places)

    def orgs_with(self, permission: str) -> frozenset[str]:
        """The organisations within which the actor holds `permission` by a role there."""
        if self.scopes is not None and not matches(self.scopes, permission):
            return frozenset()
        return frozenset(
            place for place, patterns in self.grants.items() if place != FOUNDATION and matches(patterns, permission)
        )

    def may_somewhere(self, permission: str) -> bool:
        return self.may(permission) or bool(self.orgs_with(permission))


ANONYMOUS = Actor(id="anonymous", kind="anonymous", name="")
SYSTEM = Actor(id="system", kind="system", name="system", grants={FOUNDATION: frozenset({"*"})})


def matches(patterns: frozenset[str], permission: str) -> bool:
    """`hub:release:publish` is matched by itself, `hub:release:*`, `hub:*` and `*`."""
    if permission in patterns or "*" in patterns:
        return True
    room, _, rest = permission.partition(":")
    return f"{room}:*" in patterns or f"{room}:{rest.partition(':')[0]}:*" in patterns


@dataclass(frozen=True, slots=True)
class Policy:
    """For one table: the rule of each permission, and which permission means that a row is visible at all."""

    model: type[Base]
    read: str
    rules: Mapping[str, Rule]

    def clause(self, actor: Actor, permission: str) -> ColumnElement[bool]:
        rule = self.rules.get(permission)
        if rule is None:
            raise Broken("kernel.policy-missing", model=self.model.__tablename__, permission=permission)
        return rule(actor, permission)


def within(column: InstrumentedAttribute[Any]) -> Rule:
    """Rows whose organisation is one where the actor holds the permission; all rows for a foundation-wide role."""

    def rule(actor: Actor, permission: str) -> ColumnElement[bool]:
        if actor.may(permission):
            return true()
        orgs = actor.orgs_with(permission)
        return column.in_(sorted(orgs)) if orgs else false()

    return rule


def owned_by_actor(column: InstrumentedAttribute[Any]) -> Rule:
    """Rows that are the actor's own."""

    def rule(actor: Actor, permission: str) -> ColumnElement[bool]:
        if actor.is_anonymous or (actor.scopes is not None and not matches(actor.scopes, permission)):
            return false()
        return column == actor.id

    return rule


def everyone(_actor: Actor, _permission: str) -> ColumnElement[bool]:
    return true()


def any_of(*rules: Rule) -> Rule:
    def rule(actor: Actor, permission: str) -> ColumnElement[bool]:
        return or_(*(each(actor, permission) for each in rules))

    return rule


def where(clause: ColumnElement[bool]) -> Rule:
    """A condition on the row alone, such as being public."""
    return lambda _actor, _permission: clause


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    scope: str  # "foundation" or "organisation"
    grants: frozenset[str]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The roles of one foundation: which permissions each holds, and where it can be held."""

    roles: Mapping[str, Role]

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        rows = tomllib.loads(path.read_text("utf-8"))["role"]
        return cls({name: Role(name, row["scope"], frozenset(row["grants"])) for name, row in rows.items()})

    def grants(self, roles: frozenset[str]) -> frozenset[str]:
        return frozenset().union(*(self.roles[role].grants for role in roles if role in self.roles))
