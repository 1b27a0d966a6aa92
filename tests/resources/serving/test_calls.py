"""Calls: answered, charged once, never above a budget; and every reservation ends."""

from __future__ import annotations

import threading
from hashlib import sha256

import pytest

from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.verify import check_proof
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.serving import calls
from gongqi.resources.serving.engine import Engine


@pytest.fixture
def deployment(market):
    made = market.served()
    market.fund(1000)
    market.budget(made, 1000)
    return made


def refusal(market, rows=((1.0, 2.0),), **more):
    with pytest.raises(Refused) as caught:
        market.infer(rows, **more)
    return caught.value.code


def test_a_call_is_answered_and_charged_by_the_row(market, deployment):
    answer = market.infer([(1.0, 2.0), (0.25, 0.5)], id="mine")
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["label"] == {"name": "label", "shape": [2], "datatype": "INT64", "data": [1, 0]}
    assert outputs["score"]["data"] == [3.0, 0.75]
    assert answer["id"] == "mine" and answer["model_name"] == "diagnosis" and answer["model_version"] == "1.0.0"
    assert answer["parameters"]["fee"] == 6 and answer["parameters"]["unit"] == "CNY-fen"
    assert market.balance("application") == 994
    assert market.balance(deployment.id, "clearing") == 6
    assert market.book_holds()


def test_the_log_says_that_a_call_was_settled_and_neither_whose_nor_how_large(market, deployment):
    call = market.infer([(1.0, 2.0)])["parameters"]["call"]
    [entry] = market.evidence("serving.call-settled")
    assert (entry.subject, entry.actor, entry.request_id) == (call, "withheld", None)
    assert entry.facts == {"deployment": deployment.id, "release": deployment.release, "price_version": 1}


def test_a_receipt_says_who_paid_for_what_and_has_the_digest_that_the_log_holds(market, deployment):
    call = market.infer([(1.0, 2.0)])["parameters"]["call"]
    asked = market.ask(market.owner("application"), "serving:call:get", call=call)
    receipt = market.ask(market.owner("application"), "serving:call:receipt", call=call)
    assert receipt.facts == {
        "actor": "per_application", "request_id": "", "org": market.orgs["application"], "rows": 1, "fee": 3,
        "unit": "CNY-fen", "request_sha256": asked.request_sha256, "result_sha256": asked.result_sha256,
    }  # fmt: skip
    market.work()
    proof = market.ask(ANONYMOUS, "evidence:entry:proof", entry=receipt.id)
    assert check_proof(proof.model_dump(), market.kernel.part(SigningKeys).public).reached
    assert sha256(receipt.sealed.encode()).hexdigest() == proof.entry["private_digest"] and receipt.holds
    assert not receipt.model_copy(update={"sealed": receipt.sealed.replace('"fee":3', '"fee":2')}).holds


def test_a_receipt_is_for_those_who_see_the_call(market, deployment):
    call = market.infer()["parameters"]["call"]
    for actor in (ANONYMOUS, market.owner("hospital"), market.owner("foundation")):
        with pytest.raises(Refused, match=r"access\.not-found"):
            market.ask(actor, "serving:call:receipt", call=call)
    assert market.ask(market.operator, "serving:call:receipt", call=call).holds


def test_an_unsettled_call_has_no_receipt(market, deployment, monkeypatch):
    def fail(*_given):
        raise Unavailable("serving.run-failed", retry_after_seconds=1)

    monkeypatch.setattr(Engine, "run", fail)
    with pytest.raises(Unavailable):
        market.infer()
    [call] = market.calls()
    with pytest.raises(Refused, match=r"serving\.call-not-settled"):
        market.ask(market.operator, "serving:call:receipt", call=call.id)


def test_outputs_can_be_chosen(market, deployment):
    assert [o["name"] for o in market.infer(outputs=[{"name": "score"}])["outputs"]] == ["score"]


