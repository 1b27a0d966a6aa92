"""Roll-outs in the house: what processes report makes them climb, complete or roll back, with evidence and an event each."""

from __future__ import annotations

from typing import Any

import pytest

from gongqi.kernel.errors import Refused
from gongqi.kernel.events import EventRow
from gongqi.resources.hub.events import ReleaseWithdrawn
from gongqi.resources.serving import rollouts, shadows, tallies
from gongqi.resources.serving.control import GatewayControl
from gongqi.resources.serving.drift import tell
from gongqi.resources.serving.drifting import Change
from gongqi.resources.serving.metering import Tariff
from gongqi.resources.serving.models import ModelEndpoint
from gongqi.resources.serving.rollout_models import ModelTally
from gongqi.resources.serving.routes import set_tariff
from tests.sim.talk import Talk

GOOD, ILL = [1000, 0, 0], [100, 60, 60]


class Street:
    """A model with a server, and another server that is to take its place."""

    def __init__(self, market: Any, clock: Any) -> None:
        self.market = market
        self.clock = clock
        self.talk = Talk(market)
        self.route = self.talk.route()
        self.other = self.endpoint("other")

    def endpoint(self, name: str, **more: Any) -> str:
        return self.do("serving:endpoint:add", name=name, base_url="https://other.example.org/v1", **more).id

    def do(self, verb: str, **values: Any) -> Any:
        return self.market.do(self.market.operator, verb, **values)

    def begin(self, **more: Any) -> Any:
        given = {"route": self.route.id, "endpoint": self.other, "model": "m2", "hold_seconds": 60, "calls": 50}
        return self.do("serving:rollout:begin", **given | more)

    def get(self, rollout: Any) -> Any:
        return self.market.ask(self.market.operator, "serving:rollout:get", rollout=rollout.id)

    def report(
        self, rollout: Any, old: list[int], new: list[int], *, plane: str = "p1", is_stopped: bool = False
    ) -> None:
        told = {rollout.id: {"old": old, "new": new, "is_stopped": is_stopped}}
        GatewayControl(self.market.kernel).report(plane, told)

    def later(self, seconds: float = 60) -> None:
        self.clock.advance(seconds=seconds)
        self.market.work()

    def targets(self) -> list[Any]:
        return self.market.ask(self.market.operator, "serving:route:targets", route=self.route.id).targets

    def events(self, rollout: Any) -> list[str]:
        with self.market.kernel.db.reading() as session:
            rows = [row for row in session.query(EventRow).order_by(EventRow.emitted_at) if row.subject == rollout.id]
            return [row.kind.removeprefix("serving.rollout-").removesuffix(".v1") for row in rows]

    def releases(self) -> list[str]:
        """Two of models, under one licence."""
        lineage = [(self.market.dataset()[1], "trained-on")]
        made = [self.market.model(lineage, slug=slug) for slug in ("first", "second")]
        return [self.market.release("laboratory", asset, revision) for asset, revision in made]


@pytest.fixture
def street(market, clock) -> Street:
    return Street(market, clock)


def refused(code: str, act: Any) -> None:
    with pytest.raises(Refused) as caught:
        act()
    assert caught.value.code == code


def test_a_good_server_climbs_by_its_steps_and_takes_the_place_of_the_old(street):
    rollout = street.begin()
    assert (rollout.state, rollout.percent, rollout.steps) == ("climbing", 5, [5, 25, 50, 100])
    seen = []
    for step in range(1, 5):
        street.report(rollout, [1000 * step, step, step], [60 * step, 0, 0])
        street.later()
        seen.append((street.get(rollout).state, street.get(rollout).percent))
    assert seen == [("climbing", 25), ("climbing", 50), ("climbing", 100), ("complete", 100)]
    assert street.targets() == [{"endpoint": street.other, "model": "m2", "weight": 1, "rank": 0}]
    done = street.get(rollout)
    assert (done.old, done.new, done.reason) == ([4000, 4, 4], [240, 0, 0], None)
    assert [(each.percent, each.new[0]) for each in done.path] == [(5, 0), (25, 60), (50, 120), (100, 180), (100, 240)]
    assert street.events(rollout) == ["climbed"] * 4 + ["completed"]
    kinds = ("begun", "climbed", "completed")
    told = [entry for kind in kinds for entry in street.market.evidence(f"serving.rollout-{kind}")]
    assert sorted(entry.facts["percent"] for entry in told) == [5, 25, 50, 100, 100]
    assert all("calls" not in entry.facts for entry in told[1:]), "how much a model is called stays sealed"


