"""One suite for all backends: SQLite by default, PostgreSQL when `GONGQI_TEST_POSTGRES` names a server.

Every test that asks for `database_url` gets a database of its own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.room import House, Kernel

POSTGRES = os.environ.get("GONGQI_TEST_POSTGRES")


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    if not POSTGRES:
        yield f"sqlite:///{tmp_path / 'gongqi.sqlite'}"
        return
    name = f"test_{secrets.token_hex(8)}"
    server = sqlalchemy.create_engine(
        POSTGRES.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield f"{POSTGRES.rsplit('/', 1)[0]}/{name}"
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings.from_environment({"GONGQI_HOME": str(tmp_path), "GONGQI_DATABASE_URL": database_url})


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    Base.metadata.create_all(database.writer)
    yield database
    database.close()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def build(settings: Settings, database_url: str) -> Iterator:
    """`build(house, record=..., clock=...)`: a kernel on a fresh database holding every table known at that moment."""
    opened: list[Database] = []

    def make(house: House, *, record=lambda ctx, entry: None, clock=None) -> Kernel:
        database = Database(database_url)
        opened.append(database)
        Base.metadata.create_all(database.writer)
        return Kernel(settings, house, database, FolderBlobs(settings.home / "blobs"), record=record, clock=clock)

    yield make
    for database in opened:
        database.close()
