"""The statement of a month as one gets it: over HTTP as JSON and CSV, and as a page in both languages."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import httpx
import pytest

from gongqi.resources.serving.metering import NANO
from tests.resources.serving.gateway.conftest import UNIT, Gateway

DEAR = (100_000_000, 200_000_000)  # a call of 7 + 4 tokens costs 1.5 fen


def this_month() -> str:
    return f"{datetime.now(UTC):%Y-%m}"


def test_a_statement_shows_calls_and_money_in_every_form(gateway: Gateway) -> None:
    route = gateway.route("dear", "words=4", price=DEAR)
    for _ in range(3):
        gateway.settled(gateway.call("dear"))
    said = {"month": this_month(), "unit": UNIT}
    told = gateway.owner.http.get(f"/api/v1/billing/statement/{gateway.org}", params=said).json()
    (line,) = told["models"]
    assert (line["route"], line["model"], line["calls"], line["input_tokens"], line["output_tokens"]) == (
        route, "dear", 3, 21, 12,
    )  # fmt: skip
    assert (line["full_nanos"], line["charged"], line["carried_out_nanos"]) == (4_500_000_000, 4, NANO // 2)
    assert (told["opening"], told["credits"], told["charges"], told["closing"]) == (0, 100_000, 4, 99_996)
    files = f"/api/v1/billing/statement/{gateway.org}/{this_month()}"
    file = gateway.owner.http.get(f"{files}/statement.csv")
    assert file.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert rows[-1]["row"] == "closing" and rows[-1]["amount"] == "99996"
    early = gateway.owner.http.get(f"{files}/invoice.xml")
    assert (early.status_code, early.json()["code"]) == (409, "billing.month-not-over")


@pytest.mark.parametrize(
    ("language", "words"), [("zh", ("账单", "期初余额", "全价")), ("en", ("Statement", "Opening", "Full"))]
)
def test_the_page_of_a_statement_can_be_read_in_both_languages(
    gateway: Gateway, language: str, words: tuple[str, ...]
) -> None:
    headers = {"accept": "text/html", "accept-language": language}
    cookies = {"gongqi_session": gateway.owner.secret}
    with httpx.Client(base_url=gateway.url, headers=headers, cookies=cookies, trust_env=False) as owner:
        page = owner.get(f"/billing/statement/{gateway.org}/{this_month()}").text
        listed = owner.get("/billing").text
    assert all(word in page for word in words) and "0.045 CNY" in page and "999.96" in page
    assert f"/billing/statement/{gateway.org}/{this_month()}" in listed


def test_what_is_no_month_is_refused_with_how_to_write_one(gateway: Gateway) -> None:
    base = f"/api/v1/billing/statement/{gateway.org}"
    answer = gateway.owner.http.get(f"{base}/2026-13/statement.csv")
    assert (answer.status_code, answer.json()["code"]) == (422, "billing.month-unreadable")
    assert gateway.owner.http.get(f"{base}/{this_month()}/other.pdf").status_code == 404
    cookies = {"gongqi_session": gateway.owner.secret}
    with httpx.Client(base_url=gateway.url, headers={"accept": "text/html"}, cookies=cookies, trust_env=False) as owner:
        for path in ("2026-13", f"{this_month()}?unit={'x' * 60}", f"{this_month()}?unit=shells"):
            assert owner.get(f"/billing/statement/{gateway.org}/{path}").status_code == 422


def test_the_page_of_an_agent_does_not_offer_statements_that_only_organisations_have(gateway: Gateway) -> None:
    given = {"handle": "clerk", "name": "Clerk", "org": gateway.org, "role": "member"}
    agent = gateway.owner.verb("members:agent:create", **given)["id"]
    operator = gateway.foundation.sign_in(
        gateway.operator.read("members:me:show")["id"]
    )  # whose rights reach everywhere
    with httpx.Client(base_url=gateway.url, cookies={"gongqi_session": operator.secret}, trust_env=False) as reader:
        own, agents = reader.get(f"/members/organisation/{gateway.org}"), reader.get(f"/members/agent/{agent}")
    assert (own.status_code, agents.status_code) == (200, 200)
    assert f"/billing/statement/{gateway.org}" in own.text and "/billing/statement/" not in agents.text
