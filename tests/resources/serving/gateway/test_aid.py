"""Aid: a named fund pays its share of a call in the same settlement, and stops when it is empty."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gongqi.resources.serving.metering import NANO
from tests.resources.serving.gateway.conftest import UNIT, Gateway

pytestmark = pytest.mark.heavy

DEAR = (20_000_000, 50_000_000)  # a call of 7 + 4 tokens costs 0.34 fen, its bound some 26 fen


def open_fund(gateway: Gateway, name: str, amount: int) -> str:
    fund = gateway.operator.verb("billing:fund:open", name=name, unit=UNIT)["id"]
    if amount:
        gateway.owner.verb("billing:fund:give", fund=fund, org=gateway.org, amount=amount)
    return fund


def aided(gateway: Gateway, model: str, fund: str, percent: int, **more: Any) -> str:
    given = {"org": gateway.org, "fund": fund, "paid_percent": percent, "reason": "a clinic", **more}
    made = gateway.operator.verb("billing:aid:grant", routes=[gateway.routes[model]], **given)["id"]
    gateway.seen()
    return made


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_fund_pays_its_share_and_the_record_says_so(gateway: Gateway) -> None:
    gateway.route("dear", "words=4", price=DEAR)
    before = gateway.balance()
    fund = open_fund(gateway, "clinics", 1_000)
    assert gateway.balance() == before - 1_000
    aided(gateway, "dear", fund, 25)
    record = gateway.settled(gateway.call("dear"))
    cost = 7 * DEAR[0] + 4 * DEAR[1]
    assert (record["cost_nanos"], record["aid_nanos"], record["fund"]) == (cost, cost * 75 // 100, fund)
    with gateway.http() as http:
        told = http.get("/v1/usage", params={"id": record["id"]}).json()["data"][0]
    assert (told["cost"], told["aid"], told["paid"]) == ("0.0034 CNY", "0.00255 CNY", "0.00085 CNY")
    for _ in range(9):
        gateway.settled(gateway.call("dear"))
    shown = gateway.operator.read("billing:fund:get", fund)
    assert shown["balance"] + shown["held"] == 1_000 - cost * 10 * 75 // 100 // NANO == 1_000 - 2


def test_who_pays_nothing_may_call_without_money_until_the_fund_is_empty(gateway: Gateway) -> None:
    """Many at once; when the fund does not reach, an organisation that has nothing is refused, and nobody is overdrawn."""
    poor = gateway.foundation.organisation("poor")
    owner = gateway.foundation.person("poor-owner", poor, "owner")
    key = owner.verb("serving:key:issue", org=poor, label="poor")["secret"]
    name = gateway.scripted("words=400")
    gateway.operator.verb(
        "billing:price:publish", route=gateway.routes[name], unit=UNIT, input_nanos=0, output_nanos=NANO
    )
    fund = open_fund(gateway, "schools", 2_000)
    given = {"org": poor, "fund": fund, "paid_percent": 0, "reason": "a school"}
    gateway.operator.verb("billing:aid:grant", **given)
    gateway.seen()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: gateway.call(name, key=key, max_tokens=400), range(8)))
    statuses = [answer.status_code for answer in answers]
    assert 1 <= statuses.count(200) <= 5, "a call costs 400 of 2,000"
    assert {refusal(each) for each in answers if each.status_code != 200} == {(402, "serving.aid-exhausted")}
    for answer in answers:
        if answer.status_code == 200:
            record = gateway.settled(answer)
            assert record["aid_nanos"] == record["cost_nanos"] == 400 * NANO
    shown = gateway.operator.read("billing:fund:get", fund)
    assert shown["balance"] + shown["held"] == 2_000 - 400 * statuses.count(200)
    assert gateway.balance("available", poor) == gateway.balance("held", poor) == 0


def test_when_the_fund_does_not_reach_the_price_is_the_full_one(gateway: Gateway) -> None:
    gateway.route("rest", "words=4", price=DEAR)
    fund = open_fund(gateway, "empty", 0)
    aided(gateway, "rest", fund, 10)
    record = gateway.settled(gateway.call("rest"))
    assert (record["aid_nanos"], record["fund"]) == (0, None) and record["cost_nanos"] > 0


def test_aid_that_is_ended_aids_no_further_lease(gateway: Gateway) -> None:
    gateway.route("once", "words=4", price=DEAR)
    fund = open_fund(gateway, "short", 500)
    aid = aided(gateway, "once", fund, 50)
    assert gateway.settled(gateway.call("once"))["fund"] == fund
    ended = gateway.operator.verb("billing:aid:end", aid=aid)
    assert ended["ended_at"]
    gateway.seen()
    assert gateway.settled(gateway.call("once"))["fund"] is None
    again = gateway.operator.http.post("/api/v1/billing/aid/end", json={"aid": aid})
    assert (again.status_code, again.json()["code"]) == (409, "billing.aid-ended")


def test_of_two_grants_the_one_that_pays_more_holds_and_only_where_it_was_given(gateway: Gateway) -> None:
    gateway.route("both", "words=4", price=DEAR)
    gateway.route("neither", "words=4", price=DEAR)
    small, large = open_fund(gateway, "small", 500), open_fund(gateway, "large", 500)
    aided(gateway, "both", small, 80)
    aided(gateway, "both", large, 20)
    assert gateway.settled(gateway.call("both"))["fund"] == large
    assert gateway.settled(gateway.call("neither"))["fund"] is None


def test_a_fund_has_its_name_alone_and_takes_only_what_one_has(gateway: Gateway) -> None:
    open_fund(gateway, "unique", 0)
    again = gateway.operator.http.post("/api/v1/billing/fund/open", json={"name": "unique"})
    assert (again.status_code, again.json()["code"]) == (409, "billing.fund-name-taken")
    fund = gateway.operator.read("billing:fund:list")["items"][0]["id"]
    given = {"fund": fund, "org": gateway.org, "amount": 10**12}
    answer = gateway.owner.http.post("/api/v1/billing/fund/give", json=given)
    assert answer.json()["code"] == "ledger.balance-too-low"


def test_the_pages_show_funds_to_all_and_aid_to_who_is_aided(gateway: Gateway) -> None:
    html = {"accept": "text/html"}
    with httpx.Client(base_url=gateway.url, headers=html, trust_env=False) as stranger:
        public = stranger.get("/billing").text
    assert "clinics" in public and "a clinic" not in public
    cookies = {"gongqi_session": gateway.owner.secret}
    with httpx.Client(base_url=gateway.url, headers=html, cookies=cookies, trust_env=False) as owner:
        own = owner.get("/billing").text
        mine = owner.get(f"/members/organisation/{gateway.org}").text
    assert "a clinic" in own and "25%" in own and "a clinic" in mine
    assert "/do/billing/fund/give" in own
    assert "/do/billing/aid/end" not in own and "/do/billing/fund/open" not in own, "that is the foundation's to do"


def test_bought_credit_pays_before_money_unless_the_key_says_money(gateway: Gateway) -> None:
    route = gateway.route("prepaid", "words=4", price=DEAR)
    given = {"name": "prepaid", "unit": UNIT, "price": 50, "credit": 50, "routes": [route]}
    package = gateway.operator.verb("billing:package:publish", **given)["id"]
    bought = gateway.owner.verb("billing:subscription:start", org=gateway.org, package=package)["id"]
    money = gateway.owner.verb("serving:key:issue", org=gateway.org, label="money", spends="money")["secret"]
    gateway.seen()
    record, other = (gateway.settled(gateway.call("prepaid", key=key)) for key in (None, money))
    cost = 7 * DEAR[0] + 4 * DEAR[1]
    assert (record["aid_nanos"], record["fund"]) == (cost, bought)
    assert (other["aid_nanos"], other["fund"]) == (0, None)
