"""The tables of billing: price lists, written once; funds, and the aid that they pay, with its history; packages
of credit, and who has bought them; addresses; the tax table; invoices, written once.

No personal data but what the name and address of a party that is one person may be, which the law wants on an invoice; kept
for ever, as books are.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base, Json

COMMERCIAL, CREDIT_NOTE = "380", "381"  # an invoice and what corrects it, of UNTDID 1001
UNCREDITED = text("returned > 0 AND invoice IS NOT NULL AND credit_note IS NULL")  # packages that a note is owed of


class Price(Base):
    """Version `number` of what a model's tokens cost. A new version takes the place of the last; none is ever changed.

    `tiers`: {tier: {input_nanos, cached_nanos, output_nanos}} for those that pay another price than the general one.
    """

    __tablename__ = "price"
    __table_args__ = (UniqueConstraint("route", "number"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str]
    number: Mapped[int]
    unit: Mapped[str]
    input_nanos: Mapped[int]
    cached_nanos: Mapped[int]
    output_nanos: Mapped[int]
    tiers: Mapped[dict[str, Any]]
    evidence: Mapped[str]
    published_at: Mapped[datetime]


class AidFund(Base):
    """Money for aid, under a name: the ledger's account of owner `id`."""

    __tablename__ = "aid_fund"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    unit: Mapped[str]
    evidence: Mapped[str]
    opened_at: Mapped[datetime]


class AidGrant(Base):
    """Aid to an organisation: it pays `paid_percent`, the fund the rest, for `routes` (None: all in the fund's unit).

    What holds now is handed down to serving (`model_aid`); this is what was decided. `reason` is an operator's sentence,
    sealed in the log.
    """

    __tablename__ = "aid_grant"
    __table_args__ = (Index(None, "org", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    fund: Mapped[str] = mapped_column(ForeignKey("aid_fund.id"))
    unit: Mapped[str]
    paid_percent: Mapped[int]
    routes: Mapped[list[Any] | None] = mapped_column(Json)
    reason: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Package(Base):
    """Credit for calls at a price, as it is offered: `credit` for `price`, both booked units, to be used within `days`;
    `fund` pays the difference. `state`: offered, withdrawn. What was published does not change."""

    __tablename__ = "package"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    unit: Mapped[str]
    price: Mapped[int]
    credit: Mapped[int]
    days: Mapped[int]
    fund: Mapped[str | None] = mapped_column(ForeignKey("aid_fund.id"))
    routes: Mapped[list[Any] | None] = mapped_column(Json)
    state: Mapped[str]
    evidence: Mapped[str]
    published_at: Mapped[datetime]


class Subscription(Base):
    """A package that an organisation has bought: the ledger's account of owner `id` holds what is left of it.

    `state`: running, ending (calls under way still hold a part), ended (what was left has gone back: `returned` of it to the
    organisation). `invoice` has its sale, `credit_note` what came back of it; both come later.
    """

    __tablename__ = "subscription"
    __table_args__ = (
        Index(None, "org", "id"),
        Index(None, "state", "until"),
        Index("ix_subscription_uncredited", "id", sqlite_where=UNCREDITED, postgresql_where=UNCREDITED),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    package: Mapped[str] = mapped_column(ForeignKey("package.id"))
    unit: Mapped[str]
    price: Mapped[int]
    credit: Mapped[int]
    fund: Mapped[str | None]
    renews: Mapped[bool]
    state: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    returned: Mapped[int | None]
    invoice: Mapped[str | None]
    credit_note: Mapped[str | None]


class BillingAddress(Base):
    """Under which name and where an organisation is billed; the foundation's own is the seller's. `country`: ISO 3166-1.

    `vat_id`: its tax number, with the country's two letters before it; `registration`: by which it is registered, such as
    the 统一社会信用代码.
    """

    __tablename__ = "billing_address"
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    org: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    street: Mapped[str]
    city: Mapped[str]
    postcode: Mapped[str]
    country: Mapped[str]
    vat_id: Mapped[str | None]
    registration: Mapped[str | None]


class TaxRule(Base):
    """Which category and rate hold for what a seller of `jurisdiction` supplies, to whom, since when, by which article."""

    __tablename__ = "tax_rule"
    __table_args__ = (Index(None, "jurisdiction", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    jurisdiction: Mapped[str]
    category: Mapped[str]
    rate_bp: Mapped[int]
    buyer_countries: Mapped[list[Any] | None] = mapped_column(Json)
    buyer_registered: Mapped[bool | None]
    routes: Mapped[list[Any] | None] = mapped_column(Json)
    article: Mapped[str]
    authority: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    evidence: Mapped[str]


class Invoice(Base):
    """An invoice of a month, or a credit note that corrects it (`corrects`); never changed after it was issued.

    `series` and `position` make its number: positions of a series are 1, 2, 3 without a gap. `part` is 0 for the invoice of
    (org, month, unit) and 1, 2, 3 for its credit notes. `content` is all that it says: parties, lines, subtotals. `amount`
    is what was charged or is given back, in booked units, with the tax in it.
    """

    __tablename__ = "invoice"
    __table_args__ = (
        UniqueConstraint("series", "position"),
        UniqueConstraint("org", "month", "unit", "part"),
        Index(None, "org", "id"),
        Index(None, "issued_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    series: Mapped[str]
    position: Mapped[int]
    org: Mapped[str]
    month: Mapped[str]
    unit: Mapped[str]
    part: Mapped[int]
    corrects: Mapped[str | None] = mapped_column(ForeignKey("invoice.id"))
    amount: Mapped[int]
    net: Mapped[int]
    tax: Mapped[int]
    content: Mapped[dict[str, Any]]
    evidence: Mapped[str]
    issued_at: Mapped[datetime]

    @property
    def number(self) -> str:
        return f"{self.series}-{self.position:06d}"

    @property
    def type_code(self) -> str:
        return COMMERCIAL if self.corrects is None else CREDIT_NOTE
