"""Two engines and two ways to use them; what the database asks is done again, what is over is said."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from gongqi.kernel import db as db_module
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.verbs import IdempotencyRow


def row(key: str, at: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> IdempotencyRow:
    return IdempotencyRow(actor_id="a", key=key, verb="v", payload_digest="d", response=None, at=at)


def test_times_come_back_to_the_microsecond_and_sort_as_stored(database):
    times = [datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)]
    times.append(times[1] + timedelta(days=200_000))
    for number, at in enumerate(times):
        database.write(lambda session, number=number, at=at: session.add(row(str(number), at)))
    with database.reading() as session:
        assert list(session.scalars(sqlalchemy.select(IdempotencyRow.at).order_by(IdempotencyRow.at))) == times


def test_a_reader_cannot_write(database):
    with database.reading() as session:
        session.add(row("x"))
        with pytest.raises(DBAPIError):
            session.flush()


def test_a_reader_sees_one_moment(database):
    count = sqlalchemy.select(sqlalchemy.func.count()).select_from(IdempotencyRow)
    with database.reading() as session:
        assert session.scalar(count) == 0
        database.write(lambda other: other.add(row("x")))
        assert session.scalar(count) == 0
    with database.reading() as session:
        assert session.scalar(count) == 1


def test_a_failed_write_leaves_nothing_and_keeps_its_own_error(database):
    def work(session):
        session.add(row("x"))
        session.flush()
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        database.write(work)
    with database.reading() as session:
        assert session.scalar(sqlalchemy.select(IdempotencyRow)) is None


def test_a_genuine_duplicate_surfaces(database):
    database.write(lambda session: session.add(row("x")))
    with pytest.raises(IntegrityError):
        database.write(lambda session: session.add(row("x")))


def test_a_write_is_run_again_when_the_database_asks_and_gives_up_in_the_end(database, monkeypatch):
    class Conflict(Exception):
        sqlstate = "40001"

    runs = []

    def work(session, until: int) -> str:
        runs.append(1)
        if len(runs) < until:
            raise OperationalError("", {}, Conflict())
        return "done"

    assert database.write(lambda session: work(session, 5)) == "done"
    assert len(runs) == 5
    monkeypatch.setattr(db_module, "MAX_WRITE_TRIES", 4)
    runs.clear()
    with pytest.raises(Unavailable) as caught:
        database.write(lambda session: work(session, 99))
    assert caught.value.code == "kernel.busy"
    assert len(runs) == 4


@pytest.mark.parametrize(
    ("state", "message", "gone", "code"),
    [
        ("53100", "could not extend file", False, "kernel.disk-full"),
        (None, "database or disk is full", False, "kernel.disk-full"),
        ("57P01", "terminating connection", True, "kernel.database-unreachable"),
    ],
)
def test_the_machines_trouble_is_told_apart_from_the_requests(database, state, message, gone, code):
    cause = type("Trouble", (Exception,), {"sqlstate": state})(message)

    def work(session):
        raise OperationalError("", {}, cause, connection_invalidated=gone)

    with pytest.raises(Unavailable) as caught:
        database.write(work)
    assert caught.value.code == code
    assert message not in str(caught.value)


def test_a_pool_that_stays_empty_says_busy_to_readers_and_writers(database, monkeypatch):
    for engine in (database.reader, database.writer):
        monkeypatch.setattr(engine.pool, "_timeout", 0.05)
    held = [database.writer.connect() for _ in range(_capacity(database.writer))]
    held += [database.reader.connect() for _ in range(_capacity(database.reader))]
    try:
        with pytest.raises(Unavailable) as write_refused:
            database.write(lambda session: None)
        with pytest.raises(Unavailable) as read_refused, database.reading() as session:
            session.scalar(sqlalchemy.select(IdempotencyRow))
    finally:
        for connection in held:
            connection.close()
    assert write_refused.value.code == read_refused.value.code == "kernel.busy"


def _capacity(engine: sqlalchemy.Engine) -> int:
    return engine.pool.size() + engine.pool._max_overflow  # type: ignore[attr-defined]


def test_sqlite_takes_its_lock_before_the_work_begins_even_against_another_process(database):
    if not database.is_sqlite:
        pytest.skip("PostgreSQL orders writers by their conflicts")
    inside, order = threading.Event(), []
    other = db_module.Database(str(database.url))

    def second() -> None:
        inside.wait()
        other.write(lambda session: order.append("second"))

    thread = threading.Thread(target=second)
    thread.start()

    def first(session) -> None:
        inside.set()
        thread.join(0.1)
        order.append("first")

    database.write(first)
    thread.join()
    other.close()
    assert order == ["first", "second"]
