"""Gated files, addresses that lead on, and what cannot be deleted: by the verbs alone."""

from __future__ import annotations

import pytest

from gongqi.books.evidence.models import EntryRow
from gongqi.kernel.access import Actor
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Caller
from gongqi.members.models import Party
from gongqi.resources.hub import service
from gongqi.resources.hub.models import AccessRequest, Asset, BlobOwner, File, FormerAddress, Release

ASKER = Actor(id="per_asker", kind="person", name="asker", grants={"per_asker": frozenset({"hub:access:*"})})


@pytest.fixture
def gated(hub):
    asset = hub.asset()
    revision = hub.revision(asset)
    hub.do(service.gate, hub.donor, asset=asset.id, gated="manual")
    return asset, revision


def code_of(act) -> str:
    with pytest.raises(Refused) as refusal:
        act()
    return refusal.value.code


def found_at(hub, actor, handle, slug):
    return hub.kernel.look(lambda ctx: service.asset_at(ctx, handle, slug), Caller(actor))


def has(hub, actor, revision) -> bool:
    try:
        hub.kernel.look(lambda ctx: service.find_file(ctx, revision.id, "README.md"), Caller(actor))
    except Refused as refusal:
        assert refusal.code.startswith("hub.asset-gated")
        return False
    return True


def test_the_bytes_of_a_gated_asset_are_for_its_own_people_and_those_let_in(hub, gated):
    asset, revision = gated
    assert [has(hub, who, revision) for who in (hub.donor, hub.reviewer, hub.operator)] == [True] * 3
    assert [has(hub, who, revision) for who in (hub.stranger, hub.researcher, ASKER)] == [False] * 3
    asked = hub.do(service.request, ASKER, asset=asset.id)
    assert asked.state == "pending" and asked.terms == revision.card_sha256
    assert not has(hub, ASKER, revision)
    hub.do(service.grant, hub.donor, asset=asset.id, party=ASKER.id)
    assert has(hub, ASKER, revision)
    hub.do(service.revoke, hub.donor, asset=asset.id, party=ASKER.id)
    assert not has(hub, ASKER, revision)
    hub.do(service.refuse, hub.donor, asset=asset.id, party=ASKER.id, reason="no agreement")
    assert hub.do(service.request, ASKER, asset=asset.id).state == "refused"  # asking again does not undo it
    assert not has(hub, ASKER, revision)


def test_who_may_see_a_request(hub, gated):
    asset, _ = gated
    hub.do(service.request, ASKER, asset=asset.id)
    seen = {who.id: len(hub.ask(service.list_access, who).items) for who in (ASKER, hub.donor, hub.researcher)}
    assert seen == {ASKER.id: 1, hub.donor.id: 1, hub.researcher.id: 0}
    assert len(hub.ask(service.list_access, hub.donor, asset=asset.id, state="granted").items) == 0
    for verb in (service.grant, service.refuse, service.revoke):
        assert (
            code_of(lambda verb=verb: hub.do(verb, hub.researcher, asset=asset.id, party=ASKER.id))
            == "access.forbidden"
        )


def test_a_request_needs_a_gate_and_an_asset_that_may_be_seen(hub):
    asset = hub.asset(visibility="private")
    assert code_of(lambda: hub.do(service.request, ASKER, asset=asset.id)) == "access.not-found"
    hub.do(service.open_asset, hub.donor, asset=asset.id, visibility="public")
    assert code_of(lambda: hub.do(service.request, ASKER, asset=asset.id)) == "hub.asset-not-gated"
    members = hub.asset(slug="for-members", visibility="members")
    assert code_of(lambda: hub.do(service.request, ASKER, asset=members.id)) == "access.not-found"


def test_that_somebody_asked_is_not_in_the_public_log(hub, gated):
    asset, _ = gated
    hub.do(service.request, ASKER, asset=asset.id)
    hub.do(service.grant, hub.donor, asset=asset.id, party=ASKER.id)
    with hub.kernel.db.reading() as session:
        rows = [row for row in session.query(EntryRow) if row.kind.startswith("hub.access")]
        told = [(row.actor, row.subject, row.leaf.decode()) for row in rows]
    assert len(told) == 2 and ASKER.id not in str(told)