def test_a_step_is_held_for_its_time_and_for_its_calls_as_all_processes_count_them(street):
    rollout = street.begin()
    street.report(rollout, GOOD, [49, 0, 0])
    street.later(600)
    assert street.get(rollout).percent == 5 and street.get(rollout).step_calls_left == 1
    street.report(rollout, GOOD, [1, 0, 0], plane="p2")
    street.later(2)
    assert street.get(rollout).percent == 25
    street.report(rollout, GOOD, [500, 0, 0])
    street.later(58)
    assert street.get(rollout).percent == 25, "the calls are there, the time is not"
    street.later(2)
    assert street.get(rollout).percent == 50


@pytest.mark.parametrize(("new", "reason"), [([100, 60, 60], "faults"), ([100, 0, 70], "slow")])
def test_a_worse_server_comes_back_with_its_figures_and_the_old_one_has_all_calls(street, new, reason):
    rollout = street.begin(slow_ms=500)
    street.report(rollout, [1000, 5, 5], new)
    street.later(2)
    back = street.get(rollout)
    assert (back.state, back.percent, back.reason) == ("rolled-back", 0, reason)
    assert (back.old, back.new) == ([1000, 5, 5], new)
    assert street.targets() == [{"endpoint": street.talk.endpoint, "model": "m", "weight": 1, "rank": 0}]
    assert street.events(rollout) == ["climbed", "rolled-back"]
    [entry] = street.market.evidence("serving.rollout-rolled-back")
    assert entry.id == back.evidence and entry.facts["reason"] == reason
    street.later(600)
    assert street.get(rollout) == back, "it is over"


def test_a_server_as_bad_as_the_old_one_does_not_come_back(street):
    rollout = street.begin()
    for step in range(1, 20):
        street.report(rollout, [1000 * step, 200 * step, 0], [20 * step, 4 * step, 0])
        street.later(2)
    assert street.get(rollout).state == "climbing"


def test_one_process_that_has_stopped_it_stops_it_everywhere(street):
    rollout = street.begin()
    street.report(rollout, GOOD, [0, 0, 0])
    street.report(rollout, [0, 0, 0], [40, 20, 20], plane="p2", is_stopped=True)
    street.later(2)
    assert (street.get(rollout).state, street.get(rollout).reason) == ("rolled-back", "stopped")


def test_a_drift_of_the_model_rolls_it_back_once(street):
    rollout = street.begin()
    change = Change(1, 2, 3, 4, 5)
    for _ in range(2):
        street.market.kernel.transact(lambda ctx: tell(ctx, street.route.id, "latency", change), reason="test")
    street.later(2)
    assert (street.get(rollout).state, street.get(rollout).reason) == ("rolled-back", "drift")
    assert street.events(rollout) == ["climbed", "rolled-back"]


@pytest.mark.parametrize("what", ["endpoint", "route"])
def test_without_its_server_or_its_model_it_rolls_back(street, what):
    rollout = street.begin()
    gone = {"endpoint": street.other} if what == "endpoint" else {"route": street.route.id}
    street.do(f"serving:{what}:retire", **gone)
    refused("serving.rollout-target-gone", lambda: street.do("serving:rollout:complete", rollout=rollout.id))
    street.later(2)
    assert (street.get(rollout).state, street.get(rollout).reason) == ("rolled-back", "gone")


