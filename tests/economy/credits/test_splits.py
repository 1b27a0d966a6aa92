"""Fees fall to those who made the answer possible: once, to the unit, along the lineage."""

from __future__ import annotations

import pytest

from gongqi.economy.credits import service
from gongqi.kernel.errors import Broken, Refused
from gongqi.resources.serving.events import CallSettled

WEIGHTS = {"service": 2000, "model": 3500, "datasets": 2500, "compute": 1000, "foundation": 1000}


@pytest.fixture
def served(market):
    deployment = market.served()
    market.fund(1000)
    market.budget(deployment, 1000)
    return deployment


def publish(market, **weights):
    return market.do(market.operator, "credits:policy:publish", **(WEIGHTS | weights))


def paid(market, rows=50):
    call = market.infer([(1.0, 2.0)] * rows)["parameters"]["call"]
    market.work()
    [split] = market.ask(market.operator, "credits:split:list", call=call).items
    return split


def shares(split):
    return {line.share: line.amount for line in split.lines}


def test_a_fee_is_divided_by_the_policy_and_reaches_its_owners(market, served):
    publish(market)
    split = paid(market)
    assert split.fee == 150 and split.state == "done" and split.policy == 1
    assert shares(split) == {"service": 30, "model": 53, "datasets": 37, "compute": 15, "foundation": 15}
    assert market.balance("hospital") == 37 and market.balance("laboratory") == 53
    assert market.balance("foundation") == 45 and market.balance("foundation", "compute") == 15
    assert market.balance(served.id, "clearing") == 0 and market.book_holds()
    assert split.revisions == [market.model_revision, market.data[1]] and split.whole


def test_the_split_leaves_evidence_that_its_transaction_names(market, served):
    publish(market)
    split = paid(market)
    [entry] = market.evidence("credits.fee-split")
    assert entry.id == split.evidence and entry.facts["call"] == split.call
    assert entry.facts["totals"] == shares(split)
    posted = market.ask(market.operator, "ledger:transaction:get", transaction=split.transaction)
    assert posted.evidence == entry.id and posted.key == f"split:{split.call}"


def test_an_event_that_comes_twice_is_divided_once(market, served):
    publish(market)
    split = paid(market)
    event = CallSettled(
        call=split.call, deployment=split.deployment, release=split.release, org=split.payer, unit=split.unit,
        fee=split.fee, rows=50,
    )  # fmt: skip
    market.kernel.transact(lambda ctx: service.split_fee(ctx, event), reason="again")
    assert market.balance("hospital") == 37 and len(market.evidence("credits.fee-split")) == 1


def test_a_fee_settled_before_any_policy_waits_for_the_first(market, served):
    split = paid(market)
    assert (split.state, split.lines, split.policy) == ("waiting", [], None)
    assert market.balance(served.id, "clearing") == 150
    publish(market)
    market.work()
    assert market.ask(market.operator, "credits:split:get", split=split.id).state == "done"
    assert market.balance("hospital") == 37 and market.balance(served.id, "clearing") == 0


def test_a_new_policy_holds_for_later_fees_only(market, served):
    publish(market)
    first = paid(market)
    publish(market, datasets=0, foundation=3500)
    second = paid(market)
    assert (first.policy, second.policy) == (1, 2)
    assert shares(second) == {"service": 30, "model": 52, "compute": 15, "foundation": 53}
    assert market.ask(market.operator, "credits:split:get", split=first.id) == first


def test_weights_that_are_not_the_whole_are_refused(market):
    with pytest.raises(Refused, match=r"credits\.weights-not-whole"):
        publish(market, service=2001)


def test_only_the_foundation_publishes_a_policy(market):
    with pytest.raises(Refused, match=r"access\.forbidden"):
        market.do(market.owner("hospital"), "credits:policy:publish", **WEIGHTS)


def test_a_model_without_datasets_keeps_their_share(market):
    publish(market)
    code = market.asset("laboratory", "rules", "code")
    written = market.revision("laboratory", code, [market.bring("laboratory", "a.py", b"x = 1\n", "training-code")])
    asset, revision = market.model([(written, "derived-from")])
    market.fund()
    market.budget(market.deploy(market.release("laboratory", asset, revision)))
    assert shares(paid(market)) == {"service": 30, "model": 90, "compute": 15, "foundation": 15}


def test_a_dataset_only_evaluated_on_earns_nothing_nor_does_what_it_came_from(market):
    publish(market)
    _, trained = market.dataset("hospital", "trained")
    _, origin = market.dataset("application", "origin")
    held = market.asset("application", "held-out", "dataset")
    table = market.bring("application", "data.csv", b"record,a,b,ill\nh-1,1,2,0\n", "evaluation-data")
    evaluation = market.revision("application", held, [table], [(origin, "derived-from")])
    asset, revision = market.model([(trained, "trained-on"), (evaluation, "evaluated-on")])
    market.fund()
    market.budget(market.deploy(market.release("laboratory", asset, revision)))
    split = paid(market)
    assert {line.owner for line in split.lines if line.share == "datasets"} == {market.orgs["hospital"]}


def test_a_deep_lineage_pays_every_dataset_once(market):
    """The model is tuned from another; both know the hospital's data, in two revisions."""
    publish(market)
    asset, first = market.dataset("hospital", "records")
    table = market.bring("hospital", "data.csv", b"record,a,b,ill\nr-9,1,2,0\n", "datasets")
    second = market.revision("hospital", asset, [table], [(first, "derived-from")])
    other, third = market.dataset("application", "more")
    _, base = market.model([(first, "trained-on"), (third, "trained-on")], slug="base")
    tuned, revision = market.model([(base, "fine-tuned-from"), (second, "trained-on")], slug="tuned")
    market.fund()
    market.budget(market.deploy(market.release("laboratory", tuned, revision)))
    split = paid(market)
    parts = {line.asset: line.amount for line in split.lines if line.share == "datasets"}
    assert sorted(parts) == sorted([asset, other]) and sorted(parts.values()) == [18, 19]
    assert set(split.revisions) == {revision, base, first, second, third}


def test_a_split_is_seen_by_payer_and_receivers_alone(market, served):
    publish(market)
    split = paid(market)
    for role in ("application", "hospital", "laboratory", "foundation"):
        assert len(market.ask(market.owner(role), "credits:split:list").items) == 1
    other = market.do(market.operator, "members:organisation:create", handle="other", name="Other")
    market.orgs["other"] = other.id
    assert market.ask(market.owner("other"), "credits:split:list").items == []
    with pytest.raises(Refused, match=r"access\.not-found"):
        market.ask(market.owner("other"), "credits:split:get", split=split.id)


def test_without_a_foundation_nothing_is_divided(market, served, monkeypatch):
    monkeypatch.setattr(service, "FOUNDATION_HANDLE", "nobody")
    publish(market)
    event = CallSettled(
        call="call_1", deployment=served.id, release=served.release, org=market.orgs["application"], unit="CNY-fen",
        fee=3, rows=1,
    )  # fmt: skip
    with pytest.raises(Broken, match=r"credits\.foundation-missing"):
        market.kernel.transact(lambda ctx: service.split_fee(ctx, event), reason="test")
