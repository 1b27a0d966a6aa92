"""The directory is read kind by kind: an index by kind, so that a page takes as long among many people as among few."""

from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    op.create_index(op.f("ix_party_kind_id"), "party", ["kind", "id"])
