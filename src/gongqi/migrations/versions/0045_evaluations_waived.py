"""Who found that no evaluation fits a model, when and why."""

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    op.add_column("evaluation", sa.Column("waived_by", sa.String(), nullable=True))
    op.add_column("evaluation", sa.Column("waived_at", sa.BigInteger(), nullable=True))
    op.add_column("evaluation", sa.Column("waiver", sa.Text(), nullable=True))
