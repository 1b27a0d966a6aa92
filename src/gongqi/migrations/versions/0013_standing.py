"""Assets may be archived and withdrawn."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("asset", sa.Column("standing", sa.String(), server_default="open", nullable=False))
    op.add_column("asset", sa.Column("standing_reason", sa.String(), nullable=True))
    op.add_column("asset", sa.Column("standing_since", sa.BigInteger(), nullable=True))
