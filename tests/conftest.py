"""One suite for all backends: SQLite by default, PostgreSQL when `GONGQI_TEST_POSTGRES` names a server.

Every test that asks for `database_url` gets a database of its own, at the newest revision and with the tables that
tests declare: a copy of one that was made once, because making one takes a quarter of a second.

No test, no error code: whatever error a test makes is noted, and when the whole suite has run (`make test`, then `make
test-long`) it fails at its end when a code of the catalogue was never among them. Workers of pytest-xdist send home what
they noted with their results.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib.util
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import sqlalchemy
from jinja2.bccache import Bucket
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

from gongqi import migrations
from gongqi.governance.ethics.evaluate import Unfit
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.errors import GongqiError
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.words import Words
from gongqi.resources.hub.formats import Finding

POSTGRES = os.environ.get("GONGQI_TEST_POSTGRES")
SOURCE = Path(__file__).parents[1] / "src" / "gongqi"
DEFAULT = "not browser and not slow and not long and not heavy"  # what `make test` says after `-m`
ALL_OF_A_FILE = re.compile(r"^pytestmark = (\[[^]]*\]|.*)", re.MULTILINE)
ELSEWHERE = re.compile(r"pytest\.mark\.(browser|slow|long|heavy)\b")
LONG = "(long or heavy) and not slow"  # and `make test-long`
NOTED = Path(__file__).parents[1] / ".made-codes"  # what the first of them made, for the second to add to
# Imported at the first word to them: every worker reads every test, and some five seconds of what others wrote is then
# imported by the one worker that runs it.
LATE = ("anthropic", "mlcroissant", "openai")
MADE: set[str] = set()  # codes of the errors made so far, here and by the workers that have come home


class CompiledTemplates(jinja2.BytecodeCache):
    """Many a test has a console of its own, and Jinja would compile every template for each of them again."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self.kept.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.kept[bucket.key, bucket.checksum] = bucket.code


jinja2.Environment.__init__ = functools.partialmethod(  # type: ignore[method-assign, assignment]
    jinja2.Environment.__init__, bytecode_cache=CompiledTemplates()
)

# Every test has engines of its own, and SQLAlchemy would compile every statement for each of them again.
COMPILED = LRUCache(5_000)
DefaultDialect.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]  part of a cache's key
DefaultDialect.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]


@event.listens_for(Engine, "engine_connect")
def hasten(connection: Connection) -> None:
    """Statements are compiled once; and in this process, where no power goes and nobody is killed, a commit of SQLite
    does not wait for the disk."""
    connection.engine._compiled_cache = COMPILED
    if connection.dialect.name == "sqlite" and not connection.info.get("is_hasty"):
        driver: Any = connection.connection.driver_connection
        connection.info["is_hasty"] = bool(driver.execute("PRAGMA synchronous=OFF"))


@contextlib.contextmanager
def database_in(folder: Path, *, empty: bool = False) -> Iterator[str]:
    """The address of a fresh database, gone afterwards."""
    if not POSTGRES:
        path = folder / "gongqi.sqlite"
        if not empty:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pattern(frozenset(Base.metadata.tables)), path)
        yield f"sqlite:///{path}"
        return
    name = f"test_{secrets.token_hex(8)}"
    say(f"CREATE DATABASE {name}" + ("" if empty else f" TEMPLATE {pattern(frozenset(Base.metadata.tables))}"))
    yield address_of(name)
    say(f"DROP DATABASE {name} WITH (FORCE)")


