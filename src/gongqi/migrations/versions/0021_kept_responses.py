"""Responses that callers of the gateway asked to be kept."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "model_response",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["model_key.id"], name=op.f("fk_model_response_key_model_key")),
        sa.PrimaryKeyConstraint("key", "id", name=op.f("pk_model_response")),
    )
    op.create_index(op.f("ix_model_response_expires_at"), "model_response", ["expires_at"])
