"""Fees fall to those who made the answer possible: once, to the unit, along the lineage."""

from __future__ import annotations

import threading
from functools import partial
from hashlib import sha256

import pytest

from gongqi.books.ledger import service as ledger
from gongqi.economy.credits import service
from gongqi.kernel.errors import Broken, Refused
from gongqi.members import rules
from gongqi.resources.serving import service as serving
from gongqi.resources.serving.events import CallSettled

pytestmark = pytest.mark.heavy

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
    assert entry.id == split.evidence and entry.facts == {"deployment": served.id, "policy": 1}
    posted = market.ask(market.operator, "ledger:transaction:get", transaction=split.transaction)
    assert posted.evidence == entry.id and posted.key == f"split:{split.call}"


def test_payer_and_receivers_can_check_their_receipt_against_the_log(market, served):
    publish(market)
    split = paid(market)
    [entry] = market.evidence("credits.fee-split")
    for role in ("application", "hospital", "laboratory"):
        receipt = market.ask(market.owner(role), "credits:split:receipt", split=split.id)
        assert receipt.holds and sha256(receipt.sealed.encode()).hexdigest() == entry.private_digest
        assert receipt.facts["call"] == split.call and receipt.facts["payer"] == market.orgs["application"]
        assert {line["share"]: line["amount"] for line in receipt.facts["lines"]} == shares(split)
    made = market.do(market.operator, "members:organisation:create", handle="other", name="Other")
    market.orgs["other"] = made.id
    with pytest.raises(Refused, match=r"access\.not-found"):
        market.ask(market.owner("other"), "credits:split:receipt", split=split.id)


def test_a_split_that_waits_has_no_receipt(market, served):
    with pytest.raises(Refused, match=r"credits\.split-waiting"):
        market.ask(market.operator, "credits:split:receipt", split=paid(market).id)


def test_small_fees_come_to_the_policy_itself(market):
    """One row at a price of one, twenty times: rounded one by one, the largest share would have taken them all."""
    publish(market)
    data = market.dataset()
    asset, revision = market.model([(data[1], "trained-on")])
    cheap = market.deploy(market.release("laboratory", asset, revision), price_per_row=1)
    market.fund(20)
    market.budget(cheap, 20)
    for number in range(1, 21):
        market.infer()
        if number in (1, 7, 20):
            market.work()
            exact = {"laboratory": 0.35 * number, "hospital": 0.25 * number, "foundation": 0.3 * number}
            assert all(abs(market.balance(owner) - due) < 1 for owner, due in exact.items()), number
    assert [market.balance(owner) for owner in ("laboratory", "hospital", "foundation")] == [7, 5, 6]
    assert market.balance("foundation", "compute") == 2 and market.balance(cheap.id, "clearing") == 0
    assert market.book_holds()


def test_every_split_says_what_its_claims_have_got_in_all(market, served):
    publish(market)
    first, second = paid(market), paid(market)
    assert (first.fees, second.fees) == (150, 300)
    assert {line.share: (line.weight, line.whole) for line in second.lines} == {
        "service": (1, 5), "model": (7, 20), "datasets": (1, 4), "compute": (1, 10), "foundation": (1, 10),
    }  # fmt: skip
    assert shares(first) == {"service": 30, "model": 53, "datasets": 37, "compute": 15, "foundation": 15}
    assert shares(second) == {"service": 30, "model": 52, "datasets": 38, "compute": 15, "foundation": 15}
    assert {line.share: line.total for line in second.lines} == {
        "service": 60, "model": 105, "datasets": 75, "compute": 30, "foundation": 30,
    }  # fmt: skip


def test_who_gets_nothing_of_a_fee_sees_it_all_the_same(market, served):
    """Or nobody could check that nothing means not yet."""
    publish(market)
    split = paid(market, rows=1)
    assert sorted(line.amount for line in split.lines) == [0, 0, 1, 1, 1]
    assert market.ask(market.owner("hospital"), "credits:split:list").items == [split]


def test_other_claims_begin_another_tally_and_the_same_go_on(market, served):
    publish(market)
    paid(market)
    publish(market, datasets=0, foundation=3500)
    assert paid(market).fees == 150
    publish(market)
    assert paid(market).fees == 300


def test_fees_divided_at_once_are_divided_one_after_the_other(market, served):
    publish(market)
    calls = [market.infer()["parameters"]["call"] for _ in range(24)]
    market.work()
    done = [market.ask(market.operator, "credits:split:list", call=call).items[0] for call in calls]
    again = [replayed_event(split, number) for number, split in enumerate(done)]
    threads = [
        threading.Thread(target=market.kernel.transact, args=(partial(divide, events=again[n::4]),), kwargs=FOR_TEST)
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    splits = market.ask(market.operator, "credits:split:list", limit=200).items
    assert sorted(split.fees for split in splits) == [3 * number for number in range(1, 49)]
    last = max(splits, key=lambda split: split.fees)
    for line in last.lines:
        assert line.total == sum(each.amount for split in splits for each in split.lines if each.share == line.share)
        assert abs(line.total * line.whole - last.fees * line.weight) < line.whole


FOR_TEST = {"reason": "test"}


def replayed_event(split, number):
    """The settlement of one more call like the one of `split`."""
    return CallSettled(
        call=f"call_more{number}", deployment=split.deployment, release=split.release, org=split.payer,
        unit=split.unit, fee=split.fee, rows=1,
    )  # fmt: skip


def divide(ctx, *, events):
    """The fees stand on the clearing account, as after a settlement; then they are divided."""
    for event in events:
        issuer = ledger.account(ctx, "foundation", event.unit, "issued", floor=None)
        clearing = ledger.account(ctx, event.deployment, event.unit, serving.CLEARING)
        lines = (ledger.Line(issuer, -event.fee), ledger.Line(clearing, event.fee))
        ledger.post(ctx, key=f"fee:{event.call}", kind="ledger.grant", subject=event.call, postings=lines)
        service.split_fee(ctx, event)


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
    monkeypatch.setattr(rules, "FOUNDATION_HANDLE", "nobody")
    publish(market)
    event = CallSettled(
        call="call_1", deployment=served.id, release=served.release, org=market.orgs["application"], unit="CNY-fen",
        fee=3, rows=1,
    )  # fmt: skip
    with pytest.raises(Broken, match=r"members\.foundation-missing"):
        market.kernel.transact(lambda ctx: service.split_fee(ctx, event), reason="test")
