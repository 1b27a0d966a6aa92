"""The tax table, invoices as they were issued with what corrects them, and what parties are registered as."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0039"
down_revision = "0037"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("billing_address", sa.Column("vat_id", sa.String(), nullable=True))
    op.add_column("billing_address", sa.Column("registration", sa.String(), nullable=True))
    op.create_table(
        "tax_rule",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("jurisdiction", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("rate_bp", sa.BigInteger(), nullable=False),
        sa.Column("buyer_countries", JSON, nullable=True),
        sa.Column("buyer_registered", sa.Boolean(), nullable=True),
        sa.Column("routes", JSON, nullable=True),
        sa.Column("article", sa.String(), nullable=False),
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tax_rule")),
    )
    op.create_index(op.f("ix_tax_rule_jurisdiction_id"), "tax_rule", ["jurisdiction", "id"])
    op.create_table(
        "invoice",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("part", sa.BigInteger(), nullable=False),
        sa.Column("corrects", sa.String(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("net", sa.BigInteger(), nullable=False),
        sa.Column("tax", sa.BigInteger(), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["corrects"], ["invoice.id"], name=op.f("fk_invoice_corrects_invoice")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice")),
        sa.UniqueConstraint("series", "position", name=op.f("uq_invoice_series_position")),
        sa.UniqueConstraint("org", "month", "unit", "part", name=op.f("uq_invoice_org_month_unit_part")),
    )
    op.create_index(op.f("ix_invoice_org_id"), "invoice", ["org", "id"])
    op.create_index(op.f("ix_invoice_issued_at"), "invoice", ["issued_at"])
