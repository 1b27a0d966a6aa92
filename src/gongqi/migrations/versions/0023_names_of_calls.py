"""Names that callers of the gateway give to their calls, so that one that comes again is made once."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "model_call_claim",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("call", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["model_key.id"], name=op.f("fk_model_call_claim_key_model_key")),
        sa.PrimaryKeyConstraint("key", "name", name=op.f("pk_model_call_claim")),
    )
    op.create_index(op.f("ix_model_call_claim_at"), "model_call_claim", ["at"])