def test_an_address_leads_on_until_it_is_taken_again(hub):
    def name(ctx):
        for key, handle in ((hub.hospital, "hospital"), (hub.laboratory, "laboratory")):
            ctx.add(Party(id=key, kind="organisation", handle=handle, name=handle, created_at=ctx.now))

    hub.kernel.transact(name, reason="test")
    asset = hub.asset()
    assert found_at(hub, hub.stranger, "hospital", "wdbc").id == asset.id
    hub.do(service.move, hub.donor, asset=asset.id, slug="breast")
    with pytest.raises(Refused) as moved:
        found_at(hub, hub.stranger, "hospital", "wdbc")
    assert (moved.value.code, moved.value.params["to"]) == ("hub.asset-moved", "hospital/breast")
    assert code_of(lambda: hub.do(service.move, hub.donor, asset=asset.id, slug="breast")) == "hub.nothing-moved"
    other = hub.asset()
    assert found_at(hub, hub.stranger, "hospital", "wdbc").id == other.id
    assert code_of(lambda: hub.do(service.move, hub.donor, asset=other.id, slug="breast")) == "hub.slug-taken"
    hub.do(service.delete, hub.donor, asset=other.id)
    assert code_of(lambda: found_at(hub, hub.stranger, "hospital", "wdbc")) == "hub.asset-deleted"
    assert code_of(lambda: found_at(hub, hub.stranger, "hospital", "nothing")) == "hub.address-unknown"
    hidden = hub.asset(slug="hidden", visibility="private")
    hub.do(service.delete, hub.donor, asset=hidden.id)
    assert code_of(lambda: found_at(hub, hub.stranger, "hospital", "hidden")) == "hub.address-unknown"
    assert code_of(lambda: found_at(hub, hub.donor, "hospital", "hidden")) == "hub.asset-deleted"
    assert code_of(lambda: hub.ask(service.get_asset, hub.operator, asset=hidden.id)) == "access.not-found"


def test_an_asset_changes_hands_with_its_bytes(hub):
    def name(ctx):
        ctx.add(Party(id=hub.laboratory, kind="organisation", handle="laboratory", name="l", created_at=ctx.now))

    hub.kernel.transact(name, reason="test")
    asset = hub.asset()
    revision = hub.revision(asset)
    hub.do(service.draft, hub.donor, asset=asset.id, revision=revision.id, name="1.0.0")
    given = {"asset": asset.id, "org": hub.laboratory}
    assert code_of(lambda: hub.do(service.move, hub.donor, **given)) == "access.forbidden"
    hub.do(service.move, hub.operator, **given)
    with hub.kernel.db.reading() as session:
        owners = {row.org for row in session.query(BlobOwner)}
        assert session.query(Release).one().org == hub.laboratory
        assert owners == {hub.hospital, hub.laboratory}
    hub.do(service.change, hub.researcher, asset=asset.id, message="ours now", removed=["README.md"])


def test_what_was_released_is_neither_deleted_nor_given_away(hub):
    asset = hub.asset()
    release = hub.published(asset, hub.revision(asset))
    assert code_of(lambda: hub.do(service.delete, hub.donor, asset=asset.id)) == "hub.asset-released"
    hub.do(service.withdraw, hub.operator, release=release.id, reason="wrong")
    assert code_of(lambda: hub.do(service.delete, hub.donor, asset=asset.id)) == "hub.asset-released"


def test_a_deletion_keeps_the_name_of_what_others_were_made_from(hub):
    source = hub.asset()
    origin = hub.revision(source, hub_files(hub, source))
    derived = hub.asset(slug="derived")
    hub.revision(derived, lineage=[{"revision": origin.id, "relation": "derived-from"}])
    hub.do(service.delete, hub.donor, asset=source.id)
    with hub.kernel.db.reading() as session:
        row = session.get(Asset, source.id)
        assert row is not None and row.deleted_at and row.slug == source.id
        assert session.query(File).filter(File.revision == origin.id).count() == 0
        assert session.query(FormerAddress).one().asset == source.id
        assert session.query(AccessRequest).count() == 0
    facts = hub.kernel.look(lambda ctx: service.revision_facts(ctx, origin.id))
    assert facts.digest == origin.digest


def hub_files(hub, asset):
    return [hub.bring(asset.org, "a.csv", b"a,b\n1,2\n")]


def test_a_withdrawn_release_gives_its_bytes_only_to_its_own_people(hub):
    asset = hub.asset()
    revision = hub.revision(asset)
    release = hub.published(asset, revision)
    assert has(hub, hub.stranger, revision)
    hub.do(service.withdraw, hub.operator, release=release.id, reason="wrong label")

    def take(who):
        return hub.kernel.look(lambda ctx: service.find_file(ctx, revision.id, "README.md"), Caller(who))

    assert code_of(lambda: take(hub.stranger)) == "hub.release-withdrawn"
    assert take(hub.donor) and take(hub.reviewer)
    hub.published(asset, revision, "1.0.1")
    assert take(hub.stranger)
