"""Packs are loaded by name, version and digest, and from then on answer at the gate of the gateway."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gongqi.kernel.config import Settings
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Answer, Citation, Verdict
from gongqi.packs import reading, service
from gongqi.packs.models import LoadedPack
from gongqi.packs.shelf import shelf
from gongqi.resources.serving import crossings
from gongqi.resources.serving.gates import CALL_FORWARD, Crossing
from tests.house.conftest import Foundation


def named(name: str) -> dict[str, str]:
    pack = shelf()[name]
    return {"name": name, "version": pack.version, "digest": pack.digest}


def refusal(foundation: Foundation, verb: str, **given: Any) -> str:
    answer = foundation.operator.http.post(f"/api/v1/{verb.replace(':', '/')}", json=given)
    return answer.json()["code"]


def loaded(foundation: Foundation) -> dict[str, Any]:
    items = foundation.operator.read("packs:pack:list")["items"]
    return {row["name"]: row for row in items if row["state"] == "loaded"}


def verdict(foundation: Foundation, **given: Any) -> Any:
    question = Crossing(**({"caller": "CN", "server": "US", "audience": "", "as_of": date(2026, 11, 30)} | given))
    return foundation.kernel.look(lambda ctx: ctx.ask(CALL_FORWARD, question))


def test_no_pack_acts_that_nobody_loaded(foundation: Foundation) -> None:
    assert loaded(foundation) == {}
    assert verdict(foundation).answers == {"packs": []}
    assert foundation.kernel.look(lambda ctx: crossings.duties_of(ctx, [("CN", "")], ["US"])) == {}


def test_a_pack_is_loaded_as_it_was_looked_at_or_not_at_all(foundation: Foundation) -> None:
    assert refusal(foundation, "packs:pack:load", **named("cn") | {"name": "xx"}) == "packs.pack-unknown"
    assert refusal(foundation, "packs:pack:load", **named("cn") | {"version": "9"}) == "packs.pack-differs"
    assert refusal(foundation, "packs:pack:load", **named("cn") | {"digest": "0" * 64}) == "packs.pack-differs"
    assert loaded(foundation) == {}
    made = foundation.operator.verb("packs:pack:load", **named("cn"))
    assert made["digest"] == shelf()["cn"].digest and made["evidence"].startswith("ev_")
    entry = foundation.operator.http.get(f"/api/v1/evidence/entry/{made['evidence']}").json()
    assert entry["kind"] == "packs.pack-loaded"
    assert refusal(foundation, "packs:pack:load", **named("cn")) == "packs.pack-loaded"


def test_its_rules_answer_with_the_article_and_as_what_they_are(foundation: Foundation) -> None:
    said = verdict(foundation)
    assert said.allowed
    [mask, label] = [answer for _, answer in said.duties]
    assert list(mask.params["mask"]) == ["cn.resident-number", "cn.mobile-number"]
    assert mask.params["media"] == "refuse"
    assert (mask.cites[0].authority, mask.cites[1].authority) == ("interpretation", "statute")
    assert label.params["label"]["member"] == "AIGC"
    assert "show" in [answer.params["does"] for _, answer in verdict(foundation, audience="public").duties]
    assert verdict(foundation, as_of=date(2020, 1, 1)).duties == []


def test_who_asks_is_told_what_is_missing(foundation: Foundation) -> None:
    told = foundation.operator.read("packs:rule:ask", server="US")
    by_rule = {each["rule"]: each for each in told["items"]}
    assert by_rule["cn.mask.crossing"]["state"] == "unknown" and by_rule["cn.mask.crossing"]["is_done"]
    assert by_rule["cn.mask.crossing"]["missing"] == ["caller"]
    assert not by_rule["cn.label.explicit"]["is_done"]
    assert by_rule["cn.label.removal"]["authority"] == "ministerial"
    before = foundation.operator.read("packs:rule:ask", caller="CN", server="US", as_of="2021-01-01")
    assert before["items"] == []


@pytest.mark.parametrize(
    ("region", "country"),
    [
        ("CN", "CN"), ("cn-north-1", "CN"), ("cn-hongkong", "HK"), ("CN-HK", "HK"), ("cn-hongkong-b", "HK"),
        ("cn-taiwan", "TW"), ("cn_macau", "MO"), ("cn-hkust", "CN"), ("us-east-1", "US"), ("asia-east1", ""), ("", ""),
    ],
)  # fmt: skip
def test_what_clouds_file_under_china_is_in_the_country_where_it_is(region: str, country: str) -> None:
    assert crossings.country_of(region) == country


def test_the_page_shows_rules_sources_and_cases_in_both_languages(foundation: Foundation) -> None:
    for language, words in (
        ("zh", ("算例", "本产品的解释", "个人信息保护法 38", "校验码不对，不是身份证号")),
        ("en", ("Worked cases", "our interpretation", "39", "a day that never was is no day of birth")),
    ):
        page = foundation.operator.http.get(
            "/packs", params={"caller": "cn", "server": "US"}, headers={"accept-language": language}
        )
        assert page.status_code == 200
        assert all(each in page.text for each in (*words, "cn.mask.crossing", shelf()["cn"].digest[:12]))
    assert foundation.operator.http.get("/packs", params={"caller": "<x>", "as_of": "never"}).status_code == 200


@pytest.mark.heavy
def test_what_is_loaded_is_shown_as_loaded_however_much_was_loaded_since(foundation: Foundation) -> None:
    def not_loaded() -> int:
        page = foundation.operator.http.get("/packs", headers={"accept-language": "en"}).text
        return page.count(foundation.kernel.house.words.text("packs.not-loaded", "en"))

    before, pack = not_loaded(), shelf()["eu"]
    assert before == len(shelf()) - len(loaded(foundation)) > 0
    for _ in range(31):
        made = foundation.operator.verb("packs:pack:load", **named(pack.name))
        foundation.operator.verb("packs:pack:unload", pack=made["id"])
    assert not_loaded() == before


def test_what_is_loaded_and_is_not_here_any_more_denies_what_it_could_have_spoken_of(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {name: replace(pack, digest="f" * 64) for name, pack in shelf().items()}
    monkeypatch.setattr(service, "shelf", lambda: other)
    assert not verdict(foundation).allowed and not verdict(foundation, caller="", server="").allowed
    assert verdict(foundation, caller="DE", server="US").allowed
    monkeypatch.setattr(service, "shelf", dict)
    assert not verdict(foundation, caller="DE", server="US").allowed, "nobody knows what it was the law of"


def test_what_a_newer_edition_speaks_of_no_more_is_denied_until_it_is_loaded(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrower = {"cn": replace(shelf()["cn"], digest="f" * 64, regions=frozenset(("DE",))), "eu": shelf()["eu"]}
    monkeypatch.setattr(service, "shelf", lambda: narrower)
    assert not verdict(foundation, caller="CN", server="US").allowed, "by what was loaded"
    assert not verdict(foundation, caller="DE", server="US").allowed, "by what is here in its place"
    assert verdict(foundation, caller="FR", server="US").allowed

    id = loaded(foundation)["cn"]["id"]

    def write(ctx: Any, regions: list[str] | None) -> None:
        ctx.session.get_one(LoadedPack, id).regions = regions

    foundation.kernel.transact(lambda ctx: write(ctx, None), reason="test")  # as a row of before they were written
    assert not verdict(foundation, caller="FR", server="US").allowed, "nobody knows what it was the law of"
    foundation.kernel.transact(lambda ctx: write(ctx, sorted(shelf()["cn"].regions)), reason="test")


def test_a_newer_edition_takes_the_place_of_the_one_before(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loaded(foundation)["cn"]
    newer = {"cn": replace(shelf()["cn"], version="1.0.1", digest="e" * 64)}
    monkeypatch.setattr(service, "shelf", lambda: newer)
    foundation.operator.verb("packs:pack:load", name="cn", version="1.0.1", digest="e" * 64)
    rows = {row["id"]: row for row in foundation.operator.read("packs:pack:list")["items"]}
    assert rows[before["id"]]["state"] == "replaced"
    assert loaded(foundation)["cn"]["edition"] == "1.0.1"
    monkeypatch.undo()
    foundation.operator.verb("packs:pack:load", **named("cn"))


def test_a_pack_whose_own_case_fails_is_not_loaded(foundation: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = shelf()["eu"]
    wrong = {"eu": replace(pack, cases=(replace(pack.cases[0], expects={}),))}
    monkeypatch.setattr(service, "shelf", lambda: wrong)
    assert reading.failures(wrong["eu"]) == [pack.cases[0].en]
    assert refusal(foundation, "packs:pack:load", **named("eu")) == "packs.case-failed"


def test_what_the_settings_name_is_loaded_at_the_start_once(foundation: Foundation) -> None:
    pack = shelf()["eu"]

    def start(setting: str) -> None:
        named = Settings.from_environment({"GONGQI_PACKS": setting}).packs
        foundation.kernel.transact(lambda ctx: service.load_named(ctx, named), reason="start")

    for _ in range(2):
        start(f"eu@{pack.version}:{pack.digest}, cn@{shelf()['cn'].version}:{shelf()['cn'].digest}")
    assert loaded(foundation)["eu"]["loaded_by"] == "system"
    with pytest.raises(Refused, match=r"packs\.pack-differs"):
        start(f"eu@{pack.version}:{'0' * 64}")
    for wrong in ("eu", "eu@1", "eu@1:abc", f"../x@1:{'0' * 64}"):
        with pytest.raises(Refused, match=r"packs\.setting-invalid"):
            start(wrong)


def test_a_pack_that_is_unloaded_acts_no_more(foundation: Foundation) -> None:
    row = loaded(foundation)["cn"]
    foundation.operator.verb("packs:pack:unload", pack=row["id"])
    assert refusal(foundation, "packs:pack:unload", pack=row["id"]) == "packs.pack-ended"
    assert "cn" not in loaded(foundation)
    assert [answer.params["rule"] for _, answer in verdict(foundation).duties] == []


# ---- law: a pack only tightens

CITE = (Citation("x", "1", "policy", "2026-01-01"),)


def other(kind: str) -> Answer:
    """What somebody else says at the gate."""
    params = {"rule": kind, "does": kind, "is_certain": True, "mask": ["cn.mobile-number"], "media": kind}
    decision = "deny" if kind == "deny" else "require"
    return Answer(decision, "packs.altered", params, CITE)


OTHERS = st.lists(st.sampled_from(("deny", "refuse", "pass")).map(other), max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(others=OTHERS, caller=st.sampled_from(("", "CN", "FR", "US")), server=st.sampled_from(("", "CN", "US")))
def test_adding_a_pack_never_turns_a_deny_into_an_allow_and_never_removes_a_duty(
    foundation: Foundation, others: list[Answer], caller: str, server: str
) -> None:
    def duty(ctx: Any, packs: list[str]) -> Any:
        facts = {"caller": caller, "server": server, "audience": "public"}
        given = [
            service._answer(ctx, finding)
            for name in packs
            for finding in service.rules.find(shelf()[name].rules, facts, date(2026, 11, 30), shelf()[name].regions)
            if finding.does and finding.rule.does != "note"
        ]
        said = Verdict(CALL_FORWARD.name, {"others": others, "packs": given})
        return said, crossings.duty_of(ctx, said)

    def look(ctx: Any) -> None:
        for before, after in (([], ["cn"]), (["cn"], ["cn", "eu"]), (["eu"], ["eu", "cn"])):
            (was, then), (is_now, now) = duty(ctx, before), duty(ctx, after)
            assert was.allowed or not is_now.allowed
            assert {a.params["rule"] for _, a in was.duties} <= {a.params["rule"] for _, a in is_now.duties}
            asked = {a.params["media"] for _, a in is_now.duties if a.params.get("mask")}
            assert not asked or (now.mask.media == "refuse") == ("refuse" in asked)
            if then is None:
                continue
            assert then.denied is None or now.denied is not None
            assert {label.member for label in then.labels} <= {label.member for label in now.labels}
            if then.mask is not None:
                assert set(then.mask.detectors) <= set(now.mask.detectors)
                assert (then.mask.media, now.mask.media) != ("refuse", "pass")

    foundation.kernel.look(look)
