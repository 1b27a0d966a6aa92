"""Assets may be gated, moved and deleted; who asked for what."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("asset", sa.Column("gated", sa.String(), server_default="open", nullable=False))
    op.add_column("asset", sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "former_address",
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("slug", sa.String(length=63), nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_former_address_asset")),
        sa.PrimaryKeyConstraint("org", "slug", name=op.f("pk_former_address")),
    )
    op.create_index(op.f("ix_former_address_asset"), "former_address", ["asset"])
    op.create_table(
        "access_request",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("party", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("terms", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_access_request_asset")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_request")),
        sa.UniqueConstraint("asset", "party", name=op.f("uq_access_request_asset_party")),
    )
    op.create_index(op.f("ix_access_request_asset_state_id"), "access_request", ["asset", "state", "id"])
    op.create_index(op.f("ix_access_request_party"), "access_request", ["party"])
