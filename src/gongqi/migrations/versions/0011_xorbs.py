"""Where the chunks of xorbs are that were brought to an asset."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "xorb_space",
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_xorb_space_asset")),
        sa.PrimaryKeyConstraint("asset", name=op.f("pk_xorb_space")),
    )
    op.create_table(
        "xorb",
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("chunks", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.Column("ends", sa.LargeBinary(), nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.String(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["space"], ["asset.id"], name=op.f("fk_xorb_space")),
        sa.PrimaryKeyConstraint("space", "name", name=op.f("pk_xorb")),
    )
    op.create_index(op.f("ix_xorb_held"), "xorb", ["held"])
    op.create_table(
        "extent",
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("xorb", sa.String(length=64), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["space", "xorb"], ["xorb.space", "xorb.name"], name=op.f("fk_extent_space_xorb")),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_extent_sha256")),
        sa.PrimaryKeyConstraint("space", "xorb", "start", "end", "sha256", name=op.f("pk_extent")),
    )
    op.create_index(op.f("ix_extent_sha256"), "extent", ["sha256"])
