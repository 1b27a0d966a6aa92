"""Funds and the aid that they pay: leases in two parts, and what a fund paid of each call."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "aid_fund",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aid_fund")),
        sa.UniqueConstraint("name", name=op.f("uq_aid_fund_name")),
    )
    op.create_table(
        "aid_grant",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("fund", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("paid_percent", sa.BigInteger(), nullable=False),
        sa.Column("routes", JSON, nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["fund"], ["aid_fund.id"], name=op.f("fk_aid_grant_fund_aid_fund")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aid_grant")),
    )
    op.create_index(op.f("ix_aid_grant_org_id"), "aid_grant", ["org", "id"])
    op.create_table(
        "model_aid",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("fund", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("paid_percent", sa.BigInteger(), nullable=False),
        sa.Column("routes", JSON, nullable=True),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_aid")),
    )
    op.create_index(op.f("ix_model_aid_org"), "model_aid", ["org"])
    op.add_column("model_lease", sa.Column("aid", sa.String(), nullable=True))
    op.add_column("model_lease", sa.Column("paid_percent", sa.BigInteger(), nullable=False, server_default="100"))
    op.add_column("model_usage", sa.Column("aid_nanos", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("model_usage", sa.Column("fund", sa.String(), nullable=True))
