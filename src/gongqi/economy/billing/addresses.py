"""Under which name and where an organisation is billed, and under which numbers tax offices and registers know it.

What an invoice says of its parties is what they have set here. A tax number is checked by its form and check digits, where
its country publishes these; whether it was given out is not asked of anybody. A country is one of ISO 3166-1.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints
from stdnum import get_cc_module

from gongqi.economy.billing.countries import COUNTRIES
from gongqi.economy.billing.models import BillingAddress
from gongqi.economy.billing.prices import ID
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Read, Write, read, verb
from gongqi.members import service as members

PREFIXES = {"GR": ("EL",), "GB": ("GB", "XI")}  # of tax numbers, where not the country's own letters

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]*$"  # what an invoice says for ever must go into XML

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120, pattern=PRINTABLE)]


class SetAddress(Input):
    """`country`: two letters of ISO 3166-1, such as CN. `vat_id`: the tax number with its country before it, such as
    DE136695976; in China CN and the 统一社会信用代码. `registration`: in the register of companies."""

    org: str = Field(max_length=ID)
    name: Text
    street: Text
    city: Text
    postcode: Text
    country: str = Field(pattern="^[A-Z]{2}$")
    vat_id: str | None = Field(None, pattern="^[A-Z]{2}[0-9A-Z]{2,18}$")
    registration: str | None = Field(None, pattern="^[0-9A-Za-z][0-9A-Za-z ./-]{1,39}$")


class OneAddress(Input):
    org: str = Field(max_length=ID)


class AddressOut(Output):
    org: str
    name: str
    street: str
    city: str
    postcode: str
    country: str
    vat_id: str | None
    registration: str | None
    version: int


@verb("billing:address:set", evidence="billing.address-set")
def set_address(ctx: Write, input: SetAddress) -> AddressOut:
    """Say under which name and where an organisation is billed. Raises Refused: billing.country-unknown,
    billing.vat-id-invalid, billing.registration-invalid."""
    ctx.require("billing:address:set", input.org)
    members.require_organisation(ctx, input.org)
    if input.country not in COUNTRIES:
        raise Refused("billing.country-unknown", country=input.country)
    _check_numbers(input)
    given = input.model_dump()
    row = ctx.session.get(BillingAddress, input.org)
    if row is None:
        row = ctx.add(BillingAddress(**given))
    else:
        for name, value in given.items():
            setattr(row, name, value)
    ctx.session.flush()
    ctx.record(row.org, private=given)
    return AddressOut.model_validate(row)


@read("billing:address:get")
def get_address(ctx: Read, input: OneAddress) -> AddressOut:
    return AddressOut.model_validate(ctx.find(BillingAddress, input.org, to="billing:address:read"))


def address_of(ctx: Read, org: str) -> BillingAddress:
    """For who may see an invoice: both parties are on it. Raises Refused billing.address-missing."""
    row = ctx.session.get(BillingAddress, org)
    if row is None:
        raise Refused("billing.address-missing", org=org)
    return row


def _check_numbers(given: SetAddress) -> None:
    if given.vat_id is not None:
        form = get_cc_module(given.country.lower(), "vat")
        number = given.vat_id[2:]
        if given.vat_id[:2] not in PREFIXES.get(given.country, (given.country,)) or (
            form is not None and not (form.is_valid(number) or form.is_valid(given.vat_id))
        ):
            raise Refused("billing.vat-id-invalid", vat_id=given.vat_id, country=given.country)
    if given.registration is not None and given.country == "CN":
        form = get_cc_module("cn", "uscc")
        if form is not None and not form.is_valid(given.registration):
            raise Refused("billing.registration-invalid", registration=given.registration)
