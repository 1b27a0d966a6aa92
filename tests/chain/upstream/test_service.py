"""Donations from offer to opening, and what the release gate says about them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import select

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.models import EntryRow
from gongqi.chain.upstream import pledges, service
from gongqi.chain.upstream.room import ROOM as UPSTREAM
from gongqi.kernel.access import ANONYMOUS, FOUNDATION, SYSTEM, Actor
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, execute, query
from gongqi.kernel.worker import Worker
from gongqi.members import VOCABULARY
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.room import ROOM as HUB

ORG = "org_hospital"


def actor(name: str, org: str, *grants: str) -> Actor:
    return Actor(f"per_{name}", "person", name, {org: frozenset(grants)}, frozenset({org}))


DONOR = actor("donor", ORG, "*")
OTHER = actor("other", "org_other", "upstream:donation:read", "hub:asset:read")
OPERATOR = actor("operator", FOUNDATION, "*")
OFFER = {
    "org": ORG, "slug": "wdbc", "kind": "dataset", "title_zh": "样例", "title_en": "Sample", "license": "CC-BY-4.0",
    "provenance": "University of Wisconsin Hospitals",
}  # fmt: skip


def refused(code: str):  # type: ignore[no-untyped-def]
    return pytest.raises(Refused, match=rf"^{code}\(")


@pytest.fixture
def kernel(build: Callable[..., Kernel], clock: FixedClock) -> Kernel:
    made = build(House.build((HUB, UPSTREAM), VOCABULARY), record=evidence.append, clock=clock)
    made.parts[SigningKeys] = SigningKeys.generate()
    return made


@pytest.fixture
def do(kernel: Kernel) -> Callable[..., Any]:
    return lambda verb, who, **given: execute(kernel, verb, Caller(who), verb.input.model_validate(given))


@pytest.fixture
def ask(kernel: Kernel) -> Callable[..., Any]:
    return lambda read, who, **given: query(kernel, read, Caller(who), read.input.model_validate(given))


def openness(kernel: Kernel, asset: str) -> str:
    return kernel.look(lambda ctx: hub.asset_out(ctx, asset)).visibility


def test_a_donation_brings_a_private_asset_and_opens_when_accepted(kernel, do, ask):
    donation = do(service.offer, DONOR, **OFFER)
    assert (donation.state, openness(kernel, donation.asset)) == ("offered", "private")
    with refused("access.not-found"):
        ask(service.get_donation, ANONYMOUS, donation=donation.id)
    do(service.accept, OPERATOR, donation=donation.id)
    Worker(kernel).run_until_idle()
    assert openness(kernel, donation.asset) == "public"
    assert ask(service.get_donation, ANONYMOUS, donation=donation.id).state == "accepted"
    with kernel.db.reading() as session:
        kinds = list(session.scalars(select(EntryRow.kind).order_by(EntryRow.id)))
    assert sorted(kinds) == [
        "hub.asset-created", "hub.asset-opened", "upstream.donation-accepted", "upstream.donation-offered",
    ]  # fmt: skip


def test_a_donors_own_words_stay_out_of_the_log(kernel, do):
    """The log forgets nothing, and a licence that nobody has read yet may be a sentence about somebody."""
    do(service.offer, DONOR, **OFFER | {"license": "Ask Mei Example", "provenance": "From Mei Example"})
    with kernel.db.reading() as session:
        assert not any(b"Mei Example" in leaf for leaf in session.scalars(select(EntryRow.leaf)))


def test_a_donation_opens_to_each_audience_at_its_hour_and_not_before(kernel, do, ask, clock):
    start = clock.now()
    schedule = [
        {"audience": "members", "opens_at": (start + timedelta(days=10)).isoformat()},
        {"audience": "public", "opens_at": (start + timedelta(days=40)).isoformat()},
    ]
    donation = do(service.offer, DONOR, **OFFER, schedule=schedule)
    do(service.accept, OPERATOR, donation=donation.id)
    seen = []
    for days in (0, 9.9, 0.2, 29, 1):
        clock.advance(days=days)
        Worker(kernel).run_until_idle()
        seen.append(openness(kernel, donation.asset))
    assert seen == ["private", "private", "members", "members", "public"]
    assert ask(service.get_donation, OTHER, donation=donation.id).visibility == "public"


def test_members_see_what_is_open_to_members_and_strangers_do_not(kernel, do, ask):
    later = datetime(2030, 1, 1, tzinfo=UTC).isoformat()
    schedule = [{"audience": "members"}, {"audience": "public", "opens_at": later}]
    donation = do(service.offer, DONOR, **OFFER, schedule=schedule)
    do(service.accept, OPERATOR, donation=donation.id)
    Worker(kernel).run_until_idle()
    assert ask(service.get_donation, OTHER, donation=donation.id).schedule[1].opens_at.year == 2030
    with refused("access.not-found"):
        ask(service.get_donation, ANONYMOUS, donation=donation.id)


def test_a_donor_cannot_accept_its_own_gift(do):
    donation = do(service.offer, DONOR, **OFFER)
    with refused("access.forbidden"):
        do(service.accept, DONOR, donation=donation.id)
    with refused("access.forbidden"):
        do(service.decline, DONOR, donation=donation.id, reason="no")


def test_nobody_donates_in_the_name_of_another(do):
    with refused("access.forbidden"):
        do(service.offer, OTHER, **OFFER)


def test_a_donation_is_decided_once(kernel, do):
    donation = do(service.offer, DONOR, **OFFER)
    declined = do(service.decline, OPERATOR, donation=donation.id, reason="no rights cleared")
    assert (declined.state, declined.decline_reason) == ("declined", "no rights cleared")
    with refused("upstream.donation-decided"):
        do(service.accept, OPERATOR, donation=donation.id)
    Worker(kernel).run_until_idle()
    assert openness(kernel, donation.asset) == "private"


def test_a_refused_offer_leaves_no_asset(kernel, do, ask):
    with refused("upstream.pledge-without-scope"):
        do(service.offer, DONOR, **OFFER, patent_text="We promise.")
    with refused("upstream.schedule-audiences"):
        do(service.offer, DONOR, **OFFER, schedule=[])
    assert ask(hub.list_assets, DONOR).items == []


def test_a_pledge_is_public_from_acceptance_even_before_the_asset_opens(do, ask):
    schedule = [{"audience": "public", "opens_at": "2030-01-01T00:00:00Z"}]
    words = {"patent_scope": "all-necessary-claims", "patent_text": "We will not assert."}
    donation = do(service.offer, DONOR, **OFFER, schedule=schedule, **words)
    assert ask(pledges.list_pledges, ANONYMOUS).items == []
    do(service.accept, OPERATOR, donation=donation.id)
    (pledge,) = ask(pledges.list_pledges, ANONYMOUS).items
    assert (pledge.org, pledge.patent_text) == (ORG, "We will not assert.")


def test_a_pledge_does_not_tell_which_asset_it_is_about_to_those_who_may_not_see_it_yet(do, ask, clock):
    opens_at = (clock.now() + timedelta(days=1)).isoformat()
    schedule = [{"audience": "public", "opens_at": opens_at}]
    donation = do(service.offer, DONOR, **OFFER, schedule=schedule, patent_scope="donated-work")
    do(service.accept, OPERATOR, donation=donation.id)
    for reader in (ANONYMOUS, OTHER):
        assert [pledge.asset for pledge in ask(pledges.list_pledges, reader).items] == [None]
    assert [pledge.asset for pledge in ask(pledges.list_pledges, DONOR).items] == [donation.asset]
    do(hub.open_asset, DONOR, asset=donation.asset, visibility="public")
    assert [pledge.asset for pledge in ask(pledges.list_pledges, ANONYMOUS).items] == [donation.asset]


def test_donations_are_listed_by_organisation_and_state(do, ask):
    first = do(service.offer, DONOR, **OFFER)
    do(service.offer, DONOR, **(OFFER | {"slug": "other"}))
    do(service.accept, OPERATOR, donation=first.id)
    assert [d.id for d in ask(service.list_donations, DONOR, state="accepted").items] == [first.id]
    assert len(ask(service.list_donations, DONOR, org=ORG).items) == 2
    assert ask(service.list_donations, ANONYMOUS).items == []


def publish(kernel: Kernel, do: Callable[..., Any], asset: str, licence: str) -> str:
    """Commit a card, draft, submit and publish; the code of the refusal's reasons, or the state."""
    card = f"---\nlicense: {licence}\n---\n".encode()
    digest = sha256(card).hexdigest()
    kernel.blobs.put(card)
    seen = hub.inspect_blob(kernel.blobs, digest, "README.md")
    kernel.transact(lambda ctx: hub.receive_blob(ctx, org=ORG, sha256=digest, inspected=seen), reason="test")
    files = [{"path": "README.md", "sha256": digest}]
    revision = do(hub.commit, DONOR, asset=asset, message="m", files=files)
    release = do(hub.draft, DONOR, asset=asset, revision=revision.id, name="1.0.0")
    do(hub.submit, DONOR, release=release.id)
    try:
        return do(hub.publish, OPERATOR, release=release.id).state
    except Refused as error:
        return str(error.params["reasons"])


