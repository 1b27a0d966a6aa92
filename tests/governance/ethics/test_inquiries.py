"""A drift opens an inquiry, one and not ten; a reviewer who has no part in it says what it means."""

from __future__ import annotations

import importlib

import pytest

from gongqi.governance.ethics import inquiries
from gongqi.kernel.access import FOUNDATION, Actor
from gongqi.kernel.errors import Refused
from gongqi.members import VOCABULARY, parties
from gongqi.resources.serving import drift
from gongqi.resources.serving.drifting import Change
from gongqi.resources.serving.events import DriftFound
from tests.sim.talk import Talk

CLOSING = {"outcome": "harmless", "finding": "Longer questions since the new term began."}


@pytest.fixture
def market(build, clock):
    return importlib.import_module("tests.sim.market").open_market(build, "governance.ethics", clock=clock)


@pytest.fixture
def talk(market):
    return Talk(market)


@pytest.fixture
def reviewer(market):
    def add(ctx):
        made = parties.add_party(ctx, "person", parties.Named(handle="reviewer", name="Reviewer"))
        parties.add_membership(ctx, made.id, FOUNDATION, "reviewer")
        return made.id

    key = market.kernel.transact(add, reason="test")
    return Actor(key, "person", "Reviewer", grants={FOUNDATION: VOCABULARY.grants(frozenset({"reviewer"}))})


def drifted(talk, route, stream="latency"):
    """A drift as the watch tells of one."""
    change = Change(begins=100, before=1000, after=9000, before_count=100, after_count=60)
    talk.market.kernel.transact(lambda ctx: drift.tell(ctx, route.id, stream, change), reason="test")
    talk.market.work()


def opened(talk, **query):
    return talk.market.ask(talk.market.operator, "ethics:inquiry:list", **query).items


def test_a_drift_opens_one_inquiry_and_the_drifts_that_follow_no_other(talk, clock):
    route, other = talk.route(), talk.route("other")
    drifted(talk, route)
    drifted(talk, route, stream="output-tokens")
    [inquiry] = opened(talk)
    [first] = [
        each for each in talk.market.ask(talk.market.operator, "serving:drift:list").items if each.stream == "latency"
    ]
    assert (inquiry.route, inquiry.subject, inquiry.stream, inquiry.state) == (route.id, first.id, "latency", "open")
    [told] = talk.market.evidence("ethics.inquiry-opened")
    assert told.facts == {"route": route.id, "drift": first.id, "stream": "latency"}
    clock.advance(days=30)
    drifted(talk, route)
    assert len(opened(talk)) == 1, "while it is open there is no other"
    drifted(talk, other)
    assert len(opened(talk)) == 2


def test_an_event_that_comes_twice_opens_one(talk):
    route = talk.route()
    event = DriftFound(drift="drf_x", route=route.id, org=route.org, release=None, stream="errors")
    for _ in range(2):
        talk.market.kernel.transact(lambda ctx: inquiries.on_drift(ctx, event), reason="test")
    assert len(opened(talk)) == 1


def test_a_reviewer_closes_it_and_for_a_week_there_is_no_other(talk, clock, reviewer):
    route = talk.route()
    drifted(talk, route)
    [inquiry] = talk.market.ask(reviewer, "ethics:inquiry:list", state="open").items
    closed = talk.market.do(reviewer, "ethics:inquiry:close", inquiry=inquiry.id, **CLOSING)
    assert (closed.state, closed.outcome, closed.closed_by) == ("closed", "harmless", reviewer.id)
    [told] = talk.market.evidence("ethics.inquiry-closed")
    assert told.facts["outcome"] == "harmless" and CLOSING["finding"] not in str(told.facts)
    with pytest.raises(Refused, match=r"ethics\.inquiry-closed"):
        talk.market.do(reviewer, "ethics:inquiry:close", inquiry=inquiry.id, **CLOSING)
    drifted(talk, route)
    assert opened(talk, state="open") == []
    clock.advance(days=inquiries.COOLDOWN_DAYS)
    drifted(talk, route)
    assert len(opened(talk, state="open")) == 1


def test_who_belongs_to_the_one_who_offers_the_model_closes_nothing(talk, reviewer):
    route = talk.route()
    drifted(talk, route)
    [inquiry] = opened(talk)
    with pytest.raises(Refused, match=r"access\.forbidden"):
        talk.market.do(talk.market.owner("foundation"), "ethics:inquiry:close", inquiry=inquiry.id, **CLOSING)
    join = lambda ctx: parties.add_membership(ctx, reviewer.id, route.org, "member")  # noqa: E731
    talk.market.kernel.transact(join, reason="test")
    with pytest.raises(Refused, match=r"ethics\.conflict-of-interest"):
        talk.market.do(reviewer, "ethics:inquiry:close", inquiry=inquiry.id, **CLOSING)


def test_an_inquiry_is_seen_by_who_offers_the_model_and_by_who_reviews(talk, reviewer):
    route = talk.route()
    drifted(talk, route)
    [inquiry] = opened(talk)
    for seen_by in (reviewer, talk.market.owner("foundation")):
        assert talk.market.ask(seen_by, "ethics:inquiry:get", inquiry=inquiry.id) == inquiry
    assert talk.market.ask(talk.market.owner("application"), "ethics:inquiry:list").items == []
