"""Every path by which something can be downloaded, walked by everybody: what is closed is closed on all of them."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gongqi.doors.cli.client import Problem
from tests.chain.upstream.conftest import BYTES_BY, FACTS_BY, Ahead, walk
from tests.house.conftest import Foundation, wait_for

pytestmark = pytest.mark.long

PUBLIC = [{"audience": "public"}]
PEOPLE = ("stranger", "member", "owner")
ALL = BYTES_BY | FACTS_BY


def refused(code: str):  # type: ignore[no-untyped-def]
    return pytest.raises(Problem, match=rf"^{code}\(")


def all_are(answers: dict[str, int], *statuses: int) -> bool:
    assert set(answers.values()) <= set(statuses), answers
    return True


def test_what_is_archived_can_be_had_on_every_path_and_changes_on_none(chain: Any) -> None:
    thing, owner = chain.donated(PUBLIC), chain.owner
    chain.opened(thing, "public")
    kept = owner.verb("hub:asset:archive", asset=thing.asset, reason="superseded")
    assert (kept["standing"], kept["standing_reason"]) == ("archived", "superseded")
    for who in PEOPLE:
        assert all_are(walk(chain, thing, who, ALL), 200)
    page = chain.stranger.http.get(f"/hub/asset/{thing.asset}").text
    assert "no longer changes" in page and "superseded" in page
    changes = {
        "hub:revision:change": {"message": "m", "removed": ["a.csv"]},
        "hub:revision:commit": {"message": "m", "files": [{"path": "a.csv", "sha256": "0" * 64}]},
        "hub:ref:create": {"kind": "tag", "name": "v1"},
        "hub:ref:delete": {"kind": "tag", "name": "v1"},
        "hub:asset:edit": {"title_en": "Other"},
        "hub:asset:move": {"slug": "elsewhere"},
        "hub:asset:delete": {},
        "hub:asset:archive": {"reason": "again"},
        "hub:release:draft": {"revision": thing.revision, "name": "2.0.0"},
    }
    for verb, given in changes.items():
        code = "hub.blob-unknown" if verb == "hub:revision:commit" else "hub.asset-archived"
        with refused(code):
            owner.verb(verb, asset=thing.asset, **given)
    assert owner.verb("hub:asset:unarchive", asset=thing.asset)["standing"] == "open"
    with refused("hub.asset-not-archived"):
        owner.verb("hub:asset:unarchive", asset=thing.asset)
    assert owner.verb("hub:revision:change", asset=thing.asset, message="m", removed=["a.csv"])["number"] == 2


def test_what_is_withdrawn_is_refused_with_the_reason_on_every_path_and_its_proofs_stay(
    chain: Any, tmp_path: Path
) -> None:
    thing, owner = chain.donated(PUBLIC), chain.owner
    chain.opened(thing, "public")
    bundle = tmp_path / "before.zip"
    address = f"/api/v1/hub/release/{thing.release}/bundle"
    wait_for(lambda: chain.stranger.http.get(address).status_code == 200 or None)  # its entry is in the log by then
    chain.foundation.client().download(address, bundle)
    owner.verb("hub:asset:withdraw", asset=thing.asset, reason="a consent was taken back")
    for who in ("stranger", "member"):
        assert all_are(walk(chain, thing, who, BYTES_BY), 410)
        assert all_are(walk(chain, thing, who, FACTS_BY), 200)
    assert all_are(walk(chain, thing, "owner", BYTES_BY), 200)  # its own people look into it
    told = chain.stranger.http.get(f"/datasets/north/{thing.slug}/resolve/main/a.csv")
    assert told.json()["code"] == "hub.asset-withdrawn"
    assert "a consent was taken back" in told.headers["x-error-message"]
    assert chain.stranger.http.get(f"/api/datasets/north/{thing.slug}").json()["disabled"] is True
    assert "a consent was taken back" in chain.stranger.http.get(f"/hub/asset/{thing.asset}").text
    release = chain.stranger.read("hub:release:get", thing.release)
    assert (release["state"], release["withdrawn_reason"]) == ("withdrawn", "a consent was taken back")
    entry = chain.stranger.read("evidence:entry:list", subject=thing.asset)["items"][0]
    assert entry["kind"] == "hub.asset-withdrawn" and "consent" not in str(entry["facts"])
    said = subprocess.run([sys.executable, "-m", "gongqi", "verify", str(bundle)], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    for verb in ("hub:asset:withdraw", "hub:asset:archive"):
        with refused("hub.asset-withdrawn"):
            owner.verb(verb, asset=thing.asset, reason="again")
    with refused("hub.asset-withdrawn"):
        owner.verb("hub:asset:unarchive", asset=thing.asset)
    with refused("hub.asset-withdrawn"):
        owner.verb("hub:revision:change", asset=thing.asset, message="m", removed=["a.csv"])


def test_a_stranger_neither_archives_nor_withdraws(chain: Any) -> None:
    thing = chain.donated(PUBLIC)
    chain.opened(thing, "public")
    for verb, given in (("archive", {"reason": "r"}), ("withdraw", {"reason": "r"}), ("unarchive", {})):
        with refused("access.forbidden"):
            chain.member.verb(f"hub:asset:{verb}", asset=thing.asset, **given)


def test_each_audience_is_let_in_at_its_hour_on_every_path_and_not_before(chain: Any) -> None:
    """An embargo ends by itself: nobody does anything but wait."""
    thing = chain.donated(
        [{"audience": "members", "opens_at": chain.at(days=1)}, {"audience": "public", "opens_at": chain.at(days=2)}]
    )
    never = {"git-lfs": lambda http, t: http.post(
        f"/datasets/north/{t.slug}.git/info/lfs/objects/batch", json={"operation": "download", "objects": []}),
        "xet": lambda http, t: http.get(f"/api/datasets/north/{t.slug}/xet-read-token/main")}  # fmt: skip
    for hour, let_in in (("before", ("owner",)), ("members", ("owner", "member")), ("public", PEOPLE)):
        if hour != "before":
            chain.later(days=1, minutes=1)
            chain.opened(thing, hour)
        for who in PEOPLE:
            answers = walk(chain, thing, who, ALL)
            assert all_are(answers, 200) if who in let_in else all_are(answers, 401, 404), (hour, who)
            assert all_are(walk(chain, thing, who, never), 400, 401, 403, 404, 422)
    told = chain.stranger.read("evidence:entry:list", subject=thing.asset)["items"]
    assert sum(each["kind"] == "hub.asset-opened" for each in told) == 2


def test_an_hour_that_passed_while_the_server_was_down_is_made_up_for_at_its_start(
    tmp_path: Path, new_database: Any
) -> None:
    with new_database(tmp_path) as url:
        clock = Ahead()
        first = Foundation(tmp_path / "home", url, clock=clock)
        north = first.organisation("north")
        opens_at = (clock.now() + timedelta(days=1)).isoformat()
        given = {
            "org": north, "slug": "thing", "kind": "dataset", "title_zh": "t", "title_en": "t", "license": "MIT",
            "provenance": "p", "schedule": [{"audience": "public", "opens_at": opens_at}],
        }  # fmt: skip
        offered = first.operator.verb("upstream:donation:offer", **given)
        first.operator.verb("upstream:donation:accept", donation=offered["id"])
        first.stop()
        clock.advance(days=2)
        second = Foundation(tmp_path / "home", url, clock=clock)
        stranger = second.client()
        wait_for(lambda: stranger.http.get(f"/api/v1/hub/asset/{offered['asset']}").status_code == 200 or None)
        second.stop()


def test_an_hour_is_moved_until_it_has_come_and_the_old_one_then_opens_nothing(chain: Any) -> None:
    def stages(members: float, public: float) -> list[dict[str, Any]]:
        hours = {"members": members, "public": public}
        return [{"audience": name, "opens_at": chain.at(days=days)} for name, days in hours.items()]

    first = stages(1, 2)
    thing = chain.donated(first)
    moved = stages(3, 4)
    given = {"donation": thing.donation, "reason": "the paper is late"}
    chain.owner.verb("upstream:donation:reschedule", schedule=moved, **given)
    with refused("access.forbidden"):
        chain.member.verb("upstream:donation:reschedule", schedule=moved, **given)
    chain.later(days=2, minutes=1)
    other = chain.donated(PUBLIC)  # whose flow runs after that of the old hour
    chain.opened(other, "public")
    assert all_are(walk(chain, thing, "member", ALL), 401, 404)
    chain.later(days=1)
    chain.opened(thing, "members")
    assert all_are(walk(chain, thing, "member", BYTES_BY), 200)
    with refused("upstream.schedule-opened"):
        chain.owner.verb("upstream:donation:reschedule", schedule=stages(5, 6), **given)
    sooner = [moved[0], {"audience": "public", "opens_at": None}]
    chain.owner.verb("upstream:donation:reschedule", schedule=sooner, **given)
    chain.opened(thing, "public")
    with refused("upstream.schedule-opened"):
        chain.owner.verb("upstream:donation:reschedule", schedule=sooner, **given)
    told = chain.stranger.read("evidence:entry:list", subject=thing.donation)["items"]
    assert sum(each["kind"] == "upstream.donation-rescheduled" for each in told) == 2
