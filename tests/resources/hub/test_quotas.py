"""What an organisation holds is counted once each, limited, and goes back when nobody uses it."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from gongqi.kernel.config import Settings
from gongqi.kernel.errors import Refused
from gongqi.kernel.flows import FlowRow
from gongqi.kernel.worker import Worker
from gongqi.resources.hub import quotas, service
from gongqi.resources.hub.models import Blob, BlobOwner, File, Holding, Inspection


@pytest.fixture
def timed(hub: Any, clock: Any) -> Any:
    hub.kernel.clock = clock
    return hub


def later(hub: Any, days: float) -> None:
    hub.kernel.clock.advance(days=days)


def let_go(hub: Any) -> int:
    found = hub.kernel.look(lambda ctx: quotas.uncommitted(ctx, now=ctx.now))
    return hub.kernel.transact(lambda ctx: quotas.let_go(ctx, found), reason="test")


def quota(hub: Any, org: str) -> Any:
    return hub.ask(service.get_quota, hub.operator, org=org)


def rows(hub: Any, model: Any) -> int:
    with hub.kernel.db.reading() as session:
        return session.scalar(select(func.count()).select_from(model))


def books_agree(hub: Any) -> bool:
    """Whether what is noted of each organisation is what its rows add up to."""
    with hub.kernel.db.reading() as session:
        added = select(BlobOwner.org, func.sum(Blob.size), func.count()).join(Blob, Blob.sha256 == BlobOwner.sha256)
        held = {(org, int(size), count) for org, size, count in session.execute(added.group_by(BlobOwner.org))}
        noted = select(Holding.org, Holding.used_bytes, Holding.blobs).where(Holding.blobs > 0)
        return held == {tuple(row) for row in session.execute(noted)}


def test_usage_is_seen_at_home_and_by_the_operator(hub):
    hub.bring(hub.hospital, "a.txt", b"hello")
    seen = hub.ask(service.get_quota, hub.donor, org=hub.hospital)
    assert (seen.used_bytes, seen.blobs, seen.is_own_limit) == (5, 1, False)
    assert seen.limit_bytes == hub.kernel.settings.quota_bytes
    assert quota(hub, hub.hospital) == seen
    for other in (hub.researcher, hub.stranger):
        with pytest.raises(Refused, match=r"access\."):
            hub.ask(service.get_quota, other, org=hub.hospital)


@pytest.mark.parametrize("text", ["much", "-1", "1.5", "9" * 19, "１"])
def test_a_general_limit_that_is_no_number_of_bytes_is_refused_at_the_start(text):
    with pytest.raises(Refused, match="quota-invalid"):
        Settings.from_environment({"GONGQI_QUOTA_BYTES": text})
    assert Settings.from_environment({"GONGQI_QUOTA_BYTES": "5"}).quota_bytes == 5


def test_an_organisation_cannot_set_its_own_limit(hub):
    with pytest.raises(Refused, match=r"access\.forbidden"):
        hub.do(service.set_quota, hub.donor, org=hub.hospital, limit_bytes=1 << 40)


def test_a_limit_is_for_an_organisation_that_exists(hub):
    with pytest.raises(Refused, match="party-unknown"):
        hub.do(service.set_quota, hub.operator, org="org_nobody", limit_bytes=5)


def test_what_nobody_commits_goes_back_after_a_week(timed):
    hub = timed
    hub.bring(hub.hospital, "a.txt", b"hello")
    later(hub, quotas.UNCOMMITTED_DAYS)
    assert let_go(hub) == 0, "not a moment early"
    later(hub, 0.01)
    assert let_go(hub) == 1
    assert quota(hub, hub.hospital).used_bytes == rows(hub, Blob) == rows(hub, Inspection) == 0


def test_what_a_revision_names_stays(timed):
    hub = timed
    hub.revision(hub.asset(), [hub.bring(hub.hospital, "a.csv", b"a\n1\n")])
    later(hub, 365)
    assert let_go(hub) == 0
    assert quota(hub, hub.hospital).blobs == 2


def test_what_another_commits_is_not_what_oneself_commits(timed):
    """The blob stays for the one; the other's claim to it goes, and with it the other's cost."""
    hub = timed
    hub.revision(hub.asset(), [hub.bring(hub.hospital, "a.csv", b"a\n1\n")])
    hub.bring(hub.laboratory, "a.csv", b"a\n1\n")
    later(hub, 8)
    assert let_go(hub) == 1
    assert (quota(hub, hub.hospital).blobs, quota(hub, hub.laboratory).blobs) == (2, 0)
    assert rows(hub, Blob) == 2


def test_bringing_it_again_is_a_promise_to_keep_it_anew(timed):
    hub = timed
    hub.bring(hub.hospital, "a.txt", b"hello")
    later(hub, 6)
    hub.bring(hub.hospital, "a.txt", b"hello")
    later(hub, 6)
    assert let_go(hub) == 0


def test_what_was_committed_between_the_look_and_the_act_stays(timed):
    hub = timed
    asset = hub.asset()
    file = hub.bring(hub.hospital, "a.csv", b"a\n1\n")
    later(hub, 8)
    found = hub.kernel.look(lambda ctx: quotas.uncommitted(ctx, now=ctx.now))
    hub.revision(asset, [file])
    assert hub.kernel.transact(lambda ctx: quotas.let_go(ctx, found), reason="test") == 0
    assert rows(hub, File) == 2


def test_the_digests_in_use_are_read_in_order_and_in_pages(hub, monkeypatch):
    monkeypatch.setattr(quotas, "PAGE", 2)
    digests = sorted(hub.bring(hub.hospital, f"{number}.txt", str(number).encode())["sha256"] for number in range(5))
    assert list(quotas.digests_in_use(hub.kernel)) == digests


def test_the_flow_gives_back_rows_and_bytes(timed, monkeypatch):
    """Rows after a week; the bytes once the store itself has seen twice, far enough apart, that nothing reaches them."""
    hub = timed
    monkeypatch.setattr(quotas, "BATCH", 2)
    kept = hub.revision(hub.asset(), [hub.bring(hub.hospital, "a.csv", b"a\n1\n")])
    unused = [hub.bring(hub.hospital, f"{number}.txt", str(number).encode())["sha256"] for number in range(5)]
    later(hub, 8)
    for _ in range(2):
        for held in list(hub.kernel.blobs.listing()):
            long_ago(hub, held.sha256)
        for digest, _since in list(hub.kernel.blobs.condemned()):
            note = hub.kernel.blobs.root / "condemned" / digest
            os.utime(note, (time.time() - 10 * 24 * 3600,) * 2)
        later(hub, 1)
        Worker(hub.kernel).run_until_idle()
    assert not any(hub.kernel.blobs.has(digest) for digest in unused)
    facts = hub.kernel.look(lambda ctx: service.revision_facts(ctx, kept.id))
    assert all(hub.kernel.blobs.check(file.sha256) for file in facts.files)
    assert quota(hub, hub.hospital).blobs == 2 and books_agree(hub)
    with hub.kernel.db.reading() as session:
        runs = session.scalars(select(FlowRow).where(FlowRow.kind == "hub.sweep").order_by(FlowRow.created_at)).all()
        assert [(row.state, row.output["removed"]) for row in runs] == [("done", 0), ("done", 5)]


def long_ago(hub: Any, digest: str) -> None:
    os.utime(hub.kernel.blobs.path(digest), (time.time() - 10 * 24 * 3600,) * 2)
