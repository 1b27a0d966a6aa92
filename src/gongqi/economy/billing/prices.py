"""Prices of models: published, versioned, never changed.

A price is in nanos a token: 10⁻⁹ of a booked unit, so that ¥0.0003 a thousand tokens (0.00003 fen a token) is 30,000 and
no price that anybody quotes needs a fraction. Publishing hands the new version down to serving; calls admitted from
then on are made under it, those under way keep theirs. Each usage record names the version and repeats its numbers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import func, select

from gongqi.economy.billing.models import Price
from gongqi.kernel.errors import Refused
from gongqi.kernel.money import unit_named
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.serving import service as serving

ID = 64
MAX_TIERS = 10  # there are four beside the general one


class Rates(Input):
    """Nanos a token: thousandths of a booked unit a million tokens. `cached_nanos` None: cached input costs as input."""

    input_nanos: int = Field(ge=0, le=serving.MAX_NANOS)
    cached_nanos: int | None = Field(None, ge=0, le=serving.MAX_NANOS)
    output_nanos: int = Field(ge=0, le=serving.MAX_NANOS)

    def whole(self) -> dict[str, Any]:
        cached = self.input_nanos if self.cached_nanos is None else self.cached_nanos
        return {"input_nanos": self.input_nanos, "cached_nanos": cached, "output_nanos": self.output_nanos}


class TierRates(Rates):
    """What organisations of this tier pay in place of the general price."""

    tier: members.Tier


class PublishPrice(Rates):
    """The general price in `unit`, and those of the tiers that have their own."""

    route: str = Field(max_length=ID)
    unit: str = Field("CNY-fen", max_length=40)
    tiers: list[TierRates] = Field([], max_length=MAX_TIERS)


class ListPrices(Paged):
    route: str | None = Field(None, max_length=ID)


class OnePrice(Input):
    price: str = Field(max_length=ID)


class PriceOut(Output):
    """`number` counts the versions of a route's price."""

    id: str
    route: str
    number: int
    unit: str
    input_nanos: int
    cached_nanos: int
    output_nanos: int
    tiers: dict[str, serving.RatesOut]
    evidence: str
    published_at: datetime


@verb("billing:price:publish", evidence="billing.price-published")
def publish_price(ctx: Write, input: PublishPrice) -> PriceOut:
    ctx.require("billing:price:publish")
    route = serving.route_facts(ctx, input.route)
    if route.state != "ready":
        raise Refused("serving.route-retired", name=route.name)
    unit = unit_named(input.unit)
    tiers = {each.tier: each.whole() for each in input.tiers}
    if len(tiers) < len(input.tiers) or serving.GENERAL in tiers:
        raise Refused("billing.tier-twice")
    last = ctx.session.scalar(select(func.max(Price.number)).where(Price.route == route.id))
    price = Price(
        id=ctx.new_id("price"), route=route.id, number=(last or 0) + 1, unit=unit.code, **input.whole(), tiers=tiers,
        published_at=ctx.now,
    )  # fmt: skip
    price.evidence = ctx.record(
        price.id, route=route.id, number=price.number, unit=price.unit, **input.whole(), tiers=tiers
    )
    ctx.add(price)
    ctx.session.flush()
    tariff = serving.Tariff(
        price.id, price.number, price.unit, price.input_nanos, price.cached_nanos, price.output_nanos
    )
    serving.set_tariff(ctx, route.id, tariff, tiers)
    return PriceOut.model_validate(price)


@read("billing:price:list")
def list_prices(ctx: Read, input: ListPrices) -> Page[PriceOut]:
    return ctx.listed(Price, PriceOut, input, to="billing:price:read")


@read("billing:price:get")
def get_price(ctx: Read, input: OnePrice) -> PriceOut:
    return PriceOut.model_validate(ctx.find(Price, input.price, to="billing:price:read"))
