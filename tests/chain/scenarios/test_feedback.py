"""Feedback on answers: given under an agreement, by who asked, gathered once into a dataset that says what was agreed."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from gongqi.chain.scenarios import gathering_flows
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.flows import FlowRow
from gongqi.resources.hub import service as hub
from gongqi.resources.serving import feedback
from gongqi.resources.serving.plane import opinions

MESSAGES = [{"role": "user", "content": "晴天吗？"}]


def refused(work, *given, **more):
    with pytest.raises(Refused) as caught:
        work(*given, **more)
    return caught.value.code


def kept(talk, **query):
    """How often what became of feedback: its state and the reason."""
    return Counter((row.state, row.reason) for row in talk.feedback(**query))


def content_of(talk, id, actor=None):
    return talk.market.ask(actor or talk.market.operator, "serving:feedback:get", feedback=id).content


def test_a_thumb_and_a_correction_become_a_revision_of_a_dataset(talk):
    route = talk.route()
    first, second = talk.called(route, count=2)
    said = talk.say(route, first, rating="down", reasons=["wrong"], correction="晴。", messages=MESSAGES)
    assert (said["object"], said["state"], said["kinds"], said["replaced"]) == (
        "feedback", "waiting", ["rating", "correction"], [],
    )  # fmt: skip
    talk.say(route, second, rating="up")
    done = talk.gather(route)
    assert (done.state, done.claimed, done.count, done.set_aside) == ("done", 2, 2, {})
    told = {"model": "talk", "release": None, "date": "2026-01-01"}
    assert sorted(talk.lines(done.revision), key=len) == [
        {"rating": "up"} | told,
        {"rating": "down", "reasons": ["wrong"], "correction": "晴。", "messages": MESSAGES} | told,
    ]
    asset = talk.market.ask(talk.market.operator, "hub:asset:get", asset=done.asset)
    assert (asset.kind, asset.visibility, asset.org) == ("dataset", "private", talk.market.orgs["foundation"])
    assert kept(talk) == {("returned", None): 2}
    assert content_of(talk, said["id"]) is None, "what is in the dataset is not kept twice"


def test_a_line_names_neither_call_nor_key_nor_organisation(talk):
    route = talk.route()
    [call] = talk.called(route)
    talk.say(route, call, rating="up", input="?")
    done = talk.gather(route)
    text = orjson.dumps(talk.lines(done.revision)).decode()
    for hidden in (call, talk.keys["application"], talk.market.orgs["application"], "Application"):
        assert hidden not in text


def test_a_line_names_the_organisation_where_the_agreement_says_so(talk):
    route = talk.route(feedback_names_org=True, feedback_visibility="members")
    [call] = talk.called(route)
    talk.say(route, call, rating="up")
    done = talk.gather(route)
    assert [line["organisation"] for line in talk.lines(done.revision)] == ["Application"]
    assert talk.market.ask(talk.market.operator, "hub:asset:get", asset=done.asset).visibility == "members"


def test_the_revision_rests_on_the_release_that_answered(talk):
    market = talk.market
    market.served()
    release = market.ask(market.operator, "hub:release:list").items[0]
    route = talk.route(release=release.id)
    [before] = talk.called(route)
    talk.say(route, before, rating="up")
    changed = talk.route()
    [after] = talk.called(changed)
    talk.say(changed, after, rating="down")
    back = talk.route(release=release.id)
    [late] = talk.called(route, snapshot=1)
    talk.say(back, late, rating="up", reasons=["the model has changed since this call"])
    done = talk.gather(back)
    assert {(line["rating"], line["release"]) for line in talk.lines(done.revision)} == {
        ("up", release.name), ("up", None), ("down", None)
    }  # fmt: skip
    detail = market.ask(market.operator, "hub:revision:get", revision=done.revision)
    assert [(each.revision, each.relation) for each in detail.lineage] == [(market.model_revision, "returned-from")]


def test_said_anew_while_it_waits_the_later_counts_and_says_so(talk):
    route = talk.route()
    [call] = talk.called(route)
    talk.say(route, call, rating="up", reasons=["quick"], input="?")
    again = talk.say(route, call, rating="down", correction="no")
    assert (again["kinds"], again["replaced"]) == (["rating", "correction"], ["rating"])
    assert content_of(talk, again["id"]) == {"input": "?", "correction": "no"}
    more = talk.say(route, call, outcome={"sold": True}, messages=MESSAGES)
    assert (more["kinds"], more["replaced"]) == (["rating", "outcome", "correction"], [])
    assert content_of(talk, more["id"]) == {"outcome": {"sold": True}, "messages": MESSAGES, "correction": "no"}
    assert kept(talk) == {("removed", "replaced"): 2, ("waiting", None): 1}
    done = talk.gather(route)
    [line] = talk.lines(done.revision)
    assert (line["rating"], line["outcome"], line["correction"]) == ("down", {"sold": True}, "no")


def test_what_is_in_a_dataset_is_not_replaced_but_another_kind_is_taken(talk):
    route = talk.route()
    [call] = talk.called(route)
    talk.say(route, call, rating="up")
    first = talk.gather(route)
    assert refused(talk.say, route, call, rating="down") == "serving.feedback-taken"
    talk.say(route, call, correction="better")
    second = talk.gather(route)
    assert second.asset == first.asset
    assert sorted(sorted(line) for line in talk.lines(second.revision)) == [
        ["correction", "date", "model", "release"], ["date", "model", "rating", "release"]
    ]  # fmt: skip


def test_feedback_is_taken_from_the_key_that_made_the_call_and_no_other(talk):
    route = talk.route()
    [call] = talk.called(route)
    assert refused(talk.say, route, call, role="laboratory", rating="up") == "serving.usage-unknown"
    assert refused(talk.say, route, "gen_nothing", rating="up") == "serving.usage-unknown"
    fresh = f"gen_{int(talk.market.kernel.clock.now().timestamp() * 1000):012x}{0:08x}ffffffff"
    with pytest.raises(Unavailable, match=r"serving\.feedback-early"):
        talk.say(route, fresh, rating="up")


def test_feedback_without_an_agreement_or_under_another_is_refused(talk):
    route = talk.route()
    [call] = talk.called(route)
    assert refused(talk.say, route, call, agreement="0" * 64, rating="up") == "serving.feedback-agreement-differs"
    talk.market.do(talk.market.operator, "serving:route:retire", route=route.id)
    assert refused(talk.say, route, call, rating="up") == "serving.feedback-without-agreement"
    plain = talk.route("plain", agreement_zh=None, agreement_en=None)
    assert plain.agreement is None
    [silent] = talk.called(plain)
    assert refused(talk.say, route, silent, rating="up") == "serving.feedback-without-agreement"
    assert refused(talk.gather, plain) == "scenarios.route-without-agreement"
    assert refused(talk.route, "half", agreement_en=None) == "serving.agreement-one-language"


def test_feedback_comes_in_time_and_on_an_answer(talk, clock):
    route = talk.route()
    [nothing] = talk.called(route, ending="refused")
    assert refused(talk.say, route, nothing, rating="up") == "serving.feedback-nothing-answered"
    [call] = talk.called(route)
    clock.advance(days=feedback.MAX_DAYS, seconds=1)
    assert refused(talk.say, route, call, rating="up") == "serving.feedback-late"


def test_there_is_a_limit_to_what_waits(talk, monkeypatch):
    route = talk.route()
    first, second = talk.called(route, count=2)
    for _ in range(feedback.MAX_OF_A_CALL):
        talk.say(route, first, rating="up")
    assert refused(talk.say, route, first, rating="up") == "serving.feedback-too-many"
    monkeypatch.setattr(feedback, "MAX_WAITING_OF_A_KEY", 1)
    assert refused(talk.say, route, second, rating="up") == "serving.feedback-too-many"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"[]", "unreadable"), (b"{", "unreadable"), (b"\xff", "unreadable"), (b'{"id": "x"}', "unreadable"),
        ({"rating": "good"}, "unreadable"), ({"ratings": "up"}, "unreadable"), ({}, "empty"),
        ({"messages": MESSAGES}, "empty"), ({"outcome": "won", "reasons": ["late"]}, "unreadable"),
        ({"rating": "up", "messages": MESSAGES, "input": "?"}, "unreadable"),
        ({"rating": "up", "reasons": ["x"] * 11}, "unreadable"), ({"rating": "up", "reasons": ["x" * 81]}, "unreadable"),
        ({"rating": "up", "messages": []}, "unreadable"), ({"rating": "up", "agreement": "short"}, "unreadable"),
        ({"outcome": []}, "unreadable"), ({"correction": ""}, "unreadable"),
    ],
)  # fmt: skip
def test_what_is_no_opinion_is_refused(said, why):
    body = said if isinstance(said, bytes) else orjson.dumps({"id": "gen_x", "agreement": "0" * 64} | said)
    with pytest.raises(Refused, match=rf"serving\.(request|feedback)-{why}"):
        opinions.read(body)


def test_numbers_that_nobody_could_write_down_again_and_endless_nesting_are_refused():
    for outcome in (b'{"n": %s}' % (b"9" * 30), b'{"a":' * 5000 + b"1" + b"}" * 5000):
        with pytest.raises(Refused, match=r"serving\.request-unreadable"):
            opinions.read(b'{"id": "gen_x", "agreement": "%s", "outcome": %s}' % (b"0" * 64, outcome))


def test_what_holds_a_secret_or_says_who_somebody_is_never_becomes_a_line(talk):
    route = talk.route()
    calls = talk.called(route, count=5)
    talk.say(route, calls[0], correction="write to li.lei@example.org")
    talk.say(route, calls[1], outcome={"token": "ghp_" + "a1B2" * 9})
    talk.say(route, calls[2], rating="up", messages=[{"role": "user", "content": "我的号码 13912345678"}])
    talk.say(route, calls[3], outcome={"a": [[]] * 3} | {"b": _deep(60)})
    talk.say(route, calls[4], rating="up", input="how are you?")
    done = talk.gather(route)
    assert (done.count, done.set_aside) == (1, {"personal": 2, "secret": 1, "too-deep": 1})
    assert [line["input"] for line in talk.lines(done.revision)] == ["how are you?"]
    assert kept(talk) == {
        ("removed", "personal"): 2, ("removed", "secret"): 1, ("removed", "too-deep"): 1, ("returned", None): 1
    }  # fmt: skip


def _deep(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


def test_a_gathering_of_nothing_that_fits_leaves_the_dataset_as_it_is(talk):
    route = talk.route()
    [call] = talk.called(route)
    talk.say(route, call, correction="li.lei@example.org")
    done = talk.gather(route)
    assert (done.state, done.revision, done.count) == ("empty", None, 0)
    assert refused(talk.gather, route) == "scenarios.nothing-to-gather"


def test_feedback_given_on_other_terms_goes_nowhere(talk):
    route = talk.route()
    first, second = talk.called(route, count=2)
    talk.say(route, first, rating="up")
    talk.say(route, second, rating="up")
    changed = talk.route(purpose="research")
    assert (changed.agreement.version, changed.agreement.sha256 == route.agreement.sha256) == (2, False)
    assert refused(talk.say, route, first, rating="up") == "serving.feedback-agreement-differs"
    again = talk.say(changed, first, correction="no")
    assert again["kinds"] == ["correction"], "what was said on other terms is not said on these"
    done = talk.gather(changed)
    assert [sorted(line) for line in talk.lines(done.revision)] == [["correction", "date", "model", "release"]]
    assert kept(talk) == {("removed", "agreement-ended"): 2, ("returned", None): 1}


def test_the_same_terms_again_are_the_same_agreement_and_each_other_has_a_dataset_of_its_own(talk):
    route = talk.route()
    assert talk.route(context_tokens=4096).agreement == route.agreement
    first, second = talk.called(route, count=2)
    talk.say(route, first, rating="up")
    one = talk.gather(route)
    opened = talk.route(feedback_visibility="public")
    talk.say(opened, second, rating="up")
    two = talk.gather(opened)
    assert one.asset != two.asset
    seen = [talk.market.ask(talk.market.operator, "hub:asset:get", asset=each.asset).visibility for each in (one, two)]
    assert seen == ["private", "public"]


def test_a_dataset_of_feedback_is_opened_no_further_than_was_agreed(talk):
    route = talk.route(feedback_visibility="members")
    [call] = talk.called(route)
    talk.say(route, call, rating="up")
    done = talk.gather(route)
    opening = {"asset": done.asset, "visibility": "public"}
    with pytest.raises(Refused) as caught:
        talk.market.do(talk.market.operator, "hub:asset:open", **opening)
    words = [talk.market.kernel.house.words.error(caught.value, language)[1] for language in ("en", "zh")]
    assert "data agreement" in words[0] and "数据协议" in words[1]
    set_visibility = lambda ctx: hub.set_visibility(ctx, done.asset, "public")  # noqa: E731
    assert refused(talk.market.kernel.transact, set_visibility, reason="test") == "hub.asset-not-to-open"
    for narrower in ("private", "members"):
        opened = talk.market.do(talk.market.operator, "hub:asset:open", asset=done.asset, visibility=narrower)
        assert opened.visibility == narrower
    other = talk.market.asset("hospital", "other", "dataset", visibility="private")
    assert (
        talk.market.do(talk.market.operator, "hub:asset:open", asset=other, visibility="public").visibility == "public"
    )


def test_content_goes_when_its_days_are_over_and_its_row_stays(talk, clock):
    route = talk.route(retention_days=7)
    [call] = talk.called(route)
    said = talk.say(route, call, correction="no")
    assert said["until"] == "2026-01-08T00:00:00+00:00"
    clock.advance(days=6)
    talk.market.work(sweep=True)
    assert content_of(talk, said["id"]) == {"correction": "no"}
    clock.advance(days=1)
    talk.market.work(sweep=True)
    assert kept(talk) == {("removed", "days-over"): 1}
    assert content_of(talk, said["id"]) is None
    assert refused(talk.gather, route) == "scenarios.nothing-to-gather"


def test_lines_leave_the_dataset_when_their_days_are_over(talk, clock):
    route = talk.route(retention_days=7)
    first, second = talk.called(route, count=2)
    talk.say(route, first, rating="up")
    talk.gather(route)
    clock.advance(days=3)
    talk.say(route, second, rating="down")
    talk.gather(route)
    clock.advance(days=5)
    talk.market.work(sweep=True)
    [late, early] = talk.market.ask(talk.market.operator, "scenarios:gathering:list").items
    assert early.dropped is not None and late.dropped is None
    assert [line["rating"] for line in talk.lines(early.dropped)] == ["down"]
    assert len(talk.market.evidence("scenarios.feedback-dropped")) == 1


def test_lines_of_an_archived_dataset_leave_when_it_is_open_again(talk, clock):
    route = talk.route(retention_days=7)
    [call] = talk.called(route)
    talk.say(route, call, rating="up")
    done = talk.gather(route)
    talk.market.do(talk.market.operator, "hub:asset:archive", asset=done.asset, reason="rest")
    clock.advance(days=8)
    talk.market.work(sweep=True)
    talk.market.do(talk.market.operator, "hub:asset:unarchive", asset=done.asset)
    clock.advance(days=1, hours=1)
    talk.market.work(sweep=True)
    [gone] = talk.market.ask(talk.market.operator, "scenarios:gathering:list").items
    assert gone.dropped is not None and talk.lines(gone.dropped) == []


def test_a_gathering_that_cannot_be_written_frees_what_it_took(talk):
    route = talk.route()
    first, second = talk.called(route, count=2)
    talk.say(route, first, rating="up")
    done = talk.gather(route)
    talk.market.do(talk.market.operator, "hub:asset:archive", asset=done.asset, reason="rest")
    talk.say(route, second, rating="up")
    failed = talk.gather(route)
    assert (failed.state, failed.reason) == ("failed", "hub.asset-archived")
    assert kept(talk) == {("returned", None): 1, ("waiting", None): 1}
    talk.market.do(talk.market.operator, "hub:asset:unarchive", asset=done.asset)
    assert talk.gather(route).count == 1


def test_a_dataset_that_moves_on_meanwhile_is_followed(talk, monkeypatch):
    route = talk.route()
    first, second = talk.called(route, count=2)
    talk.say(route, first, rating="up")
    done = talk.gather(route)
    talk.say(route, second, rating="down")
    build, times = gathering_flows._build, []

    def meanwhile(kernel, gathering, key):
        built = build(kernel, gathering, key)
        if not times:
            times.append(1)
            talk.market.revision(
                "foundation", done.asset, [talk.market.bring("foundation", "x.csv", b"a\n", "datasets")]
            )
        return built

    monkeypatch.setattr(gathering_flows, "_build", meanwhile)
    after = talk.gather(route)
    assert (after.state, [line["rating"] for line in talk.lines(after.revision)]) == ("done", ["down"])
    assert refused(talk.gather, route) == "scenarios.nothing-to-gather"


def test_one_gathering_at_a_time(talk):
    route = talk.route()
    [call] = talk.called(route)
    talk.say(route, call, rating="up")
    owner = talk.market.owner("foundation")
    talk.market.do(owner, "scenarios:feedback:gather", route=route.id)
    assert refused(talk.market.do, owner, "scenarios:feedback:gather", route=route.id) == "scenarios.gathering-running"
    assert refused(talk.say, route, call, rating="down") == "serving.feedback-taken", "it is on its way"


def test_who_does_not_offer_the_model_may_not_gather(talk):
    route = talk.route()
    [call] = talk.called(route)
    talk.say(route, call, rating="up")
    assert refused(talk.gather, route, talk.market.owner("laboratory")) == "access.forbidden"


def test_feedback_is_seen_by_who_gave_it_and_its_content_by_who_may(talk):
    route = talk.route()
    [call] = talk.called(route)
    said = talk.say(route, call, correction="no")
    market = talk.market
    giver, other, host = (market.owner(role) for role in ("application", "laboratory", "foundation"))
    assert content_of(talk, said["id"], giver) == {"correction": "no"}
    assert content_of(talk, said["id"], market.owner("application", "serving:feedback:read")) is None
    for stranger in (other, host):
        assert market.ask(stranger, "serving:feedback:list").items == []
        assert refused(content_of, talk, said["id"], stranger) == "access.not-found"


def test_what_waits_can_be_withdrawn(talk):
    route = talk.route()
    first, second = talk.called(route, count=2)
    said, other = talk.say(route, first, correction="no"), talk.say(route, second, rating="up")
    giver = talk.market.owner("application")
    gone = talk.market.do(giver, "serving:feedback:withdraw", feedback=said["id"])
    assert (gone.state, gone.reason) == ("removed", "withdrawn")
    assert content_of(talk, said["id"]) is None
    talk.gather(route)
    for ended in (said["id"], other["id"]):
        code = refused(talk.market.do, giver, "serving:feedback:withdraw", feedback=ended)
        assert code == "serving.feedback-ended"


def test_evidence_tells_neither_who_gave_feedback_nor_on_which_call(talk):
    route = talk.route()
    [call] = talk.called(route)
    said = talk.say(route, call, correction="no")
    [told] = talk.market.evidence("serving.feedback-received")
    assert (told.actor, told.subject) == ("withheld", said["id"])
    assert told.facts == {"route": route.id, "agreement": route.agreement.sha256}
    done = talk.gather(route)
    [gathered] = talk.market.evidence("scenarios.feedback-gathered")
    assert gathered.facts["revision"] == done.revision and gathered.facts["count"] == 1
    assert talk.market.kernel.look(lambda ctx: ctx.session.query(FlowRow).filter_by(state="dead").count()) == 0
