"""How fast the ledger posts, beside the same rows inserted raw into the same tables in the same run.

    python -m bench ledger
    python -m bench.bench_ledger postgresql://…

The peer is the driver's own `executemany` of the finished rows by a plain INSERT, in the same batches, into the same
schema (indexes, foreign keys and triggers included), with nothing looked up, weighed or kept. Another peer says it as
the ledger does (INSERT OR FAIL), outside any savepoint: the least that these rows can cost. A third inserts the same
rows into bare SQLite tables without keys, triggers or indexes: the most that this disk and driver can do. Each
transaction of the ledger has its key looked up and its floors held, and moves two balances.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from bench import Figure
from gongqi.app import settle_memory
from gongqi.books.ledger import replay
from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.models import Account, Balance, Posting, Transaction
from gongqi.books.ledger.room import ROOM
from gongqi.books.ledger.service import Draft, Line
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.room import House, Kernel

BATCH = 1_000
OWNERS = 200
ROUNDS = 3  # the median of three: other work on the machine disturbs one of them
SINGLES = 1_000


def kernel_at(home: Path, url: str) -> Kernel:
    settings = Settings.from_environment({"GONGQI_HOME": str(home), "GONGQI_DATABASE_URL": url})
    database = Database(url)
    Base.metadata.drop_all(database.writer)
    Base.metadata.create_all(database.writer)
    blobs = FolderBlobs(home / "blobs")
    return Kernel(settings, House.build([ROOM], Vocabulary({})), database, blobs, record=lambda ctx, entry: None)


def accounts(kernel: Kernel) -> list[str]:
    def work(ctx: Any) -> list[str]:
        issuer = ledger.account(ctx, "foundation", "token", "issued", floor=None)
        opened = [ledger.account(ctx, f"org_{number:04}", "token") for number in range(OWNERS)]
        lines = [Line(account, 10**9) for account in opened]
        whole = (Line(issuer, -sum(line.amount for line in lines)), *lines)
        ledger.post(ctx, key="open", kind="bench.open", subject="bench", postings=whole)
        return opened

    return kernel.transact(work, reason="bench")


def drafts(opened: Sequence[str], count: int, prefix: str) -> list[Draft]:
    size = len(opened)
    return [
        Draft(
            f"{prefix}:{number}",
            "bench.call",
            f"call_{number:08}",
            (Line(opened[number % size], -3), Line(opened[(number * 7 + 1) % size], 3)),
            {"tokens": 3},
        )
        for number in range(count)
    ]


def batches(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def post_all(kernel: Kernel, todo: Sequence[Draft], size: int) -> None:
    for batch in batches(todo, size):
        kernel.transact(lambda ctx, batch=batch: ledger.post_many(ctx, batch), reason="bench")


def raw_rows(kernel: Kernel) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """Every row of the finished book as the database stores it, table by table."""
    found = []
    with kernel.db.reader.connect() as connection:
        for model in (Account, Transaction, Posting, Balance):
            columns = [column.name for column in model.__table__.columns]
            cast = ["facts::text" if name == "facts" and not kernel.db.is_sqlite else name for name in columns]
            rows = connection.exec_driver_sql(f"SELECT {', '.join(cast)} FROM {model.__tablename__}").all()
            found.append((f"{model.__tablename__} ({', '.join(columns)})", [tuple(row) for row in rows]))
    return found


def insert_all(
    kernel: Kernel, rows: list[tuple[str, list[tuple[Any, ...]]]], size: int, limit: int, insert: str = "INSERT"
) -> float:
    """Seconds to insert the first `limit` transactions in batches of `size`; accounts and balances stand already."""
    mark = "?" if kernel.db.is_sqlite else "%s"
    (account, opened), (transaction, heads), (posting, lines), (balance, amounts) = rows
    heads = sorted(heads)[1 : limit + 1]  # without the one that opened the accounts
    lines = sorted(lines)[-2 * (len(rows[1][1]) - 1) :]
    todo = list(zip(batches(heads, size), batches(lines, 2 * size), strict=False))

    def run(connection: Any, target: str, values: Sequence[tuple[Any, ...]]) -> None:
        marks = ", ".join([mark] * len(values[0]))
        connection.exec_driver_sql(f"{insert} INTO {target} VALUES ({marks})", list(values))

    def work() -> None:
        for some_heads, some_lines in todo:
            with kernel.db.writer.begin() as connection:
                run(connection, transaction, some_heads)
                run(connection, posting, some_lines)

    with kernel.db.writer.begin() as connection:
        run(connection, account, opened)
        run(connection, balance, amounts)
    return seconds(work)


def insert_bare(home: Path, rows: list[tuple[str, list[tuple[Any, ...]]]], size: int) -> float:
    """The same rows into two SQLite tables with nothing but a rowid, same journal and sync."""
    connection = sqlite3.connect(home / "bare.sqlite", isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    (transaction, heads), (posting, lines) = rows[1], rows[2]
    connection.execute(f"CREATE TABLE {transaction}")
    connection.execute(f"CREATE TABLE {posting}")

    def work() -> None:
        for target, values, width in ((transaction, heads, size), (posting, lines, 2 * size)):
            marks = ", ".join("?" * len(values[0]))
            for batch in batches(values, width):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(f"INSERT INTO {target} VALUES ({marks})", batch)
                connection.execute("COMMIT")

    taken = seconds(work)
    connection.close()
    return taken


def one_round(home: Path, url: str | None, count: int) -> dict[str, float]:
    """Rates per second of one run on fresh databases."""
    kernel = kernel_at(home, url or f"sqlite:///{home / 'ledger.sqlite'}")
    opened = accounts(kernel)
    todo = drafts(opened, count, "batch")
    rates = {"batched": 2 * count / seconds(lambda: post_all(kernel, todo, BATCH))}
    rates["replayed keys"] = 2 * count / seconds(lambda: post_all(kernel, todo, BATCH))
    with kernel.db.reading() as session:
        rates["check"] = 2 * count / seconds(lambda: replay.check(session))
        stored = len(session.scalars(select(Transaction.id)).all())
    if stored != count + 1:
        raise SystemExit(f"the book has {stored} transactions instead of {count + 1}")
    rows = raw_rows(kernel)
    singles = drafts(opened, SINGLES, "single")
    rates["one by one"] = 2 * SINGLES / seconds(lambda: post_all(kernel, singles, 1))
    kernel.db.close()

    peer = kernel_at(home, url or f"sqlite:///{home / 'raw.sqlite'}")
    rates["raw"] = 2 * count / insert_all(peer, rows, BATCH, count)
    peer.db.close()
    rates["least"] = rates["raw"]
    if url is None:
        least = kernel_at(home, f"sqlite:///{home / 'least.sqlite'}")
        rates["least"] = 2 * count / insert_all(least, rows, BATCH, count, "INSERT OR FAIL")
        least.db.close()
    rates["bare"] = 2 * count / insert_bare(home, rows, BATCH)

    alone = kernel_at(home, url or f"sqlite:///{home / 'one.sqlite'}")
    rates["raw one by one"] = 2 * SINGLES / insert_all(alone, rows, 1, SINGLES)
    alone.db.close()
    return rates


def run(count: int = 20_000, url: str | None = None) -> list[Figure]:
    """The median of `ROUNDS` runs on fresh databases, on SQLite unless `url` names a throw-away PostgreSQL database."""
    settle_memory()  # as the server does
    rounds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as home:
            rounds.append(one_round(Path(home), url, count))
    rates = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return [
        Figure(
            f"ledger: {name}", rates[ours], "postings/s", target, what, rates[peer], rates[ours] / rates[peer], least
        )
        for name, ours, target, least, what, peer in (
            ("batched, idempotent", "batched", "≥ 50,000; ratio ≥ 0.5", 0.5, "raw batched inserts", "raw"),
            ("batched, idempotent", "batched", "", None, "the same inserts, by OR FAIL", "least"),
            ("batched, idempotent", "batched", "", None, "bare tables without a key", "bare"),
            ("keys seen before", "replayed keys", "", None, "raw batched inserts", "raw"),
            ("one durable commit each", "one by one", "", None, "raw inserts, one by one", "raw one by one"),
            ("full replay", "check", "", None, "raw batched inserts", "raw"),
        )
    ]


if __name__ == "__main__":  # on PostgreSQL: python -m bench.bench_ledger URL, a database that is emptied
    for figure in run(url=sys.argv[1]):
        print(figure)
