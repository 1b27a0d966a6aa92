"""Other hubs that may be reached, and what is brought in from them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "hub_source",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("is_inside", sa.Boolean(), nullable=False),
        sa.Column("has_token", sa.Boolean(), nullable=False),
        sa.Column("org", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("mirror_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_source")),
        sa.UniqueConstraint("name", name=op.f("uq_hub_source_name")),
    )
    op.create_table(
        "hub_import",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("repo", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("branch", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("commit", sa.String(), nullable=True),
        sa.Column("license", sa.String(), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("files_done", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("bytes_fetched", sa.BigInteger(), nullable=False),
        sa.Column("rounds", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("revision", sa.String(), nullable=True),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("begun_by", sa.String(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["asset"], ["asset.id"], name=op.f("fk_hub_import_asset")),
        sa.ForeignKeyConstraint(["revision"], ["revision.id"], name=op.f("fk_hub_import_revision")),
        sa.ForeignKeyConstraint(["source"], ["hub_source.id"], name=op.f("fk_hub_import_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_import")),
    )
    op.create_index(op.f("ix_hub_import_asset_id"), "hub_import", ["asset", "id"])
    op.create_index(op.f("ix_hub_import_org_id"), "hub_import", ["org", "id"])
    op.create_index(op.f("ix_hub_import_revision"), "hub_import", ["revision"])

    op.create_table(
        "hub_imported_file",
        sa.Column("import_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("claim", sa.String(length=71), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("upload", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["import_id"], ["hub_import.id"], name=op.f("fk_hub_imported_file_import_id")),
        sa.PrimaryKeyConstraint("import_id", "number", name=op.f("pk_hub_imported_file")),
        sa.UniqueConstraint("import_id", "path", name=op.f("uq_hub_imported_file_import_id_path")),
    )
    op.create_index(op.f("ix_hub_imported_file_claim"), "hub_imported_file", ["claim"])

    op.create_table(
        "hub_mirrored_answer",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("address", sa.String(length=1000), nullable=False),
        sa.Column("repo", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("link", sa.String(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["hub_source.id"], name=op.f("fk_hub_mirrored_answer_source")),
        sa.PrimaryKeyConstraint("source", "address", name=op.f("pk_hub_mirrored_answer")),
    )
    op.create_index(op.f("ix_hub_mirrored_answer_at"), "hub_mirrored_answer", ["at"])
    op.create_index(op.f("ix_hub_mirrored_answer_source_repo"), "hub_mirrored_answer", ["source", "repo"])

    op.create_table(
        "hub_mirrored_file",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("repo", sa.String(), nullable=False),
        sa.Column("commit", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("claim", sa.String(length=71), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_hub_mirrored_file_sha256")),
        sa.ForeignKeyConstraint(["source"], ["hub_source.id"], name=op.f("fk_hub_mirrored_file_source")),
        sa.PrimaryKeyConstraint("source", "repo", "commit", "path", name=op.f("pk_hub_mirrored_file")),
    )
    op.create_index(op.f("ix_hub_mirrored_file_sha256"), "hub_mirrored_file", ["sha256"])
    op.create_index(op.f("ix_hub_mirrored_file_source_used_at"), "hub_mirrored_file", ["source", "used_at"])
