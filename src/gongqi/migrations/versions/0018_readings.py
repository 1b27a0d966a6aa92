"""What is read in tables and descriptions is kept, once for each file's bytes, and what changed between two."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "reading",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("recipe", sa.BigInteger(), nullable=False),
        sa.Column("found", JSON, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "form", "recipe", name=op.f("pk_reading")),
    )
    op.create_table(
        "table_difference",
        sa.Column("before", sa.String(length=64), nullable=False),
        sa.Column("after", sa.String(length=64), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("recipe", sa.BigInteger(), nullable=False),
        sa.Column("found", JSON, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("before", "after", "form", "recipe", name=op.f("pk_table_difference")),
    )
    op.create_index(op.f("ix_table_difference_after"), "table_difference", ["after"])
