"""Rows: one SQLAlchemy code path over SQLite and PostgreSQL.

SQLite: WAL; one writer engine (pool of 1, `BEGIN IMMEDIATE`, writers share commits: see `groupcommit`) and one reader
engine (`query_only`). A plain `BEGIN` that upgrades later fails or loses updates under concurrency; taking the write
lock first cannot. `synchronous=FULL`: what was acknowledged survives the power going.

PostgreSQL: writes run SERIALIZABLE, so that the domain may reason as if it were alone, as it truly is on SQLite. A
serialisation failure is not an error but a request to run the verb again; `write` does so, which is sound because a
verb never touches anything outside its transaction.
"""

from __future__ import annotations

import functools
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
from sqlalchemy import JSON, BigInteger, Connection, Engine, MetaData, create_engine, event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import QueuePool
from sqlalchemy.types import TypeDecorator

from gongqi.kernel.errors import Unavailable
from gongqi.kernel.groupcommit import MAX_GROUP, GroupCommit, Piece

WRITER_WAIT_SECONDS = 30.0  # how long a write queues behind others before it is told to come back
READER_POOL = 16
WRITER_POOL = 16  # of PostgreSQL
CONNECT_SECONDS = 10  # a server that swallows packets must not keep a start waiting for minutes
TRIES_BEFORE_QUEUEING = 2  # after so many lost races, the losers of this process stand in a line
MAX_WRITE_TRIES = 40  # serialisation retries; beyond, the contention is something a caller should know of
CACHE_KIBIBYTES = 16 * 1024

T = TypeVar("T")
Json = JSON().with_variant(JSONB(), "postgresql")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime stored as integer microseconds: the same order and precision on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else as_micros(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=int(value))


class Base(DeclarativeBase):
    """The parent of every table. Names of constraints are fixed so that migrations can find them again."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcTime, dict[str, Any]: Json, list[Any]: Json, int: BigInteger}  # noqa: RUF012


class Database:
    """The two engines of one database, and the two ways to use them: `reading` and `write`."""

    def __init__(self, url: str) -> None:
        self.url: URL = make_url(url.replace("postgresql://", "postgresql+psycopg://", 1))
        self._queue = threading.Lock()
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self.writer = _sqlite_engine(self.url, writer=True)
            self.reader = _sqlite_engine(self.url, writer=False)
            self._group = GroupCommit(self.writer, wait_seconds=WRITER_WAIT_SECONDS)
        else:
            self.writer = create_engine(
                self.url,
                pool_size=WRITER_POOL,
                max_overflow=8,
                pool_pre_ping=True,
                isolation_level="SERIALIZABLE",
                connect_args={"connect_timeout": CONNECT_SECONDS},
            )
            self.reader = create_engine(
                self.url,
                pool_size=READER_POOL,
                pool_pre_ping=True,
                isolation_level="REPEATABLE READ",
                connect_args={
                    "connect_timeout": CONNECT_SECONDS,
                    "options": "-c default_transaction_read_only=on",
                },
            )

    def close(self) -> None:
        self.writer.dispose()
        self.reader.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one moment and cannot write."""
        session = Session(self.reader, expire_on_commit=False, autoflush=False)
        try:
            yield session
        except PoolTimeout as error:
            raise Unavailable("kernel.busy", retry_after_seconds=2) from error
        finally:
            session.close()

    def write(self, work: Callable[[Session], T], *, isolation: str | None = None) -> T:
        """Run `work` in one write transaction and commit; run it again from the start if the database asks for it.

        Writers that fight over one row would otherwise retry each other to exhaustion: who has lost a few races waits
        for the other losers of this process, so that at most one of them is in the race.

        `isolation` lowers PostgreSQL's level for work that locks its rows itself (a queue's claim); SQLite has only one.

        Raises: Unavailable("kernel.busy") when others hold the database too long,
        Unavailable("kernel.disk-full") when it cannot grow, Unavailable("kernel.database-unreachable") when it is gone.
        """
        options = {"isolation_level": isolation} if isolation and not self.is_sqlite else None
        give_up_at = time.monotonic() + WRITER_WAIT_SECONDS
        duplicates = 0
        with ExitStack() as turn:
            for attempt in range(MAX_WRITE_TRIES):
                try:
                    if self.is_sqlite:
                        return self._group.run(work)
                    with Session(self.writer, expire_on_commit=False) as session, session.begin():
                        session.connection(execution_options=options)
                        return work(session)
                except PoolTimeout as error:
                    raise Unavailable("kernel.busy", retry_after_seconds=2) from error
                except DBAPIError as error:
                    if outage := outage_of(error):
                        raise outage from error
                    duplicates += _is_duplicate(error)
                    if not (_asks_to_retry(error) or (_is_duplicate(error) and duplicates == 1)):
                        raise
                if time.monotonic() > give_up_at:
                    break
                if attempt == TRIES_BEFORE_QUEUEING:
                    turn.enter_context(self._queue)
                time.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 4)))
        raise Unavailable("kernel.busy", retry_after_seconds=2)

    @property
    def writers(self) -> int:
        """How many writes may be in the database at once."""
        return 1 if self.is_sqlite else WRITER_POOL

    @property
    def batch_size(self) -> int:
        """How many pieces of work `write_all` commits at the price of one."""
        return MAX_GROUP if self.is_sqlite else 1

    def write_all(self, works: Sequence[Callable[[Session], T]]) -> list[T | Exception]:
        """Run each of `works` as `write` would, in this order; where one fails, its place holds the exception."""
        if not self.is_sqlite:
            return [_outcome(self.write, work) for work in works]
        give_up_at = time.monotonic() + WRITER_WAIT_SECONDS

        def outcome(piece: Piece) -> Any:
            if not isinstance(piece.error, (DBAPIError, PoolTimeout)):
                return piece.error or piece.output
            if time.monotonic() > give_up_at:
                return Unavailable("kernel.busy", retry_after_seconds=2)
            return _outcome(self.write, piece.work)  # which tries again, or names what is wrong

        return [outcome(piece) for piece in self._group.run_all(works)]


