"""The vocabulary of roles names only what exists."""

from __future__ import annotations

from gongqi import app
from gongqi.kernel.access import matches


def test_every_grant_of_every_role_names_a_permission_of_the_house() -> None:
    house = app.house()
    known = {*house.verbs, *house.reads, *(name for policy in house.policies.values() for name in policy.rules)}
    dead = {
        (role.name, grant)
        for role in house.vocabulary.roles.values()
        for grant in role.grants
        if grant != "*" and not any(matches(frozenset({grant}), name) for name in known)
    }
    assert dead == set()
