"""The tax table: which category and rate hold for whom, since when, and by which article. Rates are the operator's facts.

A rule is of the country in which the seller is, and may be narrowed to buyers of some countries, to buyers that have a tax
number or have none, and to some models. Of those that fit the narrowest holds: models before countries before numbers. Where
two that differ are as narrow, or none fits, there is no invoice, rather than a guess. A foundation whose country has no rule
in force is not liable, as far as is known here.

A rule is not changed: it is ended, and another one published. Which one holds is asked for the last moment of the month that
is invoiced, when a supply of a period is taken to be made (Directive 2006/112/EC, Article 64); of a package for the moment
at which it was sold. That is a rule of ours: see decision 0044 for the law that may say otherwise.

A package for some models has the tax of these, where it is the same for all of them; any other has the tax that the rules
say which are not narrowed to models.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints
from sqlalchemy import Select, func, select

from gongqi.economy.billing import vat
from gongqi.economy.billing.addresses import PRINTABLE
from gongqi.economy.billing.aid import MAX_ROUTES, RouteId
from gongqi.economy.billing.models import BillingAddress, TaxRule
from gongqi.economy.billing.prices import ID
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.serving import service as serving

MAX_RULES = 1000  # of one country: all in force are read for an invoice
MAX_COUNTRIES = 250  # there are as many
COUNTRY = "^[A-Z]{2}$"

Category = Literal["S", "Z", "E", "AE", "O", "K", "G"]
Country = Annotated[str, StringConstraints(pattern=COUNTRY)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300, pattern=PRINTABLE)]


class PublishTax(Input):
    """`category` of UNTDID 5305: S standard, Z zero, E exempt, AE reverse charge, O outside the scope, K within the union, G
    export. `rate_bp` in hundredths of a percent. None of the three that narrow it: it holds for all."""

    jurisdiction: Country
    category: Category
    rate_bp: int = Field(ge=0, le=vat.WHOLE_BP)
    buyer_countries: list[Country] | None = Field(None, min_length=1, max_length=MAX_COUNTRIES)
    buyer_registered: bool | None = None
    routes: list[RouteId] | None = Field(None, min_length=1, max_length=MAX_ROUTES)
    article: Sentence
    authority: Literal["statute", "guideline", "interpretation"] = "statute"
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class EndTax(Input):
    tax: str = Field(max_length=ID)


class ListTaxes(Paged):
    jurisdiction: str | None = Field(None, pattern=COUNTRY)


class TaxOut(Output):
    id: str
    jurisdiction: str
    category: str
    rate_bp: int
    buyer_countries: list[str] | None
    buyer_registered: bool | None
    routes: list[str] | None
    article: str
    authority: str
    since: datetime
    until: datetime | None
    evidence: str


@verb("billing:tax:publish", evidence="billing.tax-published")
def publish_tax(ctx: Write, input: PublishTax) -> TaxOut:
    """Raises Refused: billing.tax-rate-unfit, billing.tax-span, billing.tax-overlaps, billing.taxes-too-many."""
    ctx.require("billing:tax:publish")
    if (input.category == vat.STANDARD) != (input.rate_bp > 0):
        raise Refused("billing.tax-rate-unfit", category=input.category)
    since = input.since or ctx.now
    if input.until is not None and input.until <= since:
        raise Refused("billing.tax-span")
    for route in input.routes or ():
        serving.route_facts(ctx, route)
    counted = select(func.count()).where(TaxRule.jurisdiction == input.jurisdiction)
    if (ctx.session.scalar(counted) or 0) >= MAX_RULES:
        raise Refused("billing.taxes-too-many", limit=MAX_RULES)
    given: dict[str, Any] = input.model_dump() | {"since": since}
    for name in ("buyer_countries", "routes"):
        given[name] = sorted(set(given[name])) if given[name] else None
    row = TaxRule(id=ctx.new_id("tax"), **given)
    for other in ctx.session.scalars(_of(input.jurisdiction)):
        begins_before = input.until is None or other.since < input.until
        ends_after = other.until is None or other.until > max(
            since, other.since
        )  # one ended before it began never held
        if _scope(other) == _scope(row) and begins_before and ends_after:
            raise Refused("billing.tax-overlaps", tax=other.id)
    told = (
        "jurisdiction",
        "category",
        "rate_bp",
        "buyer_countries",
        "buyer_registered",
        "routes",
        "article",
        "authority",
    )
    row.evidence = ctx.record(
        row.id, **{name: given[name] for name in told}, since=since.isoformat(),
        until=input.until.isoformat() if input.until else None,
    )  # fmt: skip
    return TaxOut.model_validate(ctx.add(row))


@verb("billing:tax:end", evidence="billing.tax-ended")
def end_tax(ctx: Write, input: EndTax) -> TaxOut:
    """It holds no longer; months that were over while it held are still invoiced by it. Raises Refused billing.tax-over."""
    row = ctx.find(TaxRule, input.tax, to="billing:tax:end")
    if row.until is not None and row.until <= ctx.now:
        raise Refused("billing.tax-over", tax=row.id)
    row.until = until = max(row.since, ctx.now)
    ctx.session.flush()
    ctx.record(row.id, until=until.isoformat())
    return TaxOut.model_validate(row)


@read("billing:tax:list")
def list_taxes(ctx: Read, input: ListTaxes) -> Page[TaxOut]:
    query = ctx.visible(TaxRule, to="billing:tax:read")
    if input.jurisdiction:
        query = query.where(TaxRule.jurisdiction == input.jurisdiction)
    return ctx.page(query, TaxRule.id, input, to=TaxOut)


def rules_of(ctx: Read, seller: BillingAddress) -> list[TaxRule]:
    """Of the seller's country, at any time. For rooms that have authorised already."""
    return list(ctx.session.scalars(_of(seller.country)))


