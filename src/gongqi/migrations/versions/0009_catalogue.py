"""Assets are found by words. What is there already is catalogued by a flow (hub.catalogue)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gongqi.resources.hub.models import CATALOGUE_ON_SQLITE

revision = "0009"
down_revision = "0008"

TERMS = sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "catalogue",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("terms", TERMS, nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_catalogue_asset")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_catalogue")),
        sa.UniqueConstraint("asset", name=op.f("uq_catalogue_asset")),
    )
    op.create_table(
        "asset_label",
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_asset_label_asset")),
        sa.PrimaryKeyConstraint("asset", "name", name=op.f("pk_asset_label")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ix_catalogue_terms", "catalogue", ["terms"], postgresql_using="gin")
    else:
        for statement in CATALOGUE_ON_SQLITE:
            op.get_bind().exec_driver_sql(statement)
