"""Sums of calls by month, from those that are there; and the addresses that invoices bear."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"

MONTH = {
    "sqlite": "strftime('%Y-%m', at / 1000000, 'unixepoch')",
    "postgresql": "to_char(to_timestamp(at / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM')",
}


def upgrade() -> None:
    op.create_table(
        "model_month",
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.Column("aid_nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org", "month", "route", "unit", name=op.f("pk_model_month")),
    )
    op.execute(
        "INSERT INTO model_month (org, month, route, unit, calls, input_tokens, cached_tokens, output_tokens, cost_nanos, "
        f"aid_nanos) SELECT org, {MONTH[op.get_bind().dialect.name]}, route, unit, "
        "sum(CASE WHEN ending = 'refused' THEN 0 ELSE 1 END), sum(input_tokens), sum(cached_tokens), sum(output_tokens), "
        "sum(cost_nanos), sum(aid_nanos) FROM model_usage GROUP BY 1, 2, 3, 4"
    )
    op.create_table(
        "billing_address",
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("street", sa.String(), nullable=False),
        sa.Column("city", sa.String(), nullable=False),
        sa.Column("postcode", sa.String(), nullable=False),
        sa.Column("country", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org", name=op.f("pk_billing_address")),
    )
