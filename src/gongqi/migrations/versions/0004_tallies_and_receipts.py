"""What does not divide is carried from fee to fee; outcomes belong to rows of calls; calls name their evidence."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "split_tally",
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("claims", sa.String(length=64), nullable=False),
        sa.Column("fees", sa.BigInteger(), nullable=False),
        sa.Column("paid", JSON, nullable=False),
        sa.PrimaryKeyConstraint("deployment", "claims", name=op.f("pk_split_tally")),
    )
    op.add_column("split", sa.Column("fees", sa.BigInteger(), nullable=True))
    for name in ("weight", "whole", "total"):
        op.add_column("split_line", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("call", sa.Column("evidence", sa.String(), nullable=True))
    with op.batch_alter_table("outcome") as batch_op:
        batch_op.add_column(sa.Column("row", sa.BigInteger(), nullable=True))
        batch_op.create_unique_constraint(op.f("uq_outcome_call_row"), ["call", "row"])
