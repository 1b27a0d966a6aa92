"""The numbered revisions and the models say the same, and nothing is touched that should not be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gongqi import migrations, rooms
from gongqi.books.ledger import models as ledger
from gongqi.books.ledger import replay, rules
from gongqi.kernel.clock import SystemClock
from gongqi.kernel.db import Base, Database, as_micros
from gongqi.kernel.errors import Refused, Unavailable


@pytest.fixture
def empty(empty_database_url: str):
    database = Database(empty_database_url)
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


def test_a_book_from_before_is_carried_over_whole_and_stays_append_only(empty: Database) -> None:
    migrations.run(empty, "0012")
    at = as_micros(SystemClock().now())
    rows = [
        f"INSERT INTO ledger_account VALUES ('foundation:credit:issued', 'foundation', 'credit', 'issued', NULL, {at})",
        f"INSERT INTO ledger_account VALUES ('org_x:credit:available', 'org_x', 'credit', 'available', 0, {at})",
        "INSERT INTO ledger_transaction VALUES "
        f"(1, '{rules.transaction_id('k')}', 'k', '{rules.digest_of(BEFORE)}', 't.open', 's', '{{}}', {at}, NULL, NULL)",
        "INSERT INTO ledger_posting VALUES (1, 0, 'foundation:credit:issued', -5, -5)",
        "INSERT INTO ledger_posting VALUES (1, 1, 'org_x:credit:available', 5, 5)",
        "INSERT INTO ledger_balance VALUES ('foundation:credit:issued', -5)",
        "INSERT INTO ledger_balance VALUES ('org_x:credit:available', 5)",
    ]
    with empty.writer.begin() as connection:
        for row in rows:
            connection.exec_driver_sql(row)
    migrations.prepare(empty, upgrade=True)
    with empty.reading() as session:
        book = replay.report(session)
    assert (book.true, book.transactions, book.postings) == (True, 1, 2)
    for statement, why in (
        ("UPDATE ledger_posting SET amount = 6 WHERE position = 1", "append-only"),
        ("DELETE FROM ledger_posting", "append-only"),
        ("INSERT INTO ledger_posting VALUES (9, 0, 'org_x:credit:available', 1, 6)", "(?i)foreign key"),
    ):
        with pytest.raises(DBAPIError, match=why), empty.writer.begin() as connection:
            connection.exec_driver_sql(statement)


def test_calls_from_before_there_were_tiers_and_statements_are_summed_by_month(empty: Database) -> None:
    migrations.run(empty, "0023")
    names = (
        "id org key project route ending at duration_us attempts input_tokens cached_tokens output_tokens is_estimated"
    )
    names += " is_capped price price_version unit input_nanos cached_nanos output_nanos cost_nanos snapshot evidence"
    insert = text(
        f"INSERT INTO model_usage ({', '.join(names.split())}) VALUES (:id, 'org_x', 'k', 'p', 'mrt_x', :ending, :at, 1, 1, "
        "3, 1, 2, false, false, 'price_x', 1, 'CNY-fen', 1, 1, 1, 5, 1, 'ev')"
    )
    last, first = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    calls = (("a", "complete", last), ("b", "refused", first), ("c", "cut", first))
    with empty.writer.begin() as connection:
        connection.execute(insert, [{"id": id, "ending": ending, "at": as_micros(at)} for id, ending, at in calls])
    migrations.prepare(empty, upgrade=True)
    with empty.reading() as session:
        months = session.execute(text("SELECT month, calls, input_tokens, cost_nanos FROM model_month ORDER BY month"))
        assert [tuple(row) for row in months] == [("2026-10", 1, 3, 5), ("2026-11", 1, 6, 10)]
        told = session.execute(text("SELECT DISTINCT tier, aid_nanos, fund FROM model_usage"))
        assert [tuple(row) for row in told] == [("general", 0, None)]


BEFORE = rules.Draft(
    "k", "t.open", "s", (rules.Line("foundation:credit:issued", -5), rules.Line("org_x:credit:available", 5))
)
