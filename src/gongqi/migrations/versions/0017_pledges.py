"""Patent pledges have a registry of their own; those of accepted donations are entered in it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "patent_pledge",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("org", sa.String(), nullable=False),
        sa.Column("asset", sa.String(), nullable=True),
        sa.Column("donation", sa.String(), nullable=True),
        sa.Column("patent_scope", sa.String(), nullable=False),
        sa.Column("patent_text", sa.String(), nullable=False),
        sa.Column("beneficiaries", sa.String(), nullable=False),
        sa.Column("named", JSON, nullable=False),
        sa.Column("basis", sa.String(), nullable=False),
        sa.Column("patents", JSON, nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("revocation", sa.String(), nullable=False),
        sa.Column("notice_days", sa.BigInteger(), nullable=True),
        sa.Column("revocation_text", sa.String(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_for", JSON, nullable=False),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patent_pledge")),
        sa.UniqueConstraint("donation", name=op.f("uq_patent_pledge_donation")),
    )
    op.create_index(op.f("ix_patent_pledge_asset"), "patent_pledge", ["asset"])
    op.create_index(op.f("ix_patent_pledge_org_id"), "patent_pledge", ["org", "id"])
    none = "CAST('[]' AS JSONB)" if op.get_bind().dialect.name == "postgresql" else "'[]'"
    op.execute(
        "INSERT INTO patent_pledge (id, org, asset, donation, patent_scope, patent_text, beneficiaries, named, basis, "
        "patents, effective_at, revocation, revocation_text, ended_for, made_at, made_by) "
        "SELECT 'plg_' || substr(id, 5), org, asset, id, patent_scope, patent_text, 'everyone', "
        f"{none}, '', {none}, decided_at, 'irrevocable', '', {none}, decided_at, offered_by "
        "FROM donation WHERE state = 'accepted' AND patent_scope <> 'none'"
    )
    op.drop_index("ix_donation_pledged", table_name="donation")
