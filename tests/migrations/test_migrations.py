"""The numbered revisions and the models say the same, and nothing is touched that should not be."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gongqi import migrations, rooms
from gongqi.books.ledger import models as ledger
from gongqi.kernel.clock import SystemClock
from gongqi.kernel.db import Base, Database
from gongqi.kernel.errors import Refused, Unavailable


@pytest.fixture
def empty(database_url: str):
    database = Database(database_url)
    yield database
    database.close()


def standing(database: Database) -> str | None:
    with database.reading() as session:
        return session.scalar(text("SELECT version_num FROM alembic_version"))


def test_a_fresh_database_comes_to_the_newest_revision_and_equals_the_models(
    empty: Database, house_tables: set[str]
) -> None:
    assert rooms.ROOMS
    migrations.prepare(empty)
    assert standing(empty) == migrations.NEWEST
    with empty.writer.connect() as connection:
        options = {"include_name": lambda name, kind, _parents: kind != "table" or name in house_tables}
        here = connection.dialect.name
        options["include_object"] = lambda each, name, kind, *_rest: (
            name in house_tables if kind == "table" else each.info.get("only", here) == here
        )
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []


def test_the_migrated_ledger_refuses_update_and_delete_even_by_raw_sql(empty: Database) -> None:
    migrations.prepare(empty)
    now = SystemClock().now()
    row = {"id": "org_x:credit:available", "owner": "org_x", "unit": "credit", "code": "available"}
    empty.write(lambda session: session.add(ledger.Account(**row, floor=0, opened_at=now)))
    assert "ledger_account" in ledger.APPEND_ONLY
    for statement in ("UPDATE ledger_account SET owner = 'x'", "DELETE FROM ledger_account"):
        with pytest.raises(DBAPIError, match="append-only"):
            empty.write(lambda session, sql=statement: session.execute(text(sql)))


def test_preparing_twice_changes_nothing(empty: Database) -> None:
    migrations.prepare(empty)
    migrations.prepare(empty)
    assert standing(empty) == migrations.NEWEST


def test_an_older_schema_is_left_alone_until_asked(empty: Database) -> None:
    migrations.prepare(empty)
    set_version(empty, "0000")
    migrations_known = migrations.REVISIONS
    try:
        migrations.REVISIONS = ("0000", *migrations_known)
        with pytest.raises(Refused) as refused:
            migrations.prepare(empty)
    finally:
        migrations.REVISIONS = migrations_known
    assert refused.value.code == "kernel.schema-older"
    assert standing(empty) == "0000"


def test_a_newer_schema_is_never_touched(empty: Database) -> None:
    migrations.prepare(empty)
    set_version(empty, "9999")
    for upgrade in (False, True):
        with pytest.raises(Refused) as refused:
            migrations.prepare(empty, upgrade=upgrade)
        assert refused.value.code == "kernel.schema-newer"
    assert standing(empty) == "9999"


def test_a_database_of_something_else_is_never_touched(empty: Database) -> None:
    empty.write(lambda session: session.execute(text("CREATE TABLE somebody_elses (n INTEGER)")))
    with pytest.raises(Refused):
        migrations.prepare(empty, upgrade=True)
    with empty.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM somebody_elses")) == 0


def test_an_unreachable_database_is_said_in_one_line() -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as unavailable:
        migrations.prepare(nowhere)
    assert unavailable.value.code == "kernel.database-unreachable"
    assert "\n" not in str(unavailable.value.params["reason"])


def set_version(database: Database, number: str) -> None:
    database.write(lambda session: session.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": number}))