@functools.cache
def pattern(tables: frozenset[str]) -> str:
    """The database that is copied (SQLite: its file; PostgreSQL: its name) when these tables are known."""
    name = f"pattern_{secrets.token_hex(8)}"
    if POSTGRES:
        say(f"CREATE DATABASE {name}")
        atexit.register(say, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        database = Database(address_of(name))
    else:
        folder = tempfile.TemporaryDirectory()
        atexit.register(folder.cleanup)
        name = f"{folder.name}/pattern.sqlite"
        database = Database(f"sqlite:///{name}")
    migrations.run(database)
    Base.metadata.create_all(database.writer)
    database.close()  # SQLite: what its journal holds is in the file then
    return name


def address_of(name: str) -> str:
    return f"{str(POSTGRES).rsplit('/', 1)[0]}/{name}"


def say(statement: str) -> None:
    with server().connect() as connection:
        connection.exec_driver_sql(statement)


@functools.cache
def server() -> sqlalchemy.Engine:
    url = str(POSTGRES).replace("postgresql://", "postgresql+psycopg://", 1)
    return sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")


@pytest.fixture(scope="session")
def new_database() -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """For what is shared by several tests: `with new_database(folder) as url`."""
    return database_in


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    with database_in(tmp_path) as url:
        yield url


@pytest.fixture
def empty_database_url(tmp_path: Path) -> Iterator[str]:
    """A database without a table."""
    with database_in(tmp_path, empty=True) as url:
        yield url


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings.from_environment({"GONGQI_HOME": str(tmp_path), "GONGQI_DATABASE_URL": database_url})


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def bucket() -> Any:
    """tests/sim/bucket.py, where it can also be used by hand: `with bucket.bucket() as endpoint`."""
    spec = importlib.util.spec_from_file_location("gongqi_bucket", Path(__file__).parent / "sim" / "bucket.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def s3_endpoint(bucket: Any) -> Iterator[str]:
    with bucket.bucket() as endpoint:
        yield endpoint


@pytest.fixture
def s3_address(s3_endpoint: str, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A `GONGQI_BLOBS_URL` under a prefix of its own, with the keys in the environment."""
    for name, value in bucket.KEYS.items():
        monkeypatch.setenv(name, value)
    return f"s3://blobs/{secrets.token_hex(8)}?endpoint={s3_endpoint}"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def build(settings: Settings, database_url: str) -> Iterator:
    """`build(house, record=..., clock=...)`: a kernel on a fresh database."""
    opened: list[Database] = []

    def make(house: House, *, record=lambda ctx, entry: None, clock=None) -> Kernel:
        database = Database(database_url)
        opened.append(database)
        return Kernel(settings, house, database, FolderBlobs(settings.home / "blobs"), record=record, clock=clock)

    yield make
    for database in opened:
        database.close()


# ---- every error code is made by some test ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def made_codes() -> set[str]:
    """For a test that reads a code off a process it has started: `made_codes.add(code)`."""
    return MADE


def pytest_configure(config: pytest.Config) -> None:
    """A code is made as an error, as a finding in a file, or as the reason why a model cannot be evaluated."""
    for family in (GongqiError, Finding, Unfit):
        family.__init__ = noting(family.__init__)  # type: ignore[method-assign]
    for name in LATE:
        sys.modules.setdefault(name, Late(name))


class Late(ModuleType):
    """A module that is imported when something of it is asked for. To be looked at, as pytest looks at all that a file of
    tests holds, is not to be asked."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name != "__path__":
            raise AttributeError(name)
        if sys.modules[self.__name__] is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file of which `make test` runs nothing is not even read by it: each worker reads all that there is, and what such
    files import takes as long as many tests."""
    if config.option.markexpr != DEFAULT:
        return None
    if not collection_path.match("test_*.py"):
        return True if collection_path.name == "browser" else None
    of_all = ALL_OF_A_FILE.search(collection_path.read_text("utf-8"))
    return True if of_all and ELSEWHERE.search(of_all[0]) else None


def pytest_collection_finish() -> None:
    """What has been imported stays; to look through it for garbage again and again took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 50)


def noting(build: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(build)
    def build_and_note(self: Any, code: str, *values: Any, **named: Any) -> None:
        MADE.add(code)
        build(self, code, *values, **named)

    return build_and_note


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    MADE.update(getattr(node, "workeroutput", {}).get("codes", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config: Any = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["codes"] = sorted(MADE)
        return
    if is_run_of(config, DEFAULT) and not POSTGRES:
        NOTED.write_text("\n".join(sorted(MADE)), "ascii")
    if is_whole(config) and session.exitstatus == pytest.ExitCode.OK and never_made():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if is_whole(config) and (codes := never_made()):
        terminalreporter.section("error codes that no test makes")
        for code in codes:
            terminalreporter.line(code)


def is_whole(config: pytest.Config) -> bool:
    """Whether every test has run when this run ends: all at once, or `make test` and then `make test-long`."""
    if is_run_of(config, LONG) and not POSTGRES and NOTED.exists():
        MADE.update(NOTED.read_text("ascii").split())
        return True
    return is_run_of(config, "")


def is_run_of(config: pytest.Config, marks: str) -> bool:
    asked = config.option
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and asked.markexpr == marks
    return everything and not (asked.keyword or asked.maxfail or asked.collectonly)


def never_made() -> list[str]:
    words = Words()
    for path in SOURCE.glob("**/words.toml"):
        words.load(path)
    return sorted(words.errors.keys() - MADE)


@pytest.fixture(scope="session")
def house_tables() -> set[str]:
    """The tables of the product; tests of the kernel declare some of their own on the same metadata."""
    mapped = (mapper.class_ for mapper in Base.registry.mappers)
    return {each.__tablename__ for each in mapped if each.__module__.startswith("gongqi.")}
