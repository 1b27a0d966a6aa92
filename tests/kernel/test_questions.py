"""A question says what the same statement says, and sees what the transaction has done."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import bindparam, literal_column, select
from sqlalchemy.exc import DBAPIError

from gongqi.kernel.events import EventRow
from gongqi.kernel.questions import Question
from gongqi.kernel.verbs import IdempotencyRow

AT = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
COLUMNS = (IdempotencyRow.key, IdempotencyRow.response, IdempotencyRow.at)
SINCE = Question(
    select(*COLUMNS).where(IdempotencyRow.at >= bindparam("since"), IdempotencyRow.verb == "v").order_by(COLUMNS[0])
)


def row(key: str, response: str | None = None) -> IdempotencyRow:
    return IdempotencyRow(actor_id="a", key=key, verb="v", payload_digest="d", response=response, at=AT)


def test_times_and_nothing_come_back_as_the_mapper_gives_them(database):
    database.write(lambda session: session.add_all([row("one"), row("two %s ?", "{}")]))
    for _ in range(2):  # the second time in the words of the first
        with database.reading() as session:
            assert SINCE.all(session, since=AT) == [("one", None, AT), ("two %s ?", "{}", AT)]
            assert SINCE.first(session, since=AT).key == "one"
            assert SINCE.first(session, since=AT.replace(year=2027)) is None


def test_json_comes_back_as_the_mapper_gives_it(database):
    database.write(
        lambda session: session.add(EventRow(id="e", kind="k", subject="s", payload={"a": [1, "二"]}, emitted_at=AT))
    )
    with database.reading() as session:
        assert Question(select(EventRow.payload)).all(session) == [({"a": [1, "二"]},)]


def test_what_the_transaction_has_done_is_seen(database):
    def work(session):
        session.add(row("new"))
        return SINCE.first(session, since=AT)

    assert database.write(work).key == "new"


def test_what_the_database_refuses_is_raised_as_the_mapper_raises_it(database):
    question = Question(select(literal_column("no_such_column", IdempotencyRow.key.type)))
    with database.reading() as session, pytest.raises(DBAPIError):
        question.first(session)


def test_a_session_that_begins_again_is_asked_in_its_new_transaction(database):
    broken = Question(select(literal_column("no_such_column", IdempotencyRow.key.type)))
    with database.reading() as session:
        assert SINCE.all(session, since=AT) == []
        database.write(lambda other: other.add(row("later")))
        assert SINCE.all(session, since=AT) == [], "it sees one moment"
        with pytest.raises(DBAPIError):
            broken.first(session)
        session.rollback()
        assert SINCE.first(session, since=AT).key == "later"
        session.commit()
        database.write(lambda other: other.add(row("after")))
        assert [each.key for each in SINCE.all(session, since=AT)] == ["after", "later"]
