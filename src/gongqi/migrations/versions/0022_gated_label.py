"""What assets are found by is written anew: a label says whether their files are gated, and more tags of a card count."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.execute("DELETE FROM catalogue")  # a flow fills it