def test_by_hand_it_is_held_resumed_completed_and_rolled_back(street):
    rollout = street.begin()
    one = {"rollout": rollout.id}
    refused("serving.rollout-not-held", lambda: street.do("serving:rollout:resume", **one))
    assert street.do("serving:rollout:hold", **one).state == "held"
    refused("serving.rollout-held", lambda: street.do("serving:rollout:hold", **one))
    street.report(rollout, GOOD, [60, 0, 0])
    street.later(600)
    assert (street.get(rollout).state, street.get(rollout).percent) == ("held", 5)
    street.do("serving:rollout:resume", **one)
    street.later(58)
    assert street.get(rollout).percent == 5, "its time begins anew"
    street.later(2)
    assert street.get(rollout).percent == 25
    assert street.do("serving:rollout:complete", **one).state == "complete"
    assert street.targets()[0]["endpoint"] == street.other
    for verb in ("hold", "resume", "complete", "rollback"):
        refused("serving.rollout-over", lambda verb=verb: street.do(f"serving:rollout:{verb}", **one))
    again = street.begin(endpoint=street.talk.endpoint, model="m")
    back = street.do("serving:rollout:rollback", rollout=again.id)
    assert (back.state, back.reason, back.percent) == ("rolled-back", "asked", 0)
    listed = street.market.ask(street.market.operator, "serving:rollout:list", route=street.route.id, state="complete")
    assert [each.id for each in listed.items] == [rollout.id]


def test_held_it_still_rolls_back_by_itself(street):
    rollout = street.begin()
    street.do("serving:rollout:hold", rollout=rollout.id)
    street.report(rollout, GOOD, ILL)
    street.later(2)
    assert street.get(rollout).reason == "faults"


def test_servers_that_stand_in_for_the_old_one_stay(street):
    backup = street.endpoint("backup")
    targets = [
        {"endpoint": street.talk.endpoint, "model": "m", "rank": 2},
        {"endpoint": backup, "model": "m", "rank": 5, "weight": 3},
    ]
    given = {"org": street.market.orgs["foundation"], "context_tokens": 8192}
    street.do("serving:route:define", name="talk", targets=targets, **given)
    street.do("serving:rollout:complete", rollout=street.begin().id)
    new = {"endpoint": street.other, "model": "m2", "weight": 1, "rank": 2}
    assert street.targets() == [new, {"endpoint": backup, "model": "m", "weight": 3, "rank": 5}]


def test_what_cannot_be_rolled_out_is_said(street, monkeypatch):
    refused("serving.target-known", lambda: street.begin(endpoint=street.talk.endpoint, model="m"))
    refused("serving.rollout-steps-invalid", lambda: street.begin(steps=[50, 25, 100]))
    retired = street.endpoint("retired")
    street.do("serving:endpoint:retire", endpoint=retired)
    refused("serving.endpoint-retired", lambda: street.begin(endpoint=retired))
    monkeypatch.setattr(rollouts, "MAX_OPEN", 0)
    refused("serving.rollouts-too-many", street.begin)
    monkeypatch.undo()
    street.begin()
    refused("serving.rollout-under-way", street.begin)
    given = {"org": street.market.orgs["foundation"], "context_tokens": 8192}
    targets = [{"endpoint": street.other, "model": "m"}]
    refused(
        "serving.rollout-under-way", lambda: street.do("serving:route:define", name="talk", targets=targets, **given)
    )


def test_a_server_that_could_never_answer_a_model_is_not_tried_behind_its_name(street):
    tensors, messages = (street.endpoint(speaks, speaks=speaks) for speaks in ("open-inference", "anthropic"))
    vectors = street.talk.route("vectors", kind="embeddings").id
    mirror = {"route": vectors, "model": "m2"}
    for each in (tensors, messages):
        refused("serving.endpoint-unfit", lambda each=each: street.begin(route=vectors, endpoint=each))
        refused("serving.endpoint-unfit", lambda each=each: street.do("serving:shadow:begin", endpoint=each, **mirror))
    refused("serving.endpoint-unfit", lambda: street.begin(endpoint=tensors))
    assert street.begin(endpoint=messages).state == "climbing"


