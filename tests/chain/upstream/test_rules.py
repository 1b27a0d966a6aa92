"""Schedules, pledges and licences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.chain.upstream.rules import Stage, check_pledge, check_schedule, is_same_licence
from gongqi.kernel.errors import Refused

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


def refused(code: str):  # type: ignore[no-untyped-def]
    return pytest.raises(Refused, match=rf"^{code}\(")


def test_a_schedule_is_put_in_order_from_narrow_to_wide():
    stages = check_schedule([Stage("public", LATER), Stage("members", None)], now=NOW)
    assert [stage.audience for stage in stages] == ["members", "public"]


@pytest.mark.parametrize(
    ("stages", "code"),
    [
        ([], "upstream.schedule-audiences"),
        ([Stage("public", None), Stage("public", LATER)], "upstream.schedule-audiences"),
        ([Stage("members", LATER), Stage("public", None)], "upstream.schedule-order"),
        ([Stage("public", NOW + timedelta(days=4000))], "upstream.schedule-too-far"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(stages, code):
    with refused(code):
        check_schedule(stages, now=NOW)


def test_words_of_a_pledge_belong_to_a_scope():
    check_pledge("none", "  ")
    check_pledge("donated-work", "We promise.")
    check_pledge("all-necessary-claims", "")
    with refused("upstream.pledge-without-scope"):
        check_pledge("none", "We promise.")


@pytest.mark.parametrize(
    ("offered", "carried", "same"),
    [
        ("CC-BY-4.0", "cc-by-4.0", True),
        ("Apache-2.0 AND CC-BY-4.0", "CC-BY-4.0  and Apache-2.0", True),
        ("Apache-2.0 OR MIT", "Apache-2.0 AND MIT", False),
        ("CC-BY-4.0", "CC-BY-NC-4.0", False),
        ("CC-BY-4.0", None, False),
        ("((", "((", True),
        ("((", "MIT", False),
    ],
)
def test_licences_are_the_same_when_they_grant_the_same(offered, carried, same):
    assert is_same_licence(offered, carried) is same


@given(st.text(max_size=40), st.text(max_size=40))
def test_comparing_licences_never_raises_and_is_symmetric(left, right):
    assert is_same_licence(left, right) == is_same_licence(right, left)
