"""The law of the evidence book: no byte of it changes unseen, and what changed is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import select, text

from gongqi.books.evidence import service
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.models import CheckpointRow, EntryRow
from gongqi.books.evidence.room import ROOM
from gongqi.books.evidence.tiles import Tile, parse_bundle
from gongqi.books.evidence.verify import verify_log
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Entry
from gongqi.kernel.worker import Worker

ROUNDS = (3, 250, 8)  # a partial tile, one that fills, and the beginning of the next
TEXT_COLUMNS = ("id", "kind", "actor", "verb", "subject")
law = examples(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def book(build: Any, clock: Any) -> Kernel:
    kernel = build(House.build([ROOM], Vocabulary({})), record=service.append, clock=clock)
    kernel.parts[SigningKeys] = SigningKeys.load_or_generate(kernel.settings.home / "keys")
    kernel.transact(service.ensure, reason="start")
    worker = Worker(kernel, threads=0)

    def several(ctx: Any, count: int) -> None:
        for number in range(count):
            entry = Entry(
                id=ctx.new_id("ev"),
                kind="test.done",
                actor="per_1",
                verb="test:thing:do",
                subject=f"thing_{number}",
                at=ctx.now,
                facts={"number": number},
                private={"n": number},
                request_id="req_1",
            )
            service.append(ctx, entry)

    for count in ROUNDS:
        clock.advance(minutes=1)
        kernel.transact(lambda ctx, count=count: several(ctx, count), reason="test")
        worker.run_until_idle()
    assert list(verify_log(kernel.settings.home, kernel.db)) == []
    return kernel


def named(kernel: Kernel) -> set[tuple[str, int | None]]:
    return {(fault.path, fault.entry) for fault in verify_log(kernel.settings.home, kernel.db)}


def test_a_changed_byte_of_any_file_is_found_and_named(book: Kernel) -> None:
    root = book.settings.home / "log"
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "lock"]
    assert {"checkpoint", "000", "5", "1"} <= {path.name for path in files}

    @law
    @given(file=st.sampled_from(files), place=st.integers(0, 2**20), bits=st.integers(1, 255))
    def holds(file: Path, place: int, bits: int) -> None:
        whole = file.read_bytes()
        place %= len(whole)
        file.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
        try:
            path = str(file.relative_to(root))
            faults = named(book)
            assert {fault[0] for fault in faults} == {path}
            entry = entry_at(path, whole, place)
            if entry is not None:
                assert faults == {(path, entry)}
        finally:
            file.write_bytes(whole)

    holds()


def entry_at(path: str, whole: bytes, place: int) -> int | None:
    """The entry of a bundle in whose text `place` lies; None for other files and for an entry's length."""
    if not path.startswith("tile/entries/"):
        return None
    tile = Tile.parse(path)
    start = 0
    for index, entry in enumerate(parse_bundle(tile, whole), tile.index * 256):
        if start + 2 <= place < start + 2 + len(entry):
            return index
        start += 2 + len(entry)
    return None


def test_a_changed_byte_of_any_row_is_found_and_named(book: Kernel) -> None:
    with book.db.reading() as session:
        rows = list(session.scalars(select(EntryRow).order_by(EntryRow.index)))
    columns = (*TEXT_COLUMNS, "at", "index", "leaf", "private")

    @law
    @given(row=st.sampled_from(rows), column=st.sampled_from(columns), place=st.integers(0, 2**20))
    def holds(row: EntryRow, column: str, place: int) -> None:
        old = getattr(row, column)
        new = changed(old, place)
        key = new if column == "id" else row.id
        put(book, column, new, where=row.id)
        try:
            faults = named(book)
            if column == "index":
                assert {(f"evidence_entry/{row.id}", row.index), (f"evidence_entry/{row.id}.index", new)} <= faults
            else:
                assert faults == {(f"evidence_entry/{key}.{column}", row.index)}
        finally:
            put(book, column, old, where=key)

    holds()


def test_a_changed_byte_of_any_kept_checkpoint_is_found_and_named(book: Kernel) -> None:
    with book.db.reading() as session:
        rows = list(session.scalars(select(CheckpointRow)))
    assert [row.size for row in rows] == [253, 261]

    @law
    @given(row=st.sampled_from(rows), place=st.integers(0, 2**20), shift=st.integers(1, 1000))
    def holds(row: CheckpointRow, place: int, shift: int) -> None:
        set_note = text("UPDATE evidence_checkpoint SET note = :note WHERE size = :size")
        set_size = text("UPDATE evidence_checkpoint SET size = :new WHERE size = :size")
        try:
            run(book, set_note, note=changed(row.note, place), size=row.size)
            assert {path for path, _ in named(book)} == {f"evidence_checkpoint/{row.size}"}
        finally:
            run(book, set_note, note=row.note, size=row.size)
        if row.size + shift in (253, 261):
            return
        try:
            run(book, set_size, new=row.size + shift, size=row.size)
            assert f"evidence_checkpoint/{row.size + shift}" in {path for path, _ in named(book)}
        finally:
            run(book, set_size, new=row.size, size=row.size + shift)

    holds()


def changed(value: Any, place: int) -> Any:
    """The value with one character, byte or microsecond altered; an index moves to a place that nobody has."""
    if isinstance(value, int):
        return 261 + place
    if isinstance(value, bytes):
        place %= len(value)
        return value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
    if isinstance(value, str):
        place %= len(value)
        return value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]
    return value.replace(microsecond=value.microsecond ^ 1)


def put(kernel: Kernel, column: str, value: Any, *, where: str) -> None:
    changes = EntryRow.__table__.update().where(EntryRow.__table__.c.id == where).values({column: value})
    kernel.db.write(lambda session: session.execute(changes))


def run(kernel: Kernel, statement: Any, **values: Any) -> None:
    kernel.db.write(lambda session: session.execute(statement, values))
