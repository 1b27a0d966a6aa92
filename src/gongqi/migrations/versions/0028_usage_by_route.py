"""Calls of a model by time, for its page."""

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.create_index(op.f("ix_model_usage_route_at"), "model_usage", ["route", "at"])