def test_the_same_key_and_body_is_one_call_and_one_charge(market, deployment):
    first = market.infer(key="once")
    assert market.infer(key="once") == first
    assert market.balance("application") == 997
    assert len(market.calls()) == 1


def test_the_same_key_with_another_body_is_refused(market, deployment):
    market.infer(key="once")
    assert refusal(market, ((9.0, 9.0),), key="once") == "kernel.idempotency-key-reused"
    assert market.balance("application") == 997


def test_a_retry_after_an_upgrade_is_answered_by_the_release_that_was_paid_for(market, sim, deployment):
    first = market.infer(key="once")
    better = market.bring("laboratory", "model.onnx", sim.onnx_model(10.0), "parameters")
    revision = market.revision("laboratory", market.model_asset, [better], [(market.data[1], "trained-on")])
    second = market.release("laboratory", market.model_asset, revision, "2.0.0")
    market.do(market.operator, "serving:deployment:upgrade", deployment=deployment.id, release=second)
    assert market.infer(key="once") == first
    answer = market.infer(key="twice")
    assert answer["model_version"] == "2.0.0" and answer["outputs"][1]["data"] == [13.0]


def test_no_budget_a_budget_of_zero_and_one_that_is_spent_are_told_apart(market):
    deployment = market.served()
    market.fund(1000)
    assert refusal(market) == "serving.budget-missing"
    market.budget(deployment, 0)
    assert refusal(market) == "serving.budget-zero"
    market.budget(deployment, 4)
    market.infer()
    assert refusal(market) == "serving.budget-exceeded"
    assert market.balance("application") == 997 and len(market.calls()) == 1


def test_without_funds_nothing_runs(market):
    market.budget(market.served(), 1000)
    assert refusal(market) == "ledger.balance-too-low"
    assert market.calls() == []


def test_a_budget_holds_under_concurrent_calls(market, deployment):
    market.budget(deployment, 30)
    answers: list[int] = []

    def call() -> None:
        try:
            answers.append(market.infer()["parameters"]["fee"])
        except Refused:
            answers.append(0)

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answers) == 30
    assert market.balance("application") == 970 and market.book_holds()


def test_one_key_in_many_hands_is_one_call_and_one_charge(market, deployment):
    together = threading.Barrier(8)
    fees = []

    def call():
        together.wait(10)
        fees.append(market.infer([(1.0, 2.0)], key="one")["parameters"]["fee"])

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(fees), len(market.calls())) == (8, 1)
    assert market.balance("application") == 1000 - fees[0]
    assert market.balance(deployment.id, "clearing") == fees[0]
    assert market.book_holds()


def test_two_deployments_do_not_spend_the_same_funds(market, deployment):
    """The budgets allow far more than there is: the ledger's floor is what holds."""
    other = market.deploy(deployment.release, name="second")
    market.budget(other, 1000)
    market.do(market.operator, "ledger:credit:grant", owner=market.orgs["hospital"], unit="CNY-fen", amount=10)
    for each in (deployment, other):
        market.budget(each, 1000, role="hospital")
    answered, refusals = [], []

    def call(name):
        try:
            answered.append(market.infer([(1.0, 2.0)], name=name, role="hospital"))
        except Refused as refusal:
            refusals.append(refusal.code)

    threads = [threading.Thread(target=call, args=(name,)) for name in ("diagnosis", "second") * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(answered), set(refusals)) == (3, {"ledger.balance-too-low"})
    assert market.balance("hospital") == 10 - 3 * 3
    assert market.book_holds()


def test_a_stranger_and_a_member_without_the_right_cannot_call(market, deployment):
    for grants in (("hub:*",), ("serving:deployment:read",)):
        assert refusal(market, actor=market.owner("application", *grants)) == "access.forbidden"
    assert market.calls() == []


def test_nobody_calls_at_the_expense_of_another_organisation(market, deployment):
    assert refusal(market, role="laboratory", parameters={"org": market.orgs["application"]}) == "access.forbidden"


