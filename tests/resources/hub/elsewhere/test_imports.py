"""What is brought from another hub comes whole, holds, goes on after a cut, and says where it came from."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

import pytest

from gongqi.doors.cli.client import Problem
from gongqi.kernel.errors import Refused
from gongqi.resources.hub.elsewhere import imports, outside
from gongqi.resources.hub.elsewhere import upstream as protocol
from gongqi.resources.hub.elsewhere.outside import Outside, is_public
from tests.house.conftest import Foundation, wait_for
from tests.resources.hub.elsewhere.conftest import CARD

pytestmark = pytest.mark.heavy


def refused(code: str):  # type: ignore[no-untyped-def]
    return pytest.raises((Problem, Refused), match=rf"^{code}\(")


def test_an_import_is_one_revision_that_says_where_it_came_from(here: Any, upstream: Any) -> None:
    source, asset = here.source(upstream.url), here.asset()
    done = here.ended(here.begin(source, asset), "done")
    assert (done["files_done"], done["bytes_done"], done["commit"]) == (3, done["size_bytes"], upstream.sha)
    assert done["license"] == "cc-by-4.0"
    [revision] = here.revisions(asset)
    files = here.donor.read("hub:revision:get", revision["id"])["files"]
    assert {file["path"] for file in files} == set(upstream.files)
    kept = here.donor.http.get(f"/api/v1/hub/revision/{revision['id']}/file/w.bin")
    assert kept.content == upstream.files["w.bin"]
    page = here.donor.http.get(f"/hub/asset/{asset}", headers={"cookie": f"gongqi_session={here.donor.secret}"}).text
    assert "north/thing" in page and upstream.url in page and upstream.sha in page
    told = here.donor.read("evidence:entry:list", subject=revision["id"])["items"]
    [entry] = [each for each in told if each["kind"] == "hub.revision-imported"]
    assert entry["facts"]["files"] == 3 and upstream.url not in str(entry)


def test_a_second_import_fetches_what_is_new_and_one_of_nothing_new_makes_no_revision(here: Any, upstream: Any) -> None:
    source, asset = here.source(upstream.url), here.asset()
    first = here.ended(here.begin(source, asset), "done")
    again = here.ended(here.begin(source, asset), "done")
    assert (again["bytes_fetched"], again["revision"]) == (0, first["revision"])
    upstream.files["data/a.csv"] = b"a,b\n1,3\n"
    upstream.asked.clear()
    third = here.ended(here.begin(source, asset), "done")
    assert third["bytes_fetched"] == len(upstream.files["data/a.csv"])
    assert len(here.revisions(asset)) == 2
    assert [path for path in upstream.asked if "/resolve/" in path] == [
        f"/datasets/north/thing/resolve/{upstream.sha}/data/a.csv"
    ]


def test_a_line_that_is_cut_is_gone_on_with_by_range(here: Any, upstream: Any) -> None:
    upstream.faults["w.bin"] = {"cut": [2, 3_000_000]}
    done = here.ended(here.begin(here.source(upstream.url), here.asset()), "done")
    assert done["bytes_done"] == done["size_bytes"]
    assert any(asked.startswith("w.bin bytes=") for asked in upstream.ranges)
    assert done["bytes_fetched"] <= done["size_bytes"]  # nothing travelled twice; the small files were here


def test_a_hub_that_knows_no_ranges_is_read_past_what_is_here(here: Any, upstream: Any) -> None:
    upstream.faults["w.bin"] = {"cut": [1, 3_000_000], "ranges": True}
    here.ended(here.begin(here.source(upstream.url), here.asset()), "done")


def test_a_hub_that_is_busy_is_asked_again_when_it_says(here: Any, upstream: Any) -> None:
    upstream.faults["README.md"] = {"busy": 1}
    here.ended(here.begin(here.source(upstream.url), here.asset()), "done")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"digest": True}, "hub.source-digest-differs"),
        ({"endless": True}, "hub.source-size-differs"),
        ({"elsewhere": "http://127.0.0.1:9/x"}, "hub.source-redirect-refused"),
        ({"elsewhere": "https://127.0.0.1:9/x"}, "hub.source-address-private"),
        ({"elsewhere": "https://[::ffff:10.0.0.1]/x"}, "hub.source-address-private"),
        ({"elsewhere": "/datasets/north/thing/resolve/main/w.bin"}, "hub.source-redirects"),
    ],
)
def test_a_hub_that_lies_ends_the_import_and_nothing_of_it_can_be_seen(
    here: Any, upstream: Any, fault: dict[str, Any], code: str
) -> None:
    upstream.faults["w.bin"] = fault
    asset = here.asset()
    failed = here.ended(here.begin(here.source(upstream.url), asset), "failed")
    assert failed["error"]["code"] == code
    assert here.revisions(asset) == []


def test_an_import_that_failed_goes_on_where_it_was(here: Any, upstream: Any) -> None:
    asset = here.asset()
    upstream.faults["w.bin"] = {"digest": True}
    failed = here.ended(here.begin(here.source(upstream.url), asset), "failed")
    upstream.faults.clear()
    upstream.asked.clear()
    assert here.donor.verb("hub:import:retry", import_id=failed["id"])["state"] == "fetching"
    assert here.ended(failed, "done")["error"] is None
    assert sum("/resolve/" in path for path in upstream.asked) == 1
    with refused("hub.import-not-over"):
        here.donor.verb("hub:import:retry", import_id=failed["id"])
    with refused("hub.import-over"):
        here.donor.verb("hub:import:cancel", import_id=failed["id"])


def test_what_is_cancelled_stops_and_leaves_nothing(here: Any, upstream: Any) -> None:
    gate = threading.Event()
    upstream.faults["w.bin"] = {"gate": gate, "gate_at": 2 << 20}
    asset = here.asset()
    made = here.begin(here.source(upstream.url), asset)
    wait_for(lambda: here.donor.read("hub:import:get", made["id"])["files_done"] == 2 or None)
    assert here.donor.verb("hub:import:cancel", import_id=made["id"])["state"] == "cancelled"
    gate.set()
    assert here.ended(made)["state"] == "cancelled" and here.revisions(asset) == []


def test_what_is_refused_as_an_upload_is_refused_as_an_import(here: Any, another: Any) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    asset = here.asset(kind="model")
    with another({"README.md": CARD, "pytorch_model.bin": pickle.dumps(Evil())}) as upstream:
        failed = here.ended(here.begin(here.source(upstream.url), asset), "failed")
    assert failed["error"]["code"].startswith("hub.") and here.revisions(asset) == []


def test_quotas_paths_and_emptiness_are_found_before_bytes_travel(here: Any, another: Any, upstream: Any) -> None:
    op = here.foundation.operator
    op.verb("hub:quota:set", org=here.north, limit_bytes=0)
    try:
        failed = here.ended(here.begin(here.source(upstream.url), here.asset()), "failed")
        assert failed["error"]["code"] == "hub.quota-exceeded"
    finally:
        op.verb("hub:quota:set", org=here.north, limit_bytes=None)
    with another({}) as empty:
        failed = here.ended(here.begin(here.source(empty.url), here.asset()), "failed")
        assert failed["error"]["code"] == "hub.import-empty"
    with another({"../up": b"x"}) as odd:
        failed = here.ended(here.begin(here.source(odd.url), here.asset()), "failed")
        assert failed["error"]["code"].startswith("hub.path-")


def test_what_is_not_open_there_is_for_the_organisation_that_has_the_token(here: Any, another: Any) -> None:
    folder = here.foundation.settings.home / "sources"
    folder.mkdir(exist_ok=True)
    with another({"README.md": CARD}, private=True, token="sesame") as closed:
        all_of_us = here.source(closed.url, has_token=True)
        failed = here.ended(here.begin(all_of_us, here.asset()), "failed")
        assert failed["error"]["code"] == "hub.source-token-missing"
        for name in (all_of_us["name"], "ours"):
            (folder / f"{name}.token").write_text("sesame\n")
        failed = here.ended(here.begin(all_of_us, here.asset()), "failed")
        assert failed["error"]["code"] == "hub.import-closed"
        ours = here.source(closed.url, name="ours", has_token=True, org=here.north)
        here.ended(here.begin(ours, here.asset()), "done")
        foreign = here.foundation.asset(here.other, here.south, "theirs")
        with refused("access.not-found"):
            here.other.verb("hub:import:begin", source=ours["id"], asset=foreign, repo="north/thing")
        foreign = here.foundation.operator
        south = here.foundation.asset(here.other, here.south, "theirs-too")
        with refused("hub.source-of-another"):
            foreign.verb("hub:import:begin", source=ours["id"], asset=south, repo="north/thing")
        plain = here.source(closed.url)
        assert here.ended(here.begin(plain, here.asset()), "failed")["error"]["code"] == "hub.source-closed"
    assert "sesame" not in str(here.foundation.operator.read("hub:source:list"))


def test_sources_are_the_operators_and_say_what_is_wrong_with_them(here: Any, upstream: Any) -> None:
    with refused("access.forbidden"):
        here.donor.verb("hub:source:add", name="mine", endpoint=upstream.url)
    for endpoint in ("ftp://example.org", "https://user:pass@example.org", "https://", "https://example.org/?a=b"):
        with refused("hub.source-endpoint-invalid"):
            here.source(endpoint)
    made = here.source(upstream.url, name="once")
    with refused("hub.source-taken"):
        here.source(upstream.url, name="once")
    asset = here.asset()
    with refused("hub.source-repo-invalid"):
        here.begin(made, asset, repo="../x")
    with refused("hub.import-kind"):
        here.begin(made, here.asset(kind="code"))
    absent = here.ended(here.begin(made, asset, repo="north/none"), "failed")
    assert absent["error"]["code"] == "hub.source-absent"
    assert here.foundation.operator.verb("hub:source:retire", source=made["id"])["state"] == "retired"
    with refused("hub.source-retired"):
        here.begin(made, asset)


def test_an_address_inside_is_reached_only_when_the_operator_says_so(here: Any, upstream: Any) -> None:
    failed = here.ended(here.begin(here.source(upstream.url, is_inside=False), here.asset()), "failed")
    assert failed["error"]["code"] == "hub.source-address-private"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:192.168.0.1", "64:ff9b::a00:1",
                "2002:7f00:1::", "100.64.0.1", "0.0.0.0", "224.0.0.1", "fc00::1"]
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_public(address: str) -> None:
    assert not is_public(address)
    assert is_public("93.184.216.34") and is_public("2606:2800:220:1::1")


def test_answers_are_bounded_and_must_make_sense(here: Any, another: Any, monkeypatch: Any) -> None:
    with another({"README.md": CARD}) as odd:
        there = Outside(odd.url, is_inside=True)
        with refused("hub.source-answer-too-large"):
            there.read("/api/datasets/north/thing/revision/main", limit_bytes=10)
        with refused("hub.source-answer-odd"):
            there.read_json("/datasets/north/thing/resolve/main/README.md")
        odd.sha = "not a commit"
        failed = here.ended(here.begin(here.source(odd.url), here.asset()), "failed")
        assert failed["error"] == {"code": "hub.source-answer-odd", "params": {"what": "sha"}}
    monkeypatch.setattr(protocol, "MAX_FILES", 1)
    with another({"README.md": CARD, "b": b"b"}) as many:
        failed = here.ended(here.begin(here.source(many.url), here.asset()), "failed")
        assert failed["error"]["code"] == "hub.import-too-many"
    monkeypatch.setattr(imports, "AT_ONCE", 0)
    with another({"README.md": CARD}) as busy, refused("hub.imports-too-many"):
        here.begin(here.source(busy.url), here.asset())
    assert (
        outside._pause({"retry-after": "7"}) == 7 and outside._pause({"retry-after": "soon"}) == outside.RETRY_SECONDS
    )


def test_what_another_organisation_holds_is_fetched_all_the_same(here: Any, another: Any) -> None:
    """A digest that somebody claims is no proof that they have the bytes: else a made-up hub would give away ours."""
    secret = b"the south's alone"
    here.foundation.bring(here.other, here.south, "s.bin", secret)
    with another({"README.md": CARD, "s.bin": secret}) as claims:
        claims.faults["s.bin"] = {"digest": True}
        failed = here.ended(here.begin(here.source(claims.url), here.asset()), "failed")
        assert failed["error"]["code"] == "hub.source-digest-differs"


def test_a_real_foundation_is_imported_from_by_its_digests(here: Any, tmp_path: Any, new_database: Any) -> None:
    (tmp_path / "there").mkdir()
    with new_database(tmp_path / "there") as url:
        there = Foundation(tmp_path / "there" / "home", url)
        org = there.organisation("north")
        owner = there.person("owner", org, "owner")
        asset = there.asset(owner, org, "thing", visibility="public")
        files = [there.bring(owner, org, "README.md", CARD), there.bring(owner, org, "数据/一 二.csv", b"a\n1\n")]
        made = owner.verb("hub:revision:commit", asset=asset, message="m", files=files)
        target = here.asset()
        done = here.ended(here.begin(here.source(there.url), target), "done")
        assert done["commit"] == made["digest"][:40] and done["license"] == "CC-BY-4.0"
        [revision] = here.revisions(target)
        kept = here.donor.read("hub:revision:get", revision["id"])["files"]
        assert {file["path"]: file["sha256"] for file in kept} == {file["path"]: file["sha256"] for file in files}
        there.stop()