def test_what_is_asked_of_a_model_that_stays_in_a_region_goes_to_no_other(street):
    street.route = street.talk.route("local", region="cn-north")
    refused("serving.region-differs", street.begin)
    there = street.endpoint("there-too", region="cn-north")
    assert street.begin(endpoint=there).state == "climbing"


def test_a_release_gives_way_to_one_with_the_same_licence_alone(street):
    market = street.market
    one, two = street.releases()
    street.route = street.talk.route("modelled", release=one)
    refused("serving.release-unsaid", street.begin)
    rollout = street.begin(release=two)
    assert rollout.release == two
    street.do("serving:rollout:complete", rollout=rollout.id)
    route = market.ask(market.operator, "serving:route:get", route=street.route.id)
    assert (route.release, route.licence) == (two, "CC-BY-4.0")
    assert route.evidence == street.get(rollout).evidence, "what a model's line leads to says why it is what it is"

    def host(ctx: Any) -> None:  # as `serving:endpoint:host` leaves it
        ctx.session.get_one(ModelEndpoint, street.other).release = one

    market.kernel.transact(host, reason="test")
    refused("serving.release-differs", lambda: street.begin(release=two, model="m3"))
    plain = street.talk.route("licensed", licence="MIT")
    refused("serving.licence-differs", lambda: street.begin(route=plain.id, release=one))


def test_a_release_that_is_withdrawn_is_mirrored_to_no_more(street):
    market = street.market
    one, two = street.releases()
    route = street.talk.route("mirrored", release=one)
    tariff = Tariff("p", 1, "CNY-fen", 1, 1, 1)
    market.kernel.transact(lambda ctx: set_tariff(ctx, route.id, tariff, {}), reason="test")
    given = {"route": route.id, "endpoint": street.other, "model": "m2", "release": two}
    begun = street.do("serving:shadow:begin", **given)
    assert (begun.release, begun.state) == (two, "mirroring")
    control = GatewayControl(market.kernel)
    assert control.snapshot().routes["mirrored"].shadow.id == begun.id
    street.do("hub:release:withdraw", release=two, reason="found wrong")
    market.work()
    ended = market.ask(market.operator, "serving:shadow:get", shadow=begun.id)
    assert ended.state == "ended" and ended.ended_at is not None and ended.evidence != begun.evidence
    assert control.snapshot().routes["mirrored"].shadow is None
    again = ReleaseWithdrawn(two, asset="", revision="", digest="", org="")
    market.kernel.transact(lambda ctx: shadows.end_withdrawn(ctx, again), reason="test")
    assert market.ask(market.operator, "serving:shadow:get", shadow=begun.id) == ended, "twice is once"


def test_which_release_answered_is_not_said_of_a_call_that_went_to_one_on_trial(street):
    one, two = street.releases()
    street.route = street.talk.route("modelled", release=one)
    rollout = street.begin(release=two)
    [old], [new] = street.talk.called(street.route), street.talk.called(street.route, endpoint=street.other)
    street.do("serving:rollout:complete", rollout=rollout.id)
    [after] = street.talk.called(street.route, endpoint=street.other)
    for call in (old, new, after):
        street.talk.say(street.route, call, rating="up")
    said = {row.call: row.release for row in street.talk.feedback()}
    assert said == {old: None, new: None, after: two}, "what is certain of earlier calls is not known any more"


def test_reports_replace_each_other_and_old_ones_are_forgotten(street):
    rollout = street.begin()
    for calls in (10, 20, 20):
        street.report(rollout, [calls, 0, 0], [1, 0, 0])
    assert street.get(rollout).old == [20, 0, 0]
    street.do("serving:rollout:rollback", rollout=rollout.id)
    kernel = street.market.kernel
    assert kernel.transact(tallies.forget_old, reason="test") == 0
    street.clock.advance(days=tallies.KEEP_DAYS + 1)
    assert kernel.transact(tallies.forget_old, reason="test") == 1
    assert kernel.look(lambda ctx: ctx.session.query(ModelTally).count()) == 0
    assert street.get(rollout).old == [20, 0, 0]
