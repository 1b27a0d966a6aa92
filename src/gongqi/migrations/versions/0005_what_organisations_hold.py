"""What each organisation holds is counted and limited; what nobody commits is found by its age."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "holding",
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("blobs", sa.BigInteger(), nullable=False),
        sa.Column("limit_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("org", name=op.f("pk_holding")),
    )
    op.execute(
        "INSERT INTO holding (org, used_bytes, blobs) "
        "SELECT blob_owner.org, CAST(SUM(blob.size) AS BIGINT), COUNT(*) "
        "FROM blob_owner JOIN blob ON blob.sha256 = blob_owner.sha256 GROUP BY blob_owner.org"
    )
    op.create_index(op.f("ix_blob_owner_at"), "blob_owner", ["at"], unique=False)
    op.create_index(op.f("ix_file_sha256"), "file", ["sha256"], unique=False)