def insert_rows(connection: Connection, model: type[Base], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert `rows`, each in the order of the table's columns and as the database stores them, straight by the driver.

    For books, which insert more than all else: the mapper's unit of work, or a statement that is looked up and bound
    column by column, costs more than the insert. On SQLite a row that cannot be inserted leaves those before it to the
    caller's savepoint (OR FAIL). SQLite would otherwise be ready to put back each row by itself, and inside a savepoint
    that is a copy of several pages a row: half of the time.
    """
    statement = _insert_statement(model, connection.dialect)
    connection.exec_driver_sql(statement, rows[0] if len(rows) == 1 else list(rows))


@functools.cache
def _insert_statement(model: type[Base], dialect: Dialect) -> str:
    names = [dialect.identifier_preparer.quote(column.name) for column in model.__table__.columns]
    insert, mark = ("INSERT OR FAIL", "?") if dialect.name == "sqlite" else ("INSERT", "%s")
    return f"{insert} INTO {model.__tablename__} ({', '.join(names)}) VALUES ({', '.join([mark] * len(names))})"


def as_micros(moment: datetime) -> int:
    """A time as `UtcTime` stores it."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _outcome(write: Callable[[Any], T], work: Callable[[Session], T]) -> T | Exception:
    try:
        return write(work)
    except Exception as error:
        return error


def _asks_to_retry(error: DBAPIError) -> bool:
    """Serialisation failure 40001 or deadlock 40P01 (PostgreSQL); a writer in another process (SQLite)."""
    if getattr(error.orig, "sqlstate", None) in {"40001", "40P01"}:
        return True
    return isinstance(error, OperationalError) and "database is locked" in str(error.orig)


def _is_duplicate(error: DBAPIError) -> bool:
    """A unique violation may be the loser of a race, whose next run will see the winner's row, so the first is tried
    again; a genuine duplicate fails again and then surfaces."""
    return getattr(error.orig, "sqlstate", None) == "23505"


def outage_of(error: DBAPIError) -> Unavailable | None:
    """What is the machine's trouble and not the request's."""
    if getattr(error.orig, "sqlstate", None) == "53100" or "database or disk is full" in str(error.orig):
        return Unavailable("kernel.disk-full", retry_after_seconds=60, detail=str(error.orig))
    if "disk I/O error" in str(error.orig):  # SQLite's word for any write refused but for want of room
        return Unavailable("kernel.disk-failing", retry_after_seconds=60, detail=str(error.orig))
    if error.connection_invalidated:
        return Unavailable("kernel.database-unreachable", reason=type(error.orig).__name__, detail=str(error.orig))
    return None


def _from_json(stored: str | float) -> Any:
    """SQLite keeps a bare number as a number."""
    return orjson.loads(stored) if isinstance(stored, str) else stored


def _sqlite_engine(url: URL, *, writer: bool) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1 if writer else READER_POOL,
        max_overflow=0,
        pool_timeout=WRITER_WAIT_SECONDS,
        json_deserializer=_from_json,
        connect_args={"timeout": WRITER_WAIT_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we issue BEGIN ourselves; the driver's own timing loses updates
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA cache_size=-{CACHE_KIBIBYTES}")
        if not writer:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    # A savepoint is three words; compiled as a statement of its own each time, it costs more than the insert inside it.
    for method, statement in _SAVEPOINT.items():
        setattr(engine.dialect, method, functools.partial(_say, statement))
    return engine


_SAVEPOINT = {
    "do_savepoint": "SAVEPOINT {}",
    "do_rollback_to_savepoint": "ROLLBACK TO SAVEPOINT {}",
    "do_release_savepoint": "RELEASE SAVEPOINT {}",
}


def _say(statement: str, connection: Connection, name: str) -> None:
    driver: Any = connection.connection.dbapi_connection
    try:
        driver.execute(statement.format(name))
    except sqlite3.Error as error:
        raise DBAPIError.instance(statement, None, error, sqlite3.Error, dialect=connection.dialect) from error
