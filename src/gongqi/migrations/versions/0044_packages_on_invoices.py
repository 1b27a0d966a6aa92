"""What came back of a package, and the invoice and the credit note that say so."""

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"

UNCREDITED = sa.text("returned > 0 AND invoice IS NOT NULL AND credit_note IS NULL")


def upgrade() -> None:
    for column in ("ended_at", "returned"):
        op.add_column("subscription", sa.Column(column, sa.BigInteger(), nullable=True))
    for column in ("invoice", "credit_note"):
        op.add_column("subscription", sa.Column(column, sa.String(), nullable=True))
    op.create_index(
        "ix_subscription_uncredited", "subscription", ["id"], sqlite_where=UNCREDITED, postgresql_where=UNCREDITED
    )