def test_who_may_call_for_two_organisations_must_say_which(market, deployment):
    from gongqi.kernel.access import Actor

    grants = {market.orgs[role]: frozenset({"*"}) for role in ("application", "laboratory")}
    both = Actor("per_both", "person", "Both", grants=grants, orgs=frozenset(grants))
    assert refusal(market, actor=both) == "serving.org-needed"
    market.infer(actor=both, parameters={"org": market.orgs["application"]})
    assert [call.org for call in market.calls()] == [market.orgs["application"]]


def test_unknown_retired_and_other_versions_are_refused(market, deployment):
    assert refusal(market, name="nothing") == "serving.model-unknown"
    assert refusal(market, version="9.9.9") == "serving.version-unknown"
    market.infer(version="1.0.0")
    market.do(market.operator, "serving:deployment:retire", deployment=deployment.id)
    assert refusal(market) == "serving.deployment-retired"


def test_a_model_that_fails_charges_nothing_and_the_retry_pays(market, deployment, monkeypatch):
    run = Engine.run

    def fails(self, *_given):
        raise Unavailable("serving.run-failed")

    monkeypatch.setattr(Engine, "run", fails)
    with pytest.raises(Unavailable):
        market.infer(key="k")
    assert market.calls()[0].state == "failed" and market.balance("application") == 1000
    monkeypatch.setattr(Engine, "run", run)
    market.infer(key="k")
    assert market.calls()[0].state == "settled" and market.balance("application") == 997
    assert market.book_holds()


class Died(BaseException):
    """What a killed process looks like from within a test: nothing after it runs."""


def die(*_given):
    raise Died


def cut_short(market, monkeypatch, key="k"):
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "run", die)
        with pytest.raises(Died):
            market.infer(key=key)


def test_a_call_cut_between_reservation_and_settlement_is_given_back(market, deployment, clock, monkeypatch):
    cut_short(market, monkeypatch)
    market.work(sweep=True)
    assert market.calls()[0].state == "reserved" and market.balance("application") == 997
    clock.advance(seconds=calls.HOLD_SECONDS)
    market.work(sweep=True)
    assert market.calls()[0].state == "released" and market.balance("application") == 1000
    assert market.book_holds()


@pytest.mark.parametrize("seconds", [0, 61, 600])
@pytest.mark.parametrize("swept", [False, True])
def test_the_retry_of_a_cut_call_pays_once_whenever_it_comes(market, deployment, clock, monkeypatch, seconds, swept):
    cut_short(market, monkeypatch)
    clock.advance(seconds=seconds)
    if swept:
        market.work(sweep=True)
    market.infer(key="k")
    market.work()
    assert [call.state for call in market.calls()] == ["settled"]
    assert market.balance("application") == 997 and market.balance("application", "held") == 0
    assert market.book_holds()


def test_a_reservation_counts_against_the_budget(market, deployment, monkeypatch):
    market.budget(deployment, 5)
    cut_short(market, monkeypatch)
    assert refusal(market) == "serving.budget-exceeded"


def test_two_tenants_do_not_see_each_others_calls_or_budgets(market, deployment):
    market.infer()
    other = market.owner("laboratory")
    assert market.ask(other, "serving:call:list").items == []
    assert market.ask(other, "serving:budget:list").items == []
    assert len(market.ask(market.owner("application"), "serving:call:list").items) == 1
    with pytest.raises(Refused, match=r"access\.not-found"):
        market.ask(other, "serving:call:get", call=market.calls()[0].id)


def test_a_later_price_does_not_touch_earlier_calls(market, deployment):
    market.infer(key="old")
    market.do(market.operator, "serving:deployment:reprice", deployment=deployment.id, price_per_row=5)
    assert market.infer(key="old")["parameters"]["fee"] == 3
    answer = market.infer()["parameters"]
    assert (answer["fee"], answer["price_version"]) == (5, 2)
