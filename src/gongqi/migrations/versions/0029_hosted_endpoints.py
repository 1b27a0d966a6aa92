"""Endpoints whose models run here: which release, by which engine, within what."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0029"
down_revision = "0028"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    for column in (
        sa.Column("engine", sa.String()),
        sa.Column("release", sa.String()),
        sa.Column("files", JSON),
        sa.Column("context_tokens", sa.BigInteger()),
        sa.Column("memory_mib", sa.BigInteger()),
    ):
        op.add_column("model_endpoint", column)
