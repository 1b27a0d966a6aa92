"""The tables of serving: deployments with their price, budgets of those who call, and the calls; then the gateway's.

Invariants
- A call is reserved, then settled, released or failed. It pays at most once: each attempt has a hold of its own, and a
  new attempt begins only after the hold of the one before has ended without paying.
- A call names the release, the price and the price's version it was made under; later changes do not touch it.
- What was asked and answered is not kept: only a digest of each, so that a repeated request can be recognised.

No personal data beyond `caller`, a party id; kept as long as the ledger's entries that it explains.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base, Json


class Deployment(Base):
    """A release that answers calls under `name`. `state`: ready, retired. `org` hosts it.

    `agreement` is {text_zh, text_en, purpose, retention_days, version}: on what terms outcomes may be sent back.
    """

    __tablename__ = "deployment"
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    org: Mapped[str]
    asset: Mapped[str]
    release: Mapped[str] = mapped_column(index=True)
    release_name: Mapped[str]
    blob: Mapped[str] = mapped_column(String(64))
    unit: Mapped[str]
    price_per_row: Mapped[int]
    price_version: Mapped[int]
    state: Mapped[str]
    agreement: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Budget(Base):
    """How much an organisation lets its people and agents spend on one deployment, in the deployment's unit."""

    __tablename__ = "budget"
    __table_args__ = (UniqueConstraint("deployment", "org"),)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(ForeignKey("deployment.id"))
    org: Mapped[str]
    unit: Mapped[str]
    limit_amount: Mapped[int]
    spent: Mapped[int]


class Call(Base):
    """One request: `state` reserved, settled, released (its process died) or failed (the model did).

    `evidence`: the entry of its settlement. (None before revision 0004.)
    """

    __tablename__ = "call"
    __table_args__ = (
        Index(None, "deployment", "org", "state"),
        Index(None, "deployment", "id"),
        Index(None, "deployment", "state", "rows"),
        Index(None, "state", "rows"),
        Index(None, "org", "id"),
        Index(None, "state", "expires_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(ForeignKey("deployment.id"))
    release: Mapped[str]
    release_name: Mapped[str]
    blob: Mapped[str] = mapped_column(String(64))
    caller: Mapped[str]
    org: Mapped[str]
    rows: Mapped[int]
    unit: Mapped[str]
    fee: Mapped[int]
    price_version: Mapped[int]
    request_sha256: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int]
    hold: Mapped[str]
    state: Mapped[str]
    at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    latency_us: Mapped[int | None]
    result_sha256: Mapped[str | None] = mapped_column(String(64))
    evidence: Mapped[str | None]


class ModelEndpoint(Base):
    """A server of models that operators allow: an address, and the API it `speaks`. `state`: ready, retired.

    `credential` names a file in the home that holds what is sent as bearer token; the secret itself is never a row.
    `cache_salt`: it is told whose prompt it is, by a digest, and keeps apart what it remembers.

    Of an endpoint that is hosted here, `engine` runs the `files` [{part, sha256, size}] of `release`, in `memory_mib` beside
    a model's own file and with a context of `context_tokens` at most; its address is empty. `region`: where what is asked
    there stays, if operators have said so.
    """

    __tablename__ = "model_endpoint"
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    base_url: Mapped[str]
    speaks: Mapped[str]
    private: Mapped[bool]
    credential: Mapped[str | None]
    first_byte_seconds: Mapped[int]
    cache_salt: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str]
    created_at: Mapped[datetime]
    engine: Mapped[str | None]
    release: Mapped[str | None]
    files: Mapped[list[Any] | None] = mapped_column(Json)
    context_tokens: Mapped[int | None]
    memory_mib: Mapped[int | None]
    region: Mapped[str] = mapped_column(default="")


