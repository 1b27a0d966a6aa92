"""The model gateway: endpoints, routes, keys, leases, tabs, usage; and the prices of billing."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "model_endpoint",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("base_url", sa.String(), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("credential", sa.String(), nullable=True),
        sa.Column("first_byte_seconds", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_endpoint")),
        sa.UniqueConstraint("name", name=op.f("uq_model_endpoint_name")),
    )
    op.create_table(
        "model_gateway",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_gateway")),
    )
    op.create_table(
        "model_key",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("shown", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("issued_by", sa.String(), nullable=False),
        sa.Column("routes", JSON, nullable=True),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("budget_day", sa.BigInteger(), nullable=True),
        sa.Column("budget_month", sa.BigInteger(), nullable=True),
        sa.Column("requests_per_minute", sa.BigInteger(), nullable=False),
        sa.Column("tokens_per_minute", sa.BigInteger(), nullable=False),
        sa.Column("parallel", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_key")),
        sa.UniqueConstraint("digest", name=op.f("uq_model_key_digest")),
    )
    op.create_index(op.f("ix_model_key_org_id"), "model_key", ["org", "id"])
    op.create_table(
        "model_route",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("targets", JSON, nullable=False),
        sa.Column("context_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("licence", sa.String(), nullable=False),
        sa.Column("openness", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=True),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("tariff", JSON, nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_route")),
        sa.UniqueConstraint("name", name=op.f("uq_model_route_name")),
    )
    op.create_table(
        "model_spool",
        sa.Column("plane", sa.String(), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("plane", name=op.f("pk_model_spool")),
    )
    op.create_table(
        "model_tab",
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("owed_nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org", "route", "unit", name=op.f("pk_model_tab")),
    )
    op.create_table(
        "model_usage",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=True),
        sa.Column("ending", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("first_byte_us", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("is_estimated", sa.Boolean(), nullable=False),
        sa.Column("is_capped", sa.Boolean(), nullable=False),
        sa.Column("price", sa.String(), nullable=False),
        sa.Column("price_version", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("input_nanos", sa.BigInteger(), nullable=False),
        sa.Column("cached_nanos", sa.BigInteger(), nullable=False),
        sa.Column("output_nanos", sa.BigInteger(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.Column("lease", sa.String(), nullable=True),
        sa.Column("snapshot", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_usage")),
    )
    op.create_index(op.f("ix_model_usage_evidence"), "model_usage", ["evidence"])
    op.create_index(op.f("ix_model_usage_key_id"), "model_usage", ["key", "id"])
    op.create_index(op.f("ix_model_usage_org_id"), "model_usage", ["org", "id"])
    op.create_table(
        "price",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("input_nanos", sa.BigInteger(), nullable=False),
        sa.Column("cached_nanos", sa.BigInteger(), nullable=False),
        sa.Column("output_nanos", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price")),
        sa.UniqueConstraint("route", "number", name=op.f("uq_price_route_number")),
    )
    op.create_table(
        "model_key_spend",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["model_key.id"], name=op.f("fk_model_key_spend_key")),
        sa.PrimaryKeyConstraint("key", "period", name=op.f("pk_model_key_spend")),
    )
    op.create_table(
        "model_lease",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("plane", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("left", sa.BigInteger(), nullable=False),
        sa.Column("spent_nanos", sa.BigInteger(), nullable=False),
        sa.Column("hold", sa.String(), nullable=True),
        sa.Column("rolled", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["model_key.id"], name=op.f("fk_model_lease_key")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_lease")),
    )
    op.create_index(op.f("ix_model_lease_key_state"), "model_lease", ["key", "state"])
    op.create_index(op.f("ix_model_lease_plane_state"), "model_lease", ["plane", "state"])
