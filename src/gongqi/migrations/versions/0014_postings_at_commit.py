"""What a posting points to is looked for when its transaction ends; an insert over a row fails without being undone.

SQLite cannot change a key in place, so there the table is written anew, as its documentation of ALTER TABLE says (§7).
"""

import sqlalchemy as sa
from alembic import op

from gongqi.books.ledger.models import APPEND_ONLY, append_only

revision = "0014"
down_revision = "0013"

POINTS_TO = {"sequence": "ledger_transaction", "account_id": "ledger_account"}
COLUMN = {"sequence": "sequence", "account_id": "id"}
AT_COMMIT = {"deferrable": True, "initially": "DEFERRED"}


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        for column, table in POINTS_TO.items():
            name = op.f(f"fk_ledger_posting_{column}")
            op.drop_constraint(name, "ledger_posting", type_="foreignkey")
            op.create_foreign_key(name, "ledger_posting", table, [column], [COLUMN[column]], **AT_COMMIT)
        return
    for table in APPEND_ONLY:
        op.execute(f"DROP TRIGGER {table}_replace")
    op.create_table(
        "ledger_posting_new",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_ledger_posting_moves")),
        *(
            sa.ForeignKeyConstraint(
                [column], [f"{table}.{COLUMN[column]}"], name=op.f(f"fk_ledger_posting_{column}"), **AT_COMMIT
            )
            for column, table in POINTS_TO.items()
        ),
        sa.PrimaryKeyConstraint("sequence", "position", name=op.f("pk_ledger_posting")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO ledger_posting_new SELECT sequence, position, account_id, amount, balance FROM ledger_posting"
    )
    op.drop_table("ledger_posting")  # with its index and its triggers; nothing points to it
    op.rename_table("ledger_posting_new", "ledger_posting")
    index = op.f("ix_ledger_posting_account_id_sequence_position")
    op.create_index(index, "ledger_posting", ["account_id", "sequence", "position"])
    for table in APPEND_ONLY:
        for statement in append_only("sqlite", table):
            if table == "ledger_posting" or statement.startswith(f"CREATE TRIGGER {table}_replace"):
                op.execute(statement)
