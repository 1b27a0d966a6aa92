"""Downloads are counted: by revision and day, in all by asset, and nobody twice a day."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "downloads",
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["revision"], ["revision.id"], name=op.f("fk_downloads_revision")),
        sa.PrimaryKeyConstraint("revision", "day", name=op.f("pk_downloads")),
    )
    op.create_index(op.f("ix_downloads_day"), "downloads", ["day"])
    op.create_table(
        "popularity",
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("recent", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_popularity_asset")),
        sa.PrimaryKeyConstraint("asset", name=op.f("pk_popularity")),
    )
    op.create_table(
        "download_mark",
        sa.Column("mark", sa.LargeBinary(), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_download_mark")),
    )
    op.create_index(op.f("ix_download_mark_day"), "download_mark", ["day"])
