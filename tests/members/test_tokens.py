"""Tokens and sessions: shown once, narrowed, dated, revocable at once."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import Refused
from gongqi.members import service
from gongqi.members.models import Token


def refused(code: str):
    return pytest.raises(Refused, match=rf"^{code}\(")


@pytest.fixture
def org(foundation):
    return foundation.organisation("hospital")


@pytest.fixture
def owner(foundation, org):
    return foundation.person("owner-one", org, "owner")


def test_a_token_is_stored_by_digest_only(foundation, owner):
    issued = foundation.do(owner, "members:token:issue", label="script")
    assert len(issued.secret) == 46 and issued.secret.startswith(issued.shown)
    with foundation.kernel.db.reading() as session:
        rows = session.execute(select(Token.__table__)).all()
    assert issued.secret not in repr(rows)
    assert "secret" not in foundation.ask(owner, "members:token:list").items[0].model_dump()


def test_a_token_is_revoked_at_once_and_once(foundation, owner):
    issued = foundation.do(owner, "members:token:issue", label="script")
    assert foundation.by_token(issued.secret).id == owner.id
    foundation.do(owner, "members:token:revoke", token=issued.id)
    with refused("members.token-invalid"):
        foundation.by_token(issued.secret)
    with refused("members.token-revoked"):
        foundation.do(owner, "members:token:revoke", token=issued.id)


def test_a_token_expires(foundation, owner):
    secret = foundation.do(owner, "members:token:issue", label="script", days=1).secret
    foundation.clock.advance(hours=23, minutes=59)
    assert foundation.by_token(secret).id == owner.id
    foundation.clock.advance(minutes=1)
    with refused("members.token-invalid"):
        foundation.by_token(secret)
    with pytest.raises(ValidationError):
        service.IssueToken(label="script", days=367)


@pytest.mark.parametrize("secret", ["", "gq_", "gq_" + "x" * 43, "gqs_" + "x" * 43, "gq_" + "é" * 43, "x" * 10_000])
def test_an_unknown_secret_is_nobody(foundation, secret):
    with pytest.raises(Refused, match=r"^members\.(token|session)-invalid"):
        foundation.by_token(secret)
    with refused("members.session-invalid"):
        foundation.by_session(secret)


def test_scopes_narrow_what_the_owner_may(foundation, org, owner):
    secret = foundation.do(owner, "members:token:issue", label="script", scopes=["hub:asset:read"]).secret
    actor = foundation.by_token(secret)
    assert actor.may("hub:asset:read", org) and not actor.may("hub:asset:create", org)
    with refused("access.forbidden"):
        foundation.do(actor, "members:agent:create", org=org, handle="triage", name="Triage")
    assert foundation.ask(actor, "members:token:list").items == []


@pytest.mark.parametrize("scope", ["hubb:*", "members:tokens:*", "hub:asset:read:x", "Hub:*", "*:*", ""])
def test_a_scope_that_matches_nothing_is_refused(foundation, owner, scope):
    with pytest.raises((Refused, ValidationError), match=r"scope-unknown|pattern"):
        foundation.do(owner, "members:token:issue", label="script", scopes=[scope])


def test_a_token_makes_none_for_its_holder(foundation, owner):
    actor = foundation.by_token(foundation.do(owner, "members:token:issue", label="script").secret)
    with refused("members.session-needed"):
        foundation.do(actor, "members:token:issue", label="heir")


def test_a_narrowed_token_makes_only_narrower_ones(foundation, org, owner):
    agent = foundation.do(owner, "members:agent:create", org=org, handle="triage", name="Triage", role="maintainer")
    scopes = ["hub:*", "members:token:issue"]
    actor = foundation.by_token(foundation.do(owner, "members:token:issue", label="ci", scopes=scopes).secret)
    with refused("members.scope-beyond-giver"):
        foundation.do(actor, "members:token:issue", party=agent.id, label="wide", scopes=["serving:*"])
    inherited = foundation.do(actor, "members:token:issue", party=agent.id, label="same")
    assert inherited.scopes == scopes
    narrow = foundation.do(actor, "members:token:issue", party=agent.id, label="narrow", scopes=["hub:asset:read"])
    assert foundation.by_token(narrow.secret).may("hub:asset:read", org)


def test_an_owner_makes_and_revokes_the_tokens_of_their_agents_but_not_of_people(foundation, org, owner):
    agent = foundation.do(owner, "members:agent:create", org=org, handle="triage", name="Triage")
    person = foundation.person("person-one", org)
    issued = foundation.do(owner, "members:token:issue", party=agent.id, label="agent")
    assert foundation.by_token(issued.secret).may("serving:model:infer", org)
    foundation.do(owner, "members:token:revoke", token=issued.id)
    for giver in (owner, foundation.operator):
        with refused("access.forbidden"):
            foundation.do(giver, "members:token:issue", party=person.id, label="theirs")


def test_an_agent_makes_no_tokens_and_reaches_no_other_organisation(foundation, org, owner):
    agent = foundation.do(owner, "members:agent:create", org=org, handle="triage", name="Triage", role="maintainer")
    actor = foundation.by_token(foundation.do(owner, "members:token:issue", party=agent.id, label="agent").secret)
    assert actor.orgs == {org} and actor.may("hub:asset:create", org) and not actor.may("hub:asset:create")
    with refused("access.forbidden"):
        foundation.do(actor, "members:token:issue", label="heir")


def test_nobody_makes_a_token_for_the_suspended(foundation, org, owner):
    agent = foundation.do(owner, "members:agent:create", org=org, handle="triage", name="Triage")
    foundation.do(owner, "members:party:suspend", party=agent.id)
    with refused("members.party-not-active"):
        foundation.do(owner, "members:token:issue", party=agent.id, label="agent")


def test_last_use_is_noted_to_the_hour(foundation, owner):
    secret = foundation.do(owner, "members:token:issue", label="script").secret

    def used():
        return foundation.ask(owner, "members:token:list").items[0].last_used_at

    assert used() is None
    service.note_use(foundation.kernel, secret)
    first = used()
    assert first == foundation.clock.now()
    foundation.clock.advance(minutes=30)
    service.note_use(foundation.kernel, secret)
    assert used() == first
    foundation.clock.advance(minutes=30)
    service.note_use(foundation.kernel, secret)
    assert used() == foundation.clock.now()


@pytest.fixture
def agents(foundation, org, owner):
    """Two agents of the hospital."""
    given = {"org": org, "name": "Agent", "role": "maintainer"}
    return [foundation.do(owner, "members:agent:create", handle=handle, **given) for handle in ("triage", "archive")]


def test_a_token_made_with_a_token_does_not_outlast_it(foundation, owner, agents):
    maker = foundation.do(owner, "members:token:issue", label="ci", days=10)
    actor = foundation.by_token(maker.secret)
    made = foundation.do(actor, "members:token:issue", party=agents[0].id, label="heir", days=11)
    assert (made.made_by, made.expires_at) == (maker.id, maker.expires_at)
    foundation.clock.advance(days=3)
    sooner = foundation.do(
        foundation.by_token(maker.secret), "members:token:issue", party=agents[1].id, label="x", days=2
    )
    assert sooner.expires_at < maker.expires_at
    by_hand = foundation.do(owner, "members:token:issue", party=agents[1].id, label="by hand")
    assert by_hand.made_by is None and by_hand.expires_at > maker.expires_at


def test_revoking_a_token_revokes_what_was_made_with_it_and_nothing_else(foundation, owner, agents):
    stolen = foundation.do(owner, "members:token:issue", label="stolen")
    other = foundation.do(owner, "members:token:issue", label="other")
    thief = foundation.by_token(stolen.secret)
    heirs = [foundation.do(thief, "members:token:issue", party=agent.id, label="heir") for agent in agents]
    kept = foundation.do(owner, "members:token:issue", party=agents[0].id, label="kept")
    foundation.evidence.clear()
    foundation.do(owner, "members:token:revoke", token=stolen.id)
    told = [(entry.kind, entry.subject) for entry in foundation.evidence]
    assert sorted(told) == sorted(("members.token-revoked", each.id) for each in (stolen, *heirs))
    for each in (stolen, *heirs):
        with refused("members.token-invalid"):
            foundation.by_token(each.secret)
    assert {foundation.by_token(each.secret).id for each in (other, kept)} == {owner.id, agents[0].id}


def test_a_link_made_with_a_token_for_its_holder_outlasts_it_in_no_way(foundation):
    """A stolen token of an operator opens a session, and with the session nothing that outlives the token."""
    trusted = foundation.redeem(foundation.start.link)
    stolen = foundation.do(trusted, "members:token:issue", label="stolen", days=5)
    thief = foundation.by_token(stolen.secret)
    links = [foundation.do(thief, "members:signin:link", party=trusted.id).link for _ in range(2)]
    with refused("members.link-invalid"):
        foundation.redeem(links[0])
    session = foundation.redeem(links[1])
    with refused("members.session-rests-on-token"):
        foundation.do(session, "members:password:set", password="correct horse battery staple")
    heir = foundation.do(session, "members:token:issue", label="heir")
    assert (heir.made_by, heir.expires_at) == (stolen.id, stolen.expires_at)
    unused = foundation.do(session, "members:signin:link", party=trusted.id).link
    again = foundation.do(foundation.by_token(heir.secret), "members:signin:link", party=trusted.id)
    with refused("members.link-invalid"):
        foundation.redeem(unused)
    live = {each.id for each in foundation.ask(trusted, "members:session:list").items}
    assert session.session in live
    foundation.do(trusted, "members:token:revoke", token=stolen.id)
    assert {each.id for each in foundation.ask(trusted, "members:session:list").items} == live - {session.session}
    with refused("members.token-invalid"):
        foundation.by_token(heir.secret)
    with refused("members.link-invalid"):
        foundation.redeem(again.link)


def test_a_session_reaches_no_further_and_lasts_no_longer_than_the_token_it_rests_on(foundation):
    trusted = foundation.redeem(foundation.start.link)
    narrow = foundation.do(
        trusted, "members:token:issue", label="links", days=1, scopes=["members:signin:link", "members:token:issue"]
    )
    link = foundation.do(foundation.by_token(narrow.secret), "members:signin:link", party=trusted.id).link
    browser = {"secret": link.rsplit("/", 1)[1]}
    begun = foundation.do(ANONYMOUS, "members:signin:redeem", **browser)
    session = foundation.by_session(begun.secret)
    assert session.scopes == {"members:signin:link", "members:token:issue"}
    with refused("access.forbidden"):
        foundation.do(session, "members:organisation:create", handle="thieves", name="Thieves")
    with refused("members.scope-beyond-giver"):
        foundation.do(session, "members:token:issue", label="wide", scopes=["*"])
    foundation.clock.advance(hours=11)
    service.note_use(foundation.kernel, begun.secret)
    foundation.clock.advance(hours=11)
    service.note_use(foundation.kernel, begun.secret)
    foundation.clock.advance(hours=1)
    assert foundation.by_session(begun.secret).id == trusted.id
    foundation.clock.advance(hours=1)
    with refused("members.session-invalid"):
        foundation.by_session(begun.secret)
