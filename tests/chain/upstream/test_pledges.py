"""The registry of patent pledges: terms once made are kept, an end is as the terms say, and nothing reaches back."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest

from gongqi.doors.cli.client import Problem

PUBLIC = [{"audience": "public"}]


def refused(code: str):  # type: ignore[no-untyped-def]
    return pytest.raises(Problem, match=rf"^{code}\(")


def made(chain: Any, **terms: Any) -> dict[str, Any]:
    return chain.owner.verb("upstream:pledge:make", org=chain.north, **({"patent_scope": "donated-work"} | terms))


def test_a_pledge_keeps_its_terms_and_everybody_can_read_them(chain: Any) -> None:
    terms = {
        "patent_scope": "all-necessary-claims", "patent_text": "We will not assert.", "beneficiaries": "named",
        "named": ["Clinics of the region"], "basis": "Apache-2.0", "revocation": "on-notice", "notice_days": 90,
        "patents": [{"patent": "ZL201010123456.7", "jurisdiction": "CN"}], "revocation_text": "In writing.",
    }  # fmt: skip
    pledge = made(chain, **terms)
    shown = chain.stranger.read("upstream:pledge:get", pledge["id"])
    assert {name: shown[name] for name in terms} == terms and shown["state"] == "active"
    page = chain.stranger.http.get(f"/upstream/pledge/{pledge['id']}").text
    assert "ZL201010123456.7" in page and "In writing." in page and "not statute" in page
    assert pledge["id"] in {
        each["id"] for each in chain.stranger.read("upstream:pledge:list", org=chain.north)["items"]
    }
    later = made(chain, effective_at=chain.at(days=30))
    assert later["state"] == "pending"


def test_terms_must_fit_together(chain: Any) -> None:
    for terms, code in (
        ({"beneficiaries": "named"}, "upstream.pledge-named"),
        ({"named": ["somebody"]}, "upstream.pledge-named"),
        ({"revocation": "on-notice"}, "upstream.pledge-notice"),
        ({"notice_days": 30}, "upstream.pledge-notice"),
    ):
        with refused(code):
            made(chain, **terms)
    with refused("access.forbidden"):
        chain.member.verb("upstream:pledge:make", org=chain.north, patent_scope="donated-work")
    foreign = chain.foundation.asset(
        chain.foundation.operator, chain.foundation.organisation("far"), "far-thing", visibility="public"
    )
    with refused("access.not-found"):
        made(chain, asset=foreign)


def test_an_irrevocable_pledge_does_not_end_and_one_in_defence_ends_for_the_attacker_alone(chain: Any) -> None:
    with refused("upstream.pledge-irrevocable"):
        chain.owner.verb("upstream:pledge:revoke", pledge=made(chain)["id"], reason="r")
    pledge = made(chain, revocation="defensive-termination")
    with refused("upstream.pledge-against"):
        chain.owner.verb("upstream:pledge:revoke", pledge=pledge["id"], reason="r")
    ended = chain.owner.verb("upstream:pledge:revoke", pledge=pledge["id"], reason="They sued.", against="A Company")
    assert (ended["state"], ended["ended_for"], ended["end_reason"]) == ("active", ["A Company"], "They sued.")
    kinds = [each["kind"] for each in chain.stranger.read("evidence:entry:list", subject=pledge["id"])["items"]]
    assert sorted(kinds) == ["upstream.pledge-ended", "upstream.pledge-made"]


def test_a_pledge_on_notice_holds_until_the_notice_is_over(chain: Any) -> None:
    pledge = made(chain, revocation="on-notice", notice_days=10)
    with refused("access.forbidden"):
        chain.member.verb("upstream:pledge:revoke", pledge=pledge["id"], reason="r")
    told = chain.owner.verb("upstream:pledge:revoke", pledge=pledge["id"], reason="sold")
    assert told["state"] == "notice" and told["ends_at"]
    with refused("upstream.pledge-over"):
        chain.owner.verb("upstream:pledge:revoke", pledge=pledge["id"], reason="again")
    chain.later(days=11)
    assert chain.stranger.read("upstream:pledge:get", pledge["id"])["state"] == "revoked"


@pytest.mark.heavy
def test_the_statement_of_a_release_names_the_pledges_that_stand_and_so_do_its_pages(chain: Any) -> None:
    thing = chain.donated(PUBLIC, patent_scope="donated-work", patent_text="We promise.")
    chain.opened(thing, "public")
    [pledge] = chain.stranger.read("upstream:pledge:list", asset=thing.asset)["items"]
    assert (pledge["donation"], pledge["revocation"], pledge["state"]) == (thing.donation, "irrevocable", "active")
    statement = chain.stranger.http.get(f"/api/v1/hub/release/{thing.release}/statement").json()
    assert pledge["id"].encode() in b64decode(statement["payload"])
    for page in (f"/hub/asset/{thing.asset}", f"/hub/release/{thing.release}"):
        assert f"/upstream/pledge/{pledge['id']}" in chain.stranger.http.get(page).text