@pytest.mark.parametrize(
    ("decision", "licence", "outcome"),
    [
        ("none", "CC-BY-4.0", "upstream.donation: upstream.gate.offered"),
        ("decline", "CC-BY-4.0", "upstream.donation: upstream.gate.declined"),
        ("accept", "CC-BY-NC-4.0", "upstream.donation: upstream.gate.licence-differs"),
        ("accept", "CC-BY-4.0", "published"),
    ],
)
def test_a_donation_is_published_once_accepted_and_under_the_promised_licence(kernel, do, decision, licence, outcome):
    donation = do(service.offer, DONOR, **OFFER)
    if decision == "accept":
        do(service.accept, OPERATOR, donation=donation.id)
    if decision == "decline":
        do(service.decline, OPERATOR, donation=donation.id, reason="r")
    assert publish(kernel, do, donation.asset, licence) == outcome


def test_what_was_not_donated_is_no_concern_of_upstream(kernel, do):
    given = {"org": ORG, "slug": "own", "kind": "dataset", "title_zh": "甲", "title_en": "A"}
    assert publish(kernel, do, do(hub.create, DONOR, **given).id, "MIT") == "published"


def test_the_donation_of_an_asset_can_be_looked_up(kernel, do):
    donation = do(service.offer, DONOR, **OFFER)
    assert kernel.look(lambda ctx: service.donation_of(ctx, donation.asset), Caller(SYSTEM)).id == donation.id
    assert kernel.look(lambda ctx: service.donation_of(ctx, "ast_none")) is None
