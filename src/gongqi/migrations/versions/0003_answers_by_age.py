"""Answers kept for retries are found by their age, to be forgotten."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index(op.f("ix_idempotency_at"), "idempotency", ["at"])
