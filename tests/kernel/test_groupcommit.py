"""Writers on SQLite share a commit, and share nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from gongqi.kernel.db import Database
from gongqi.kernel.errors import Unavailable


@pytest.fixture
def counter(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'group.sqlite'}")
    database.write(lambda session: session.execute(text("CREATE TABLE note (n INTEGER PRIMARY KEY, body TEXT)")))
    yield database
    database.close()


def numbers(database: Database) -> list[int]:
    with database.reading() as session:
        return list(session.scalars(text("SELECT n FROM note ORDER BY n")))


def together(works) -> list[BaseException | None]:
    """Run all of `works` in threads that start at once; what each raised."""
    errors: list[BaseException | None] = [None] * len(works)
    gate = threading.Barrier(len(works))

    def run(number: int) -> None:
        gate.wait()
        try:
            works[number]()
        except BaseException as error:
            errors[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return errors


def insert(database: Database, number: int, *, fail: bool = False):
    def work(session) -> None:
        session.execute(text("INSERT INTO note VALUES (:n, '')"), {"n": number})
        if fail:
            raise ValueError(number)

    return lambda: database.write(work)


def test_a_piece_that_fails_is_undone_alone(counter: Database) -> None:
    errors = together([insert(counter, n, fail=n % 3 == 0) for n in range(60)])
    assert [n for n, error in enumerate(errors) if error] == [n for n in range(60) if n % 3 == 0]
    assert numbers(counter) == [n for n in range(60) if n % 3]


def test_writers_that_wait_share_a_commit(counter: Database) -> None:
    commits = []
    event.listen(counter.writer, "commit", lambda _connection: commits.append(1))
    assert not any(together([insert(counter, n) for n in range(100)]))
    assert numbers(counter) == list(range(100))
    assert len(commits) < 100


def test_nobody_is_answered_before_the_commit(counter: Database) -> None:
    seen: list[bool] = []

    def write_and_look(number: int) -> None:
        insert(counter, number)()
        seen.append(number in numbers(counter))

    assert not any(together([lambda n=n: write_and_look(n) for n in range(50)]))
    assert seen == [True] * 50


def test_a_full_disk_refuses_whole_groups_and_damages_nothing(counter: Database) -> None:
    counter.write(lambda session: session.execute(text("PRAGMA max_page_count = 12")))

    def fill(number: int):
        body = {"n": number, "body": "x" * 3000}
        return lambda: counter.write(lambda session: session.execute(text("INSERT INTO note VALUES (:n, :body)"), body))

    errors = together([fill(n) for n in range(40)])
    refused = [error for error in errors if error]
    assert refused
    assert all(isinstance(error, Unavailable) and error.code == "kernel.disk-full" for error in refused)
    assert numbers(counter) == [n for n, error in enumerate(errors) if error is None]
    counter.write(lambda session: session.execute(text("PRAGMA max_page_count = 1000000")))
    assert not any(together([fill(n) for n in range(100, 110)]))
    with counter.reading() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"


def test_works_run_together_keep_their_order_and_fail_alone(counter: Database) -> None:
    def work(n: int):
        def run(session) -> int:
            session.execute(text("INSERT INTO note VALUES (:n, '')"), {"n": n})
            if n % 5 == 0:
                raise ValueError(n)
            return session.scalar(text("SELECT COUNT(*) FROM note"))

        return run

    found = counter.write_all([work(n) for n in range(1, 151)])  # more than one group
    kept = [n for n in range(1, 151) if n % 5]
    assert [n for n, outcome in enumerate(found, 1) if isinstance(outcome, ValueError)] == list(range(5, 151, 5))
    assert [outcome for outcome in found if isinstance(outcome, int)] == list(range(1, len(kept) + 1))
    assert numbers(counter) == kept


def test_works_that_the_database_refuses_are_named_one_by_one(counter: Database) -> None:
    insert_7 = text("INSERT INTO note VALUES (7, '')")
    works = [lambda session, statement=statement: session.execute(statement) and "done" for statement in [insert_7] * 3]
    first, *others = counter.write_all(works)
    assert first == "done"
    assert all(isinstance(outcome, IntegrityError) for outcome in others)
    assert numbers(counter) == [7]