def in_force(rules: list[TaxRule], at: datetime) -> list[TaxRule]:
    return [each for each in rules if each.since <= at and (each.until is None or each.until > at)]


def chosen(rules: list[TaxRule], buyer: BillingAddress, routes: Sequence[str] | None, item: str) -> TaxRule:
    """The narrowest that fits calls of these models: where it is not the same for each of them, or `routes` is None, the
    narrowest for all models. Raises Refused: billing.tax-unknown, billing.tax-ambiguous."""
    found = [_narrowest(rules, buyer, route, item) for route in routes or ()]
    if len({_kind(each) for each in found}) == 1:
        return min(found, key=lambda each: each.id)
    return _narrowest(rules, buyer, None, item)


def _narrowest(rules: list[TaxRule], buyer: BillingAddress, route: str | None, item: str) -> TaxRule:
    fitting = [
        each
        for each in rules
        if (each.routes is None or route in each.routes)
        and (each.buyer_countries is None or buyer.country in each.buyer_countries)
        and (each.buyer_registered is None or each.buyer_registered == (buyer.vat_id is not None))
    ]
    if not fitting:
        raise Refused("billing.tax-unknown", item=item, country=buyer.country)
    narrowest = max(map(_narrowness, fitting))
    best = [each for each in fitting if _narrowness(each) == narrowest]
    if len({_kind(each) for each in best}) > 1:
        raise Refused("billing.tax-ambiguous", item=item, taxes=", ".join(sorted(each.id for each in best)))
    return min(best, key=lambda each: each.id)


def _of(jurisdiction: str) -> Select[TaxRule]:
    return select(TaxRule).where(TaxRule.jurisdiction == jurisdiction).order_by(TaxRule.id)


def _scope(rule: TaxRule) -> tuple[object, ...]:
    return rule.buyer_countries, rule.buyer_registered, rule.routes


def _kind(rule: TaxRule) -> vat.Kind:
    return rule.category, rule.rate_bp


def _narrowness(rule: TaxRule) -> tuple[bool, ...]:
    return rule.routes is not None, rule.buyer_countries is not None, rule.buyer_registered is not None
