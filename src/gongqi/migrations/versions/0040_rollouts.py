"""Roll-outs and shadows of models, what processes report of them, and the region of an endpoint."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0040"
down_revision = "0039"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("model_endpoint", sa.Column("region", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "model_rollout",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=True),
        sa.Column("steps", JSON, nullable=False),
        sa.Column("hold_seconds", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("slow_ms", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("percent", sa.BigInteger(), nullable=False),
        sa.Column("step_at", sa.BigInteger(), nullable=False),
        sa.Column("step_calls", sa.BigInteger(), nullable=False),
        sa.Column("seen", JSON, nullable=False),
        sa.Column("weights", JSON, nullable=False),
        sa.Column("path", JSON, nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("began_version", sa.BigInteger(), nullable=False),
        sa.Column("ended_version", sa.BigInteger(), nullable=True),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["route"], ["model_route.id"], name=op.f("fk_model_rollout_route_model_route")),
        sa.ForeignKeyConstraint(
            ["endpoint"], ["model_endpoint.id"], name=op.f("fk_model_rollout_endpoint_model_endpoint")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_rollout")),
    )
    for columns in (["route", "id"], ["state"], ["endpoint", "state"]):
        op.create_index(op.f(f"ix_model_rollout_{'_'.join(columns)}"), "model_rollout", columns)
    op.create_table(
        "model_shadow",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("percent", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["route"], ["model_route.id"], name=op.f("fk_model_shadow_route_model_route")),
        sa.ForeignKeyConstraint(
            ["endpoint"], ["model_endpoint.id"], name=op.f("fk_model_shadow_endpoint_model_endpoint")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_shadow")),
    )
    for columns in (["route", "id"], ["state"]):
        op.create_index(op.f(f"ix_model_shadow_{'_'.join(columns)}"), "model_shadow", columns)
    op.create_table(
        "model_tally",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("plane", sa.String(), nullable=False),
        sa.Column("figures", JSON, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "plane", name=op.f("pk_model_tally")),
    )
    op.create_index(op.f("ix_model_tally_at"), "model_tally", ["at"])
