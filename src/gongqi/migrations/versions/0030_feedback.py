"""Data agreements of models, what callers say of answers under them, and its way into datasets."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0030"
down_revision = "0029"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("model_route", sa.Column("agreement", JSON, nullable=True))
    op.add_column("model_route", sa.Column("release_from", sa.BigInteger(), nullable=False, server_default="0"))
    # Which release answered before now is not known: only calls from here on are said to be of the present one.
    op.execute("UPDATE model_route SET release_from = coalesce((SELECT max(number) FROM model_gateway), 0)")
    op.create_table(
        "model_feedback",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("call", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=True),
        sa.Column("called_at", sa.BigInteger(), nullable=False),
        sa.Column("kinds", JSON, nullable=False),
        sa.Column("rating", sa.String(), nullable=True),
        sa.Column("agreement", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("batch", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["model_key.id"], name=op.f("fk_model_feedback_key_model_key")),
        sa.ForeignKeyConstraint(["route"], ["model_route.id"], name=op.f("fk_model_feedback_route_model_route")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_feedback")),
    )
    for columns in (["call"], ["key", "state"], ["org", "id"], ["route", "state", "id"], ["batch"], ["state", "until"]):
        op.create_index(op.f(f"ix_model_feedback_{'_'.join(columns)}"), "model_feedback", columns)
    op.create_table(
        "feedback_gathering",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("agreement", sa.String(length=64), nullable=False),
        sa.Column("terms", JSON, nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("claimed", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("set_aside", JSON, nullable=False),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column("revision", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("started_by", sa.String(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("dropped", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback_gathering")),
    )
    for columns in (["route", "state"], ["org", "id"], ["until"]):
        op.create_index(op.f(f"ix_feedback_gathering_{'_'.join(columns)}"), "feedback_gathering", columns)
