"""Laws of identity: what a token, a giver and a guesser can never do, whatever the machine tries."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gongqi.kernel.access import FOUNDATION, Actor, matches
from gongqi.kernel.ids import mint
from gongqi.members import VOCABULARY, rules

WORDS = ("hub", "data", "asset", "read", "create")
NOW = datetime(2026, 1, 1, tzinfo=UTC)

word = st.sampled_from(WORDS)
permissions = st.tuples(word, word, word).map(":".join)
patterns = st.one_of(
    st.just("*"), word.map("{}:*".format), st.tuples(word, word).map(lambda two: f"{two[0]}:{two[1]}:*"), permissions
)
some = st.frozensets(patterns, max_size=5)
places = st.sampled_from(("org_a", "org_b", FOUNDATION))
grants = st.dictionaries(places, some, max_size=3)
somewhere = st.sampled_from((None, "org_a", "org_b"))


def actor(held, scopes) -> Actor:
    return Actor(id="per_x", kind="person", name="X", grants=held, scopes=scopes)


@given(grants, some, permissions, somewhere)
def test_no_token_ever_may_what_its_owner_may_not(held, scopes, permission, org):
    owner, token = actor(held, None), actor(held, scopes)
    assert not token.may(permission, org) or owner.may(permission, org)
    assert token.orgs_with(permission) <= owner.orgs_with(permission)
    assert not token.may_somewhere(permission) or owner.may_somewhere(permission)


@given(grants, some, some, permissions, somewhere)
def test_no_token_reaches_further_than_the_token_that_made_it(held, maker, scopes, permission, org):
    if rules.covers(maker, scopes):
        assert not actor(held, scopes).may(permission, org) or actor(held, maker).may(permission, org)


@given(some, some, permissions)
def test_what_covers_matches_all_that_the_covered_matches(large, small, permission):
    if rules.covers(large, small) and matches(small, permission):
        assert matches(large, permission)


@given(some, some, some)
def test_covering_is_an_order(one, two, three):
    assert rules.covers(one, one)
    if rules.covers(one, two) and rules.covers(two, three):
        assert rules.covers(one, three)


@given(patterns, patterns, permissions)
def test_patterns_that_share_a_permission_overlap(one, other, permission):
    if matches(frozenset({one}), permission) and matches(frozenset({other}), permission):
        assert rules.overlaps(one, other) and rules.overlaps(other, one)


@given(st.sampled_from(sorted(VOCABULARY.roles)), permissions)
def test_only_an_operator_may_everything_and_only_an_owner_all_within(role, permission):
    held = VOCABULARY.grants(frozenset({role}))
    if "*" in held:
        assert (role, VOCABULARY.roles[role].scope) in {("operator", "foundation"), ("owner", "organisation")}
    else:
        assert not matches(held, "members:membership:grant") and not matches(held, "members:organisation:create")


@given(st.lists(st.integers(0, 3600), max_size=60), st.integers(1, 20))
def test_a_guesser_never_tries_faster_than_the_limit_allows(pauses, limit):
    """However the tries are spaced, at most `limit` of them are allowed before the first lock, and one after each."""
    now, state, allowed = NOW, None, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        if state is None or state.seconds_to_wait(now) == 0:
            state = rules.attempt(state, limit, now)
            allowed.append((now, state))
    for (_, before), (later, after) in itertools.pairwise(allowed):
        if after.count > limit:
            assert before.locked_until is not None and before.locked_until <= later
            assert rules.FIRST_LOCK <= before.locked_until - before.last_at <= rules.LONGEST_LOCK
        assert after.count in (1, before.count + 1)


@given(st.integers(0, 10_000), st.integers(1, 100))
def test_each_lock_is_at_least_as_long_as_the_one_before(extra, limit):
    count = limit + extra
    assert rules.FIRST_LOCK <= rules.lock_for(count, limit) <= rules.lock_for(count + 1, limit) <= rules.LONGEST_LOCK


KINDS = ("person", "organisation", "agent", "site")


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1970), st.sampled_from(KINDS))
def test_an_id_lies_among_those_of_its_kind_and_of_no_other(moment, kind):
    key = mint(rules.prefix_of(kind), moment)
    spans = {each: rules.ids_of(each) for each in KINDS}
    assert [each for each, (first, last) in spans.items() if first <= key <= last] == [kind]
