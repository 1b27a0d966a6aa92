"""Alembic's entry: our connection, our metadata."""

from alembic import context

from gongqi import rooms  # noqa: F401 - importing the rooms fills the metadata
from gongqi.kernel.db import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
