"""Keys say whether answers are kept to be given again, and usage records which call's answer was; since when they are.
Routes say whether a conversation stays with its server, and endpoints whether they keep apart whose prompts they know."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0034"


def upgrade() -> None:
    op.create_table(
        "model_cache",
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org", name=op.f("pk_model_cache")),
    )
    op.add_column("model_key", sa.Column("cache", sa.String(), nullable=False, server_default="off"))
    op.add_column("model_key", sa.Column("cache_seconds", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("model_usage", sa.Column("repeats", sa.String(), nullable=True))
    op.add_column("model_route", sa.Column("has_affinity", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("model_endpoint", sa.Column("cache_salt", sa.Boolean(), nullable=False, server_default=sa.false()))
