"""Model endpoints say which API they speak; those that are there speak OpenAI's."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("model_endpoint", sa.Column("speaks", sa.String(), nullable=False, server_default="openai"))
