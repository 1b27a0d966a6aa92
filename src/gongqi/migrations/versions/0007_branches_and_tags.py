"""Revisions have a parent, and names: branches, which move, and tags, which stay."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("revision", sa.Column("parent", sa.String(), nullable=True))
    op.execute(
        "UPDATE revision SET parent = (SELECT before.id FROM revision AS before "
        "WHERE before.asset = revision.asset AND before.number = revision.number - 1)"
    )
    op.create_table(
        "ref",
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_ref_asset")),
        sa.ForeignKeyConstraint(["revision"], ["revision.id"], name=op.f("fk_ref_revision")),
        sa.PrimaryKeyConstraint("asset", "kind", "name", name=op.f("pk_ref")),
    )
    op.execute(
        "INSERT INTO ref (asset, kind, name, revision, message, at) "
        "SELECT asset, 'branch', 'main', id, '', created_at FROM revision WHERE number = "
        "(SELECT MAX(number) FROM revision AS others WHERE others.asset = revision.asset)"
    )
