"""What was said to clients of the OCI door is kept, to be said again by its digest."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "oci_shelf",
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("artifact_type", sa.String(), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_oci_shelf_asset")),
        sa.PrimaryKeyConstraint("asset", "digest", "revision", name=op.f("pk_oci_shelf")),
    )
    op.create_index(op.f("ix_oci_shelf_asset_revision"), "oci_shelf", ["asset", "revision"])
    op.create_index(op.f("ix_oci_shelf_asset_subject"), "oci_shelf", ["asset", "subject"])
