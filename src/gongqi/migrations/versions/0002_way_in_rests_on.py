"""Whose link a way in came by, and which token it rests on."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("token", sa.Column("made_by", sa.String(), nullable=True))
    op.add_column("token", sa.Column("link_of", sa.String(), nullable=True))
    op.create_index(op.f("ix_token_made_by"), "token", ["made_by"])
    op.add_column("password", sa.Column("link_of", sa.String(), nullable=True))
    op.add_column("sign_in_link", sa.Column("link_of", sa.String(), nullable=True))
    op.add_column("sign_in_link", sa.Column("rests_on", sa.String(), nullable=True))
    op.add_column("console_session", sa.Column("link_of", sa.String(), nullable=True))
    op.add_column("console_session", sa.Column("rests_on", sa.String(), nullable=True))
