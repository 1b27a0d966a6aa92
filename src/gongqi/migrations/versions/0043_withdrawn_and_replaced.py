"""What is asked of what has been withdrawn or replaced: a shadow's release, and the regions of a pack as it was loaded."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0043"
down_revision = "0041"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("model_shadow", sa.Column("release", sa.String(), nullable=True))
    op.add_column("pack", sa.Column("regions", JSON, nullable=True))
