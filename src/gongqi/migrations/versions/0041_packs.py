"""Packs that are loaded; where keys are and whom answers are shown to; how much was masked in a call."""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    op.create_table(
        "pack",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("edition", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("loaded_by", sa.String(), nullable=False),
        sa.Column("loaded_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pack")),
    )
    op.create_index(op.f("ix_pack_state_name"), "pack", ["state", "name"])
    for column in ("region", "audience"):
        op.add_column("model_key", sa.Column(column, sa.String(), nullable=False, server_default=""))
    op.add_column("model_usage", sa.Column("masked", sa.BigInteger(), nullable=False, server_default="0"))
