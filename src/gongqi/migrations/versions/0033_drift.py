"""What is watched of models' calls, the changes that were found, and inquiries into them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0033"
down_revision = "0030"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "model_drift_watch",
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("streams", JSON, nullable=False),
        sa.ForeignKeyConstraint(["route"], ["model_route.id"], name=op.f("fk_model_drift_watch_route_model_route")),
        sa.PrimaryKeyConstraint("route", name=op.f("pk_model_drift_watch")),
    )
    op.create_table(
        "model_drift",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=True),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("before", sa.BigInteger(), nullable=False),
        sa.Column("after", sa.BigInteger(), nullable=False),
        sa.Column("before_count", sa.BigInteger(), nullable=False),
        sa.Column("after_count", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["route"], ["model_route.id"], name=op.f("fk_model_drift_route_model_route")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_drift")),
    )
    for columns in (["route", "id"], ["org", "id"]):
        op.create_index(op.f(f"ix_model_drift_{'_'.join(columns)}"), "model_drift", columns)
    op.create_table(
        "ethics_inquiry",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("finding", sa.Text(), nullable=True),
        sa.Column("closed_by", sa.String(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ethics_inquiry")),
    )
    for columns in (["route", "id"], ["org", "id"], ["state", "id"]):
        op.create_index(op.f(f"ix_ethics_inquiry_{'_'.join(columns)}"), "ethics_inquiry", columns)