class ModelRoute(Base):
    """What callers name as a model. `targets`: [{endpoint, model, weight, rank}]; `tariff` is pushed down by billing.

    `org` earns what it brings. `openness` and `licence` are what the models list says of it; `release` names the release
    of the hub that stands behind it, None for an outside model, and has done so since the gateway's version
    `release_from`. `agreement`: on what terms feedback is taken (`serving.agreements`). `state`: ready, retired.
    """

    __tablename__ = "model_route"
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    org: Mapped[str]
    kind: Mapped[str]
    targets: Mapped[list[Any]]
    context_tokens: Mapped[int]
    output_tokens: Mapped[int]
    licence: Mapped[str]
    openness: Mapped[str]
    release: Mapped[str | None]
    release_from: Mapped[int]
    region: Mapped[str]
    tariff: Mapped[dict[str, Any] | None]
    agreement: Mapped[dict[str, Any] | None] = mapped_column(Json)
    has_affinity: Mapped[bool] = mapped_column(default=False)
    evidence: Mapped[str]
    state: Mapped[str]
    created_at: Mapped[datetime]


class ModelKey(Base):
    """A virtual key: what an application shows at the gateway. Kept by digest; `routes` None: every model.

    `budget_day` and `budget_month` are booked `unit`s; None: only the organisation's funds limit it. `spends`: whether
    credit that the organisation has bought pays first ("credits-first"), or money alone ("money"). `cache`: whether answers
    are kept to be given again ("off", "asked", "always"), `cache_seconds`: for how long (`plane.cache`). `region` and
    `audience` (public, internal): where it says that it calls from, and whom answers are shown to; empty where it does not.
    """

    __tablename__ = "model_key"
    __table_args__ = (Index(None, "org", "id"),)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    shown: Mapped[str]
    label: Mapped[str]
    org: Mapped[str]
    project: Mapped[str]
    issued_by: Mapped[str]
    routes: Mapped[list[Any] | None] = mapped_column(Json)
    unit: Mapped[str]
    budget_day: Mapped[int | None]
    budget_month: Mapped[int | None]
    requests_per_minute: Mapped[int]
    tokens_per_minute: Mapped[int]
    parallel: Mapped[int]
    spends: Mapped[str] = mapped_column(default="credits-first")
    cache: Mapped[str] = mapped_column(default="off")
    cache_seconds: Mapped[int] = mapped_column(default=0)
    region: Mapped[str] = mapped_column(default="")
    audience: Mapped[str] = mapped_column(default="")
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class ModelAid(Base):
    """Aid in force, as it was handed down by billing: of what calls of `org` cost, it pays `paid_percent` itself and `fund`
    the rest. `routes` None: every model priced in `unit`. `is_credit`: the organisation has bought it, and keys may choose
    to leave it alone."""

    __tablename__ = "model_aid"
    __table_args__ = (Index(None, "org"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    fund: Mapped[str]
    unit: Mapped[str]
    paid_percent: Mapped[int]
    routes: Mapped[list[Any] | None] = mapped_column(Json)
    until: Mapped[datetime]
    is_credit: Mapped[bool] = mapped_column(default=False)


class Lease(Base):
    """A slice of `org`'s money that one data plane may spend for a key, set aside in the ledger under `hold`.

    `left` is what the hold still holds; `granted` was leased, `spent_nanos` of it has been settled. `state`: open, ended.
    `aid`: the lease on a fund's money (its `org` is the fund) that pays the rest, where this one pays `paid_percent`.
    """

    __tablename__ = "model_lease"
    __table_args__ = (Index(None, "key", "state"), Index(None, "plane", "state"))

    id: Mapped[str] = mapped_column(primary_key=True)
    plane: Mapped[str]
    key: Mapped[str] = mapped_column(ForeignKey("model_key.id"))
    org: Mapped[str]
    unit: Mapped[str]
    granted: Mapped[int]
    left: Mapped[int]
    spent_nanos: Mapped[int]
    hold: Mapped[str | None]
    rolled: Mapped[int]
    state: Mapped[str]
    at: Mapped[datetime]
    aid: Mapped[str | None]
    paid_percent: Mapped[int]


class Tab(Base):
    """What `org`, an organisation or a fund, owes for calls of one route and is not yet charged: less than one unit, unless
    money ran out.

    `spent_nanos` of all time = `charged` * 10⁹ + `owed_nanos`.
    """

    __tablename__ = "model_tab"

    org: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(primary_key=True)
    charged: Mapped[int]
    owed_nanos: Mapped[int]


class MonthSum(Base):
    """What `org`'s calls of a route came to in a `month` (UTC, of their settlement): sums of its usage records.

    `calls` leaves out those that got no answer. Kept in the transaction that makes the records, so that a statement reads
    a line a model and not a million calls.
    """

    __tablename__ = "model_month"

    org: Mapped[str] = mapped_column(primary_key=True)
    month: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int]
    input_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    output_tokens: Mapped[int]
    cost_nanos: Mapped[int]
    aid_nanos: Mapped[int]


class KeySpend(Base):
    """What a key has spent in a `period`: a day `2026-11-29` or a month `2026-11`, in UTC."""

    __tablename__ = "model_key_spend"

    key: Mapped[str] = mapped_column(ForeignKey("model_key.id"), primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    nanos: Mapped[int]


class KeyRate(Base):
    """How much of a key's limits a minute is there (`serving.rates`): levels in units times milliseconds, at `at_ms`."""

    __tablename__ = "model_key_rate"

    key: Mapped[str] = mapped_column(ForeignKey("model_key.id"), primary_key=True)
    request_level: Mapped[int]
    token_level: Mapped[int]
    at_ms: Mapped[int]


class SpoolMark(Base):
    """How far a data plane's spool is settled: moved in the transaction that settles, so nothing is settled twice."""

    __tablename__ = "model_spool"

    plane: Mapped[str] = mapped_column(primary_key=True)
    segment: Mapped[int]
    offset: Mapped[int]
    at: Mapped[datetime]


class Usage(Base):
    """One call of the gateway, settled: who pays, for what, at which price (that of `tier`), and how it ended. The log and
    the bill are this one row. `fund` pays `aid_nanos` of `cost_nanos`, the organisation the rest. `repeats`: the call whose
    answer was given again, at no cost. `masked`: how often something was masked in what left. What was said is not kept.
    The order of the columns is the order in which
    `insert_rows` fills them."""

    __tablename__ = "model_usage"
    __table_args__ = (
        Index(None, "org", "id"),
        Index(None, "key", "id"),
        Index(None, "route", "at"),
        Index(None, "evidence"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    key: Mapped[str]
    project: Mapped[str]
    route: Mapped[str]
    endpoint: Mapped[str | None]
    ending: Mapped[str]
    at: Mapped[datetime]
    duration_us: Mapped[int]
    first_byte_us: Mapped[int | None]
    attempts: Mapped[int]
    input_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    output_tokens: Mapped[int]
    is_estimated: Mapped[bool]
    is_capped: Mapped[bool]
    price: Mapped[str]
    price_version: Mapped[int]
    unit: Mapped[str]
    input_nanos: Mapped[int]
    cached_nanos: Mapped[int]
    output_nanos: Mapped[int]
    cost_nanos: Mapped[int]
    lease: Mapped[str | None]
    snapshot: Mapped[int]
    tier: Mapped[str]
    repeats: Mapped[str | None]
    masked: Mapped[int]
    aid_nanos: Mapped[int]
    fund: Mapped[str | None]
    evidence: Mapped[str]


class KeptResponse(Base):
    """A response that its caller asked to be kept, with its input: JSON. Personal data may be in it (see `serving.kept` for
    purpose, basis and retention)."""

    __tablename__ = "model_response"
    __table_args__ = (Index(None, "expires_at"),)

    key: Mapped[str] = mapped_column(ForeignKey("model_key.id"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[bytes]
    at: Mapped[datetime]
    expires_at: Mapped[datetime]


class CallClaim(Base):
    """Which call has a name that its caller gave it (`serving.claims`): digests of the name and of the request."""

    __tablename__ = "model_call_claim"
    __table_args__ = (Index(None, "at"),)

    key: Mapped[str] = mapped_column(ForeignKey("model_key.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    call: Mapped[str]
    at: Mapped[datetime]


class GatewayVersion(Base):
    """One row: raised whenever something changes that the data planes go by, so that they know to look."""

    __tablename__ = "model_gateway"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int]
