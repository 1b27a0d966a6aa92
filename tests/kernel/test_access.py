"""Default deny; a token only narrows; a right in one organisation is not a right in another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.kernel.access import ANONYMOUS, FOUNDATION, PUBLIC, SYSTEM, Actor, Vocabulary, matches, owned_by_actor


@pytest.mark.parametrize(
    ("pattern", "permission", "expected"),
    [
        ("hub:release:publish", "hub:release:publish", True),
        ("hub:release:*", "hub:release:publish", True),
        ("hub:*", "hub:release:publish", True),
        ("*", "hub:release:publish", True),
        ("hub:release", "hub:release:publish", False),
        ("hub:release:pub*", "hub:release:publish", False),
        ("hub:asset:*", "hub:release:publish", False),
        ("hu:*", "hub:release:publish", False),
        ("hub:release:publish", "hub:release:publish-all", False),
    ],
)
def test_a_pattern_matches_itself_its_noun_its_room_and_everything(pattern, permission, expected):
    assert matches({pattern}, permission) is expected


def test_nobody_may_anything_by_default_but_what_is_public():
    assert not ANONYMOUS.may("hub:asset:read")
    assert ANONYMOUS.may(PUBLIC)
    assert not ANONYMOUS.may_somewhere("hub:asset:read")
    assert SYSTEM.may("hub:asset:read", "org_any")


def test_a_role_in_one_organisation_gives_nothing_in_another_or_foundation_wide():
    actor = Actor("p", "person", "P", grants={"org_a": frozenset({"hub:*"})})
    assert actor.may("hub:asset:edit", "org_a")
    assert not actor.may("hub:asset:edit", "org_b")
    assert not actor.may("hub:asset:edit")
    assert actor.orgs_with("hub:asset:edit") == {"org_a"}
    assert actor.may_somewhere("hub:asset:edit")


def test_a_foundation_role_holds_in_every_organisation_without_listing_them():
    actor = Actor("p", "person", "P", grants={FOUNDATION: frozenset({"hub:asset:read"})})
    assert actor.may("hub:asset:read", "org_z")
    assert actor.orgs_with("hub:asset:read") == frozenset()


patterns = st.sampled_from(["*", "a:*", "a:b:*", "a:b:c", "a:b:d", "e:*", "e:f:g"])
permissions = st.sampled_from(["a:b:c", "a:b:d", "a:x:y", "e:f:g", "h:i:j"])
grants = st.dictionaries(st.sampled_from([FOUNDATION, "org_a", "org_b"]), st.frozensets(patterns), max_size=3)


@given(grants, st.frozensets(patterns), permissions, st.sampled_from([None, "org_a", "org_b"]))
def test_a_token_only_ever_narrows(granted, scopes, permission, org):
    whole = Actor("p", "person", "P", grants=granted)
    narrowed = Actor("p", "person", "P", grants=granted, scopes=scopes)
    assert narrowed.may(permission, org) <= whole.may(permission, org)
    assert narrowed.orgs_with(permission) <= whole.orgs_with(permission)
    assert narrowed.may(permission, org) == (whole.may(permission, org) and matches(scopes, permission))


def test_the_vocabulary_joins_the_grants_of_roles_and_ignores_unknown_ones(tmp_path):
    path = tmp_path / "vocabulary.toml"
    path.write_text(
        '[role.owner]\nscope = "organisation"\ngrants = ["hub:*"]\n'
        '[role.reader]\nscope = "organisation"\ngrants = ["hub:asset:read", "data:*"]\n'
    )
    vocabulary = Vocabulary.load(path)
    assert vocabulary.grants(frozenset({"owner", "reader", "retired"})) == {"hub:*", "hub:asset:read", "data:*"}
    assert vocabulary.grants(frozenset()) == frozenset()
    assert vocabulary.roles["owner"].scope == "organisation"


def test_owned_by_actor_gives_a_person_their_own_rows_and_a_stranger_none(village):
    rule = owned_by_actor(village.Note.org)
    person = village.person("alice")
    mine = rule(person, "village:note:read").compile(compile_kwargs={"literal_binds": True})
    assert str(mine) == "village_note.org = 'person_alice'"
    assert str(rule(ANONYMOUS, "village:note:read")) == "false"
    assert str(rule(village.person("alice", scopes={"other:*"}), "village:note:read")) == "false"
