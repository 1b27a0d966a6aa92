"""Prices by tier of membership: chosen in the snapshot, named by the record and by the list of models."""

from __future__ import annotations

from gongqi.resources.serving import settlement
from gongqi.resources.serving.models import Usage
from tests.resources.serving.gateway.conftest import INPUT_NANOS, OUTPUT_NANOS, UNIT, Gateway

GOLD = {"tier": "gold", "input_nanos": 10_000, "output_nanos": 20_000}
FREE = {"tier": "associate", "input_nanos": 0, "output_nanos": 0}


def price(gateway: Gateway, route: str, *tiers: dict) -> dict:
    rates = {"input_nanos": INPUT_NANOS, "output_nanos": OUTPUT_NANOS}
    return gateway.operator.verb("billing:price:publish", route=route, unit=UNIT, tiers=list(tiers), **rates)


def put_in(gateway: Gateway, tier: str) -> None:
    """The tier, and a new version of the snapshot, which would otherwise be read anew within ten seconds."""
    gateway.operator.verb("members:tier:set", org=gateway.org, tier=tier, reason="a test")
    gateway.issue()


def test_a_call_is_charged_by_the_price_of_its_callers_tier_and_says_so(gateway: Gateway) -> None:
    route = gateway.route("tiered", "words=4", price=None)
    made = price(gateway, route, GOLD)
    gateway.seen()
    first = gateway.settled(gateway.call("tiered"))
    assert (first["tier"], first["cost_nanos"]) == ("general", 7 * INPUT_NANOS + 4 * OUTPUT_NANOS)
    put_in(gateway, "gold")
    second = gateway.settled(gateway.call("tiered"))
    assert (second["tier"], second["price"], second["price_version"]) == ("gold", made["id"], 1)
    assert second["cost_nanos"] == 7 * 10_000 + 4 * 20_000
    with gateway.http() as http:
        listed = http.get("/v1/models/tiered").json()["gongqi"]["price"]
        told = http.get("/v1/usage", params={"id": second["id"]}).json()["data"][0]
    assert (listed["tier"], listed["input_per_million_tokens"]) == ("gold", "0.10 CNY")
    assert (told["tier"], told["input_nanos"]) == ("gold", 10_000)


def test_where_a_tier_has_no_price_of_its_own_it_pays_the_general_one(gateway: Gateway) -> None:
    gateway.route("plain", "words=2")
    record = gateway.settled(gateway.call("plain"))
    assert (record["tier"], record["input_nanos"]) == ("general", INPUT_NANOS)
    with gateway.http() as http:
        assert {each["id"] for each in http.get("/v1/models").json()["data"]} >= {"tiered", "plain"}


def test_a_tier_may_pay_nothing_and_the_next_version_ends_that(gateway: Gateway) -> None:
    route = gateway.route("given", "words=2", price=None)
    price(gateway, route, GOLD, FREE)
    put_in(gateway, "associate")
    assert gateway.settled(gateway.call("given"))["cost_nanos"] == 0
    price(gateway, route, GOLD)
    gateway.seen()
    record = gateway.settled(gateway.call("given"))
    assert (record["tier"], record["price_version"]) == ("general", 2)


def test_a_price_names_each_tier_once(gateway: Gateway) -> None:
    route = gateway.routes["tiered"]
    for tiers in ([GOLD, GOLD], [GOLD | {"tier": "general"}]):
        rates = {"route": route, "input_nanos": 1, "output_nanos": 1, "tiers": tiers}
        answer = gateway.operator.http.post("/api/v1/billing/price/publish", json=rates)
        assert (answer.status_code, answer.json()["code"]) == (422, "billing.tier-twice")


def test_a_record_that_was_written_before_a_revision_says_what_held_then() -> None:
    columns = [column.name for column in Usage.__table__.columns]
    old = list(range(columns.index("tier")))
    assert settlement._completed(old) == [*old, "general", None, 0]
    assert settlement._completed([*old, "gold"]) == [*old, "gold", None, 0]
    assert settlement._completed([*old, "gold", "gen_1"]) == [*old, "gold", "gen_1", 0]
    assert len(settlement._completed(old[:-1])) < settlement.RECORD_FIELDS
