"""Alembic's entry: our connection, our metadata."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context

from gongqi import rooms  # noqa: F401 - importing the rooms fills the metadata
from gongqi.kernel.db import Base, UtcTime


def render_item(kind: str, item: Any, _autogen: Any) -> str | Literal[False]:
    """A revision must stand by itself for ever, so it names database types and not ours."""
    if kind == "type" and isinstance(item, UtcTime):
        return "sa.BigInteger()"
    if kind == "type" and isinstance(item, sa.JSON):
        return "JSON"
    return False


def belongs_here(item: Any, _name: Any, _kind: str, _is_reflected: bool, _beside: Any) -> bool:
    """Whether an index is one of this database; a revision must make the others by hand."""
    return item.info.get("only", connection.dialect.name) == connection.dialect.name


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
    render_item=render_item,
    include_object=belongs_here,
)
context.run_migrations()
