"""What `gongqi verify log` finds, and what it rightly lets pass."""

from __future__ import annotations

import shutil
from typing import Any

from sqlalchemy import delete, insert, select, update

from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.models import CheckpointRow, EntryRow
from gongqi.books.evidence.tiles import Fault
from gongqi.books.evidence.verify import verify_log


def faults(book: Any) -> list[Fault]:
    return list(verify_log(book.home, book.kernel.db))


def change(book: Any, statement: Any) -> None:
    book.kernel.db.write(lambda session: session.execute(statement))


def test_a_whole_log_has_no_fault_with_or_without_its_database(book: Any) -> None:
    assert faults(book) == []
    book.fill(1, 255, 1, 30)
    book.record()  # and one that still waits for its place
    assert faults(book) == []
    assert list(verify_log(book.home)) == []
    assert list(verify_log(book.home, trusted=book.kernel.part(SigningKeys).public)) == []


def test_keys_that_the_reader_brings_are_the_ones_that_count(book: Any) -> None:
    book.fill(2)
    assert Fault("checkpoint") in list(verify_log(book.home, trusted=SigningKeys.generate().public))


def test_an_older_checkpoint_put_back_is_found(book: Any) -> None:
    file = book.home / "log" / "checkpoint"
    book.fill(2)
    older = file.read_bytes()
    book.fill(2, 2)
    file.write_bytes(older)
    assert faults(book) == [Fault("checkpoint")]


def test_a_checkpoint_that_is_gone_is_found(book: Any) -> None:
    book.fill(2, 2)
    (book.home / "log" / "checkpoint").unlink()
    assert faults(book) == [Fault("checkpoint")]
    assert list(verify_log(book.home)) == [Fault("checkpoint")]


def test_a_kept_checkpoint_of_another_history_is_found(book: Any) -> None:
    book.fill(2, 2)
    with book.kernel.db.reading() as session:
        note = session.scalars(select(CheckpointRow.note).where(CheckpointRow.size == 4)).one()
    change(book, insert(CheckpointRow).values(size=3, note=note))
    assert faults(book) == [Fault("evidence_checkpoint/3")]


def test_every_missing_file_is_named(book: Any) -> None:
    book.fill(300)
    root = book.home / "log"
    for file in sorted(root.glob("tile/**/*")):
        if file.is_file():
            kept = file.read_bytes()
            file.unlink()
            assert str(file.relative_to(root)) in {fault.path for fault in faults(book)}
            file.write_bytes(kept)
    assert faults(book) == []


def test_files_that_do_not_belong_are_named(book: Any) -> None:
    book.fill(300)
    root = book.home / "log"
    for path, content in (("tile/0/009", b"x" * 8192), ("tile/0/notes.txt", b"hello"), ("tile/0/001.p/9", b"x" * 288)):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content)
        assert faults(book) == [Fault(path)]
        (root / path).unlink()


def test_an_older_partial_tile_that_somebody_kept_is_no_fault(book: Any) -> None:
    book.fill(20)
    root = book.home / "log"
    older = root / "tile/0/000.p/20"
    shutil.copy(older, root / "kept")
    book.fill(20)
    shutil.copy(root / "kept", older)
    assert faults(book) == []


def test_a_row_that_was_removed_is_named_by_its_entry(book: Any) -> None:
    ids = book.fill(4)
    for index in (3, 0):
        change(book, delete(EntryRow).where(EntryRow.id == ids[index]))
    assert faults(book) == [Fault(f"evidence_entry/{ids[0]}", 0), Fault(f"evidence_entry/{ids[3]}", 3)]


def test_two_rows_that_changed_places_are_both_named(book: Any) -> None:
    ids = book.fill(4)
    for key, index in ((ids[1], 9), (ids[2], 1), (ids[1], 2)):
        change(book, update(EntryRow).where(EntryRow.id == key).values(index=index))
    assert faults(book) == [Fault(f"evidence_entry/{ids[2]}.leaf", 1), Fault(f"evidence_entry/{ids[1]}.leaf", 2)]


def test_a_row_that_claims_a_place_beyond_the_log_is_named(book: Any) -> None:
    book.fill(2)
    key = book.record()
    change(book, update(EntryRow).where(EntryRow.id == key).values(index=7))
    assert Fault(f"evidence_entry/{key}.index", 7) in faults(book)


def test_a_row_that_lost_its_place_is_named(book: Any) -> None:
    ids = book.fill(3)
    change(book, update(EntryRow).where(EntryRow.id == ids[1]).values(index=None))
    assert faults(book) == [Fault(f"evidence_entry/{ids[1]}", 1)]


def test_an_erased_private_side_is_no_fault_and_a_replaced_one_is(book: Any) -> None:
    ids = book.fill(2)
    change(book, update(EntryRow).where(EntryRow.id == ids[0]).values(private=None))
    assert faults(book) == []
    change(book, update(EntryRow).where(EntryRow.id == ids[0]).values(private=b'{"facts":{}}'))
    assert faults(book) == [Fault(f"evidence_entry/{ids[0]}.private", 0)]


def test_a_damaged_bundle_does_not_put_the_blame_on_the_rows(book: Any) -> None:
    book.fill(4)
    (book.home / "log/tile/entries/000.p/4").write_bytes(b"")
    assert faults(book) == [Fault("tile/entries/000.p/4")]


def test_a_waiting_row_that_contradicts_itself_is_named(book: Any) -> None:
    key = book.record()
    change(book, update(EntryRow).where(EntryRow.id == key).values(subject="thing_2"))
    assert faults(book) == [Fault(f"evidence_entry/{key}.subject", None)]
    change(book, update(EntryRow).where(EntryRow.id == key).values(leaf=b"{}"))
    assert faults(book) == [Fault(f"evidence_entry/{key}.leaf", None)]
