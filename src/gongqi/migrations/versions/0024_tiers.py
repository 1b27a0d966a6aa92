"""Tiers of membership, prices that differ by them, and the tier whose price a call was charged by."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "organisation_tier",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["org"], ["party.id"], name=op.f("fk_organisation_tier_org_party")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organisation_tier")),
    )
    op.create_index(op.f("ix_organisation_tier_org_until"), "organisation_tier", ["org", "until"])
    op.add_column("price", sa.Column("tiers", JSON, nullable=False, server_default="{}"))
    op.add_column("model_usage", sa.Column("tier", sa.String(), nullable=False, server_default="general"))
