"""A select that is asked again and again, compiled once.

To make a statement anew for each asking, to find its compiled form and to bind it takes SQLAlchemy up to fifty times as
long as SQLite takes to find one row by its keys. A `Question` is the same statement, made of the same policies, with the
driver's own words for it kept; what goes in and what comes out is converted as the columns' types say. It takes values
by name, one for each, so no lists; and it gives plain tuples with the columns' names, never rows of the mapper.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

Convert = Callable[[Any], Any]
_HELD = "question.connection"  # in a session's notes: its transaction, and the connection of that


class Question:
    """`statement` is a select; `first` and `all` ask it in the session's snapshot. Values that it holds itself need not be
    given."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._wordings: dict[str, _Wording] = {}

    def first(self, session: Session, **given: Any) -> Any | None:
        return next(self._ask(session, given), None)

    def all(self, session: Session, **given: Any) -> list[Any]:
        return list(self._ask(session, given))

    def _ask(self, session: Session, given: dict[str, Any]) -> Iterator[Any]:
        if session.autoflush:
            session.flush()  # as the mapper would: what this transaction has done, it sees
        connection = _connection(session)
        dialect = connection.dialect
        wording = self._wordings.get(dialect.name)
        if wording is None:
            wording = self._wordings[dialect.name] = _Wording(self._statement, dialect)
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        try:
            cursor.execute(wording.text, wording.bind(given))
            rows = cursor.fetchall()
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(wording.text, None, error, dialect.loaded_dbapi.Error, dialect=dialect) from error
        finally:
            cursor.close()
        return map(wording.row, rows)


def _connection(session: Session) -> Connection:
    """The connection of the transaction that the session is in, which stays the same until that ends; to ask the session
    each time costs as much as the question."""
    transaction = session.get_transaction()
    held = session.info.get(_HELD)
    if held is not None and transaction is not None and transaction is held[0] and transaction.is_active:
        return held[1]
    connection = session.connection()
    session.info[_HELD] = session.get_transaction(), connection
    return connection


class _Wording:
    """The statement as one database hears it."""

    def __init__(self, statement: Select[Any], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        self._order = compiled.positiontup if compiled.positional else None
        bound = {name: each.type.dialect_impl(dialect).bind_processor(dialect) for name, each in compiled.binds.items()}
        self._into = {name: convert for name, convert in bound.items() if convert}
        columns = statement.selected_columns
        self._shape: Any = namedtuple("Row", [column.key for column in columns], rename=True)
        out = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
        self._out: list[tuple[int, Convert]] = [(place, convert) for place, convert in enumerate(out) if convert]
        self._fixed = {name: self._bound(name, value) for name, value in compiled.params.items()}

    def bind(self, given: dict[str, Any]) -> Any:
        values = self._fixed | {name: self._bound(name, value) for name, value in given.items()}
        return values if self._order is None else [values[name] for name in self._order]

    def row(self, values: Any) -> Any:
        if not self._out:
            return self._shape._make(values)
        values = list(values)
        for place, convert in self._out:
            values[place] = convert(values[place])
        return self._shape._make(values)

    def _bound(self, name: str, value: Any) -> Any:
        convert = self._into.get(name)
        return convert(value) if convert else value
