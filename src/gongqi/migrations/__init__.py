"""One line of numbered revisions, `0001` upwards; the database remembers where it stands.

A fresh database is brought to the newest revision at once. An older one is changed only on request (`gongqi migrate`),
because that is the moment for a backup; a newer one is never touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError

from gongqi.kernel.db import Database, outage_of
from gongqi.kernel.errors import Refused, Unavailable

FOLDER = Path(__file__).parent
REVISIONS = tuple(sorted(path.name[:4] for path in (FOLDER / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")))
NEWEST = REVISIONS[-1] if REVISIONS else ""


def prepare(db: Database, *, upgrade: bool = False) -> None:
    """Make sure that `db` is at the newest revision.

    Raises: Unavailable("kernel.database-unreachable"), Unavailable("kernel.disk-full"),
    Refused("kernel.schema-older") unless `upgrade`, Refused("kernel.schema-newer").
    """
    try:
        found, empty = _standing(db)
    except OperationalError as error:
        if outage := outage_of(error):
            raise outage from error
        reason = str(error.orig).strip().splitlines()[0][:200]
        raise Unavailable("kernel.database-unreachable", retry_after_seconds=5, reason=reason) from error
    if found == NEWEST:
        return
    if found is not None and found not in REVISIONS:
        raise Refused("kernel.schema-newer", found=found, wanted=NEWEST)
    if found is None and not empty:
        raise Refused("kernel.schema-newer", found="?", wanted=NEWEST)
    if found is not None and not upgrade:
        raise Refused("kernel.schema-older", found=found, wanted=NEWEST)
    run(db)


def _standing(db: Database) -> tuple[str | None, bool]:
    """(revision or None, whether the database holds no table at all)."""
    with db.reader.connect() as connection:
        tables = inspect(connection).get_table_names()
        if "alembic_version" not in tables:
            return None, not tables
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar(), False


def run(db: Database, target: str = "head") -> None:
    """Upgrade in one transaction: it happens whole or not at all, on both databases.

    Raises: Unavailable("kernel.disk-full"), Unavailable("kernel.database-unreachable").
    """
    from alembic import command

    def upgrade(connection: Connection) -> None:
        command.upgrade(configuration(connection), target)

    try:
        with db.writer.begin() as connection:
            upgrade(connection)
    except DBAPIError as error:
        if outage := outage_of(error):
            raise outage from error
        raise


def configuration(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    return config
