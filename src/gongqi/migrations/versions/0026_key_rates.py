"""How much of a key's limits a minute is there, for all the processes that serve it."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.create_table(
        "model_key_rate",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_level", sa.BigInteger(), nullable=False),
        sa.Column("token_level", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["model_key.id"], name=op.f("fk_model_key_rate_key_model_key")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_model_key_rate")),
    )
