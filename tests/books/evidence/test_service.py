"""The book at work: entries, their places in the log, and what one may ask."""

from __future__ import annotations

import asyncio
import errno
from hashlib import sha256
from typing import Any

import orjson
import pytest
import rfc8785
from sqlalchemy import delete, func, select, update
from starlette.requests import Request

from gongqi.books.evidence import api, pages, service
from gongqi.books.evidence.folder import LogFolder
from gongqi.books.evidence.keys import KeySet, SigningKeys
from gongqi.books.evidence.leaves import Leaf, seal, unseal
from gongqi.books.evidence.models import CheckpointRow, EntryRow
from gongqi.books.evidence.rules import verify_consistency
from gongqi.books.evidence.service import Entries, EntryKey, Nothing, Sizes
from gongqi.books.evidence.signing import statement, verify_envelope
from gongqi.books.evidence.tiles import Edge, Tile
from gongqi.books.evidence.verify import check_proof
from gongqi.kernel import flows
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.kernel.flows import FlowRow


def flow_of(book: Any) -> FlowRow:
    with book.kernel.db.reading() as session:
        return session.scalars(select(FlowRow).where(FlowRow.kind == service.SEQUENCE)).one()


def keys_of(book: Any) -> KeySet:
    return book.kernel.part(SigningKeys).public


# ---- entries -----------------------------------------------------------------------------------------


def test_an_act_that_is_refused_leaves_no_evidence(book: Any) -> None:
    def act(ctx: Any) -> None:
        ctx.record("thing_1", kind="test.done")
        raise Refused("access.forbidden", permission="test")

    with pytest.raises(Refused):
        book.kernel.transact(act, reason="req_test")
    assert book.look(lambda ctx: service.entries_about(ctx, "thing_1")) == []


def test_an_entry_says_who_did_what_when(book: Any) -> None:
    key = book.record("thing_1", size=3, 名称="甲")
    entry = book.look(lambda ctx: service.get_entry.run(ctx, EntryKey(entry=key)))
    assert (entry.id, entry.kind, entry.actor, entry.subject) == (key, "test.done", "system", "thing_1")
    assert entry.at == book.clock.now()
    assert entry.facts == {"size": 3, "名称": "甲"}
    assert entry.request_id == "req_test"
    assert entry.index is None


def test_the_list_is_filtered_by_kind_and_subject_and_paged_newest_first(book: Any) -> None:
    for number in range(5):
        book.clock.advance(seconds=1)
        book.record(f"thing_{number % 2}", kind="test.done" if number < 4 else "test.undone", n=number)

    def numbers(**which: Any) -> list[int]:
        page = book.look(lambda ctx: service.list_entries.run(ctx, Entries.model_validate(which)))
        return [entry.facts["n"] for entry in page.items]

    assert numbers() == [4, 3, 2, 1, 0]
    assert numbers(kind="test.undone") == [4]
    assert numbers(subject="thing_1") == [3, 1]
    assert numbers(subject="thing_0", kind="test.done") == [2, 0]
    first = book.look(lambda ctx: service.list_entries.run(ctx, Entries(limit=2, cursor=None)))
    assert numbers(limit=2, cursor=first.next) == [2, 1]
    assert [entry.facts["n"] for entry in book.look(lambda ctx: service.entries_about(ctx, "thing_0"))] == [0, 2, 4]


def test_private_facts_stay_out_of_the_log_and_are_shown_to_auditors_only(book: Any, auditor: Any) -> None:
    key = book.record(private={"reason": "a name nobody should read"})
    book.sequence()
    for path in LogFolder(book.home / "log").files():
        assert b"nobody" not in (book.home / "log" / path).read_bytes()
    ask = EntryKey(entry=key)
    with pytest.raises(Refused, match="access"):
        book.look(lambda ctx: service.get_private.run(ctx, ask))
    shown = book.look(lambda ctx: service.get_private.run(ctx, ask), auditor)
    assert shown.facts == {"reason": "a name nobody should read"}
    digest = book.look(lambda ctx: service.get_entry.run(ctx, ask)).private_digest
    assert sha256(shown.sealed.encode()).hexdigest() == digest


def test_an_entry_without_a_private_side_says_so(book: Any, auditor: Any) -> None:
    key = book.record()
    shown = book.look(lambda ctx: service.get_private.run(ctx, EntryKey(entry=key)), auditor)
    assert (shown.facts, shown.sealed) == (None, None)


def test_equal_private_facts_have_unequal_digests() -> None:
    """Otherwise a short private text could be guessed from the public log."""
    one, other = seal({"vote": "no"}, "test.done"), seal({"vote": "no"}, "test.done")
    assert sha256(one).digest() != sha256(other).digest()
    assert unseal(one) == unseal(other)


def test_facts_that_json_cannot_carry_exactly_are_our_bug(book: Any) -> None:
    for wrong in (float("nan"), 2**53, {1: "a"}, b"bytes", book.clock.now()):
        with pytest.raises(Broken) as broken:
            book.record(value=wrong)
        assert broken.value.code == "evidence.facts-unwritable"


def test_an_entry_beyond_the_limit_of_the_log_is_refused_with_its_act(book: Any) -> None:
    with pytest.raises(Refused) as refused:
        book.record(text="x" * 70_000)
    assert refused.value.code == "evidence.entry-too-large"


def test_only_our_own_writing_of_an_entry_is_parsed(book: Any) -> None:
    book.record(size=1)
    with book.kernel.db.reading() as session:
        raw = session.scalars(select(EntryRow.leaf)).one()
    assert Leaf.parse(raw).encode() == raw
    public = orjson.loads(raw)
    others = ({"more": 1}, {"v": 2}, {"id": 5}, {"request_id": ""}, {"facts": [1]})
    for wrong in (
        *(b"{", b"[]", b"null", b"{}", raw + b" ", raw.replace(b"T00:00:00.000000Z", b"T00:00:00Z")),
        *(rfc8785.dumps(public | other) for other in others),
    ):
        with pytest.raises(Refused) as refused:
            Leaf.parse(wrong)
        assert refused.value.code == "evidence.entry-malformed"


# ---- the log -----------------------------------------------------------------------------------------


def test_a_proof_is_asked_for_again_until_the_entry_is_in_the_log(book: Any) -> None:
    key = book.record()
    with pytest.raises(Unavailable) as unavailable:
        book.look(lambda ctx: service.proof(ctx, key))
    assert unavailable.value.code == "evidence.not-sequenced-yet"
    book.sequence()
    assert book.look(lambda ctx: service.proof(ctx, key))["index"] == 0


def test_an_entry_that_never_was_has_no_proof(book: Any) -> None:
    with pytest.raises(Refused) as refused:
        book.look(lambda ctx: service.proof(ctx, "ev_never"))
    assert refused.value.code == "access.not-found"


@pytest.mark.heavy
def test_every_entry_is_proven_offline_with_the_public_keys_alone(book: Any) -> None:
    ids = book.fill(1, 3, 260, 5)
    published = KeySet.parse(orjson.dumps(book.look(service.keyset)))
    for index, key in enumerate(ids):
        proof = orjson.loads(orjson.dumps(book.look(lambda ctx, key=key: service.proof(ctx, key))))
        assert (proof["index"], proof["size"]) == (index, len(ids))
        assert check_proof(proof, published).checkpoint.size == len(ids)
        assert proof["entry"]["id"] == key


def test_an_altered_proof_does_not_hold(book: Any) -> None:
    ids = book.fill(9)
    proof = book.look(lambda ctx: service.proof(ctx, ids[4]))
    altered = [
        {"entry": proof["entry"] | {"subject": "thing_9"}},
        {"index": 5},
        {"inclusion": proof["inclusion"][:-1]},
        {"inclusion": ["00" * 32, *proof["inclusion"][1:]]},
        {"checkpoint": proof["checkpoint"].replace("\n9\n", "\n8\n")},
    ]
    for change in altered:
        with pytest.raises(Refused):
            check_proof(proof | change, keys_of(book))
    with pytest.raises(Refused) as refused:
        check_proof(proof | {"inclusion": ["zz"]}, keys_of(book))
    assert refused.value.code == "evidence.proof-malformed"


def test_the_keys_of_another_foundation_prove_nothing(book: Any) -> None:
    ids = book.fill(2)
    proof = book.look(lambda ctx: service.proof(ctx, ids[0]))
    with pytest.raises(Refused) as refused:
        check_proof(proof, SigningKeys.generate().public)
    assert refused.value.code == "evidence.signature-missing"


def test_each_checkpoint_continues_the_one_before(book: Any) -> None:
    book.fill(3, 1, 300, 40)  # the first falls in the bundle of the second, and is not kept
    with book.kernel.db.reading() as session:
        notes = list(session.scalars(select(CheckpointRow.note).order_by(CheckpointRow.size)))
    log = service.Log.of(book.kernel)
    checkpoints = [log.open(note) for note in notes]
    assert [checkpoint.size for checkpoint in checkpoints] == [4, 304, 344]
    for old in checkpoints:
        for new in checkpoints:
            if old.size <= new.size:
                sizes = Sizes(old=old.size, new=new.size)
                shown = book.look(lambda ctx, sizes=sizes: service.prove_consistency.run(ctx, sizes))
                proof = [bytes.fromhex(node) for node in shown.proof]
                verify_consistency(
                    old_size=old.size, new_size=new.size, old_root=old.root, new_root=new.root, proof=proof
                )


def test_consistency_with_a_size_to_come_is_refused(book: Any) -> None:
    book.fill(2)
    with pytest.raises(Refused) as refused:
        book.look(lambda ctx: service.prove_consistency.run(ctx, Sizes(old=1, new=3)))
    assert refused.value.code == "evidence.size-beyond-log"


def test_the_newest_checkpoint_is_the_published_one(book: Any) -> None:
    empty = book.look(lambda ctx: service.show_checkpoint.run(ctx, Nothing()))
    assert (empty.size, empty.note) == (0, None)
    book.fill(2, 2)
    shown = book.look(lambda ctx: service.show_checkpoint.run(ctx, Nothing()))
    assert shown.size == 4
    assert shown.note.encode() == (book.home / "log" / "checkpoint").read_bytes()
    keys = book.look(lambda ctx: service.show_keys.run(ctx, Nothing()))
    assert shown.origin == keys.origin
    assert all(key.startswith(f"{keys.origin}+") for key in keys.verifier_keys)


def test_the_files_do_not_tell_how_the_entries_were_batched(book: Any) -> None:
    book.fill(2, 255, 1, 300)
    with book.kernel.db.reading() as session:
        leaves = list(session.scalars(select(EntryRow.leaf).order_by(EntryRow.index)))
    _edge, files = Edge().append(leaves)
    folder = LogFolder(book.home / "log")
    assert {path: (folder.root / path).read_bytes() for path in folder.files()} == {
        tile.path: content for tile, content in files
    }


def test_an_outgrown_partial_tile_is_read_from_its_successor(book: Any) -> None:
    book.fill(3)
    folder = LogFolder(book.home / "log")
    before = {path: (folder.root / path).read_bytes() for path in folder.files()}
    book.fill(2, 260)
    for path, content in before.items():
        assert not (folder.root / path).exists()
        assert folder.load(Tile.parse(path)) == content


def test_a_round_takes_a_batch_and_the_flow_goes_on_until_all_is_done(book: Any) -> None:
    def many(ctx: Any) -> None:
        for number in range(2100):
            ctx.record("thing", kind="test.done", n=number)

    book.kernel.transact(many, reason="req_test")
    book.sequence()
    with book.kernel.db.reading() as session:
        assert list(session.scalars(select(CheckpointRow.size).order_by(CheckpointRow.size))) == [1024, 2048, 2100]


# ---- the sequencer's refusals ----------------------------------------------------------------------------


def test_the_sequencer_is_started_once_and_revived_when_dead(book: Any) -> None:
    book.kernel.transact(service.ensure, reason="start")
    first = flow_of(book)
    book.kernel.db.write(lambda session: session.execute(update(FlowRow).values(state="dead")))
    book.kernel.transact(service.ensure, reason="start")
    assert (flow_of(book).id, flow_of(book).state) == (first.id, "open")


def test_a_log_that_is_ahead_of_its_database_is_not_continued(book: Any) -> None:
    """As after restoring the database alone from a backup: going on would sign a second history."""
    book.fill(2, 3)
    newest = select(func.max(CheckpointRow.size)).scalar_subquery()
    book.kernel.db.write(lambda session: session.execute(delete(CheckpointRow).where(CheckpointRow.size == newest)))
    published = (book.home / "log" / "checkpoint").read_bytes()
    book.record()
    book.sequence()
    assert flow_of(book).error.startswith("evidence.log-forked")
    assert (book.home / "log" / "checkpoint").read_bytes() == published


def test_a_damaged_edge_is_not_signed_over(book: Any) -> None:
    book.fill(3)
    for path in ("tile/0/000.p/3", "tile/entries/000.p/3"):
        file = book.home / "log" / path
        kept = file.read_bytes()
        file.write_bytes(kept[:-1])
        book.record()
        book.sequence()
        assert flow_of(book).error.startswith("evidence.log-damaged")
        file.write_bytes(kept)
    file = book.home / "log" / "tile/0/000.p/3"
    file.write_bytes(bytes(96))
    book.clock.advance(hours=1)
    book.sequence()
    assert flow_of(book).error.startswith("evidence.log-damaged")
    with book.kernel.db.reading() as session:
        assert list(session.scalars(select(CheckpointRow.size))) == [3]


def test_a_damaged_log_proves_nothing(book: Any) -> None:
    ids = book.fill(3)
    (book.home / "log" / "tile/0/000.p/3").write_bytes(b"short")
    with pytest.raises(Broken) as broken:
        book.look(lambda ctx: service.proof(ctx, ids[0]))
    assert broken.value.code == "evidence.log-damaged"


def test_rows_that_are_not_one_after_the_other_are_not_written(book: Any) -> None:
    book.fill(2)
    key = book.record()
    book.kernel.db.write(lambda session: session.execute(update(EntryRow).where(EntryRow.id == key).values(index=5)))
    book.sequence()
    assert flow_of(book).error.startswith("evidence.log-forked")


def test_the_folder_has_one_writer_at_a_time(book: Any) -> None:
    folder = LogFolder(book.home / "log")
    with folder.writing():
        with pytest.raises(Unavailable) as unavailable, LogFolder(folder.root).writing():
            pass
        assert unavailable.value.code == "evidence.log-held"
        book.record()
        book.sequence()
        assert (flow_of(book).state, flow_of(book).error) == ("open", None)
        assert folder.checkpoint() is None
    book.sequence()
    assert folder.checkpoint()


def test_a_full_disk_stops_the_log_only_for_as_long_as_it_is_full(book: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: LogFolder, files: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    book.fill(2)
    monkeypatch.setattr(LogFolder, "write", full)
    key = book.record()
    for _ in range(20):  # more often than a flow may fail before it is dead
        book.sequence()
    with pytest.raises(Unavailable):
        book.look(lambda ctx: service.proof(ctx, key))
    monkeypatch.undo()
    book.sequence()
    assert book.look(lambda ctx: service.proof(ctx, key))["index"] == 2


@pytest.mark.parametrize("at", ["evidence assigned", "evidence written"])
def test_a_sequencer_that_was_overtaken_signs_nothing(book: Any, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    book.fill(2)
    book.record()

    def overtaken(name: str) -> None:
        if name == at:
            book.kernel.db.write(lambda session: session.execute(update(FlowRow).values(owner="other", attempt=99)))

    monkeypatch.setattr(flows, "boundary", overtaken)
    book.sequence()
    with book.kernel.db.reading() as session:
        assert list(session.scalars(select(CheckpointRow.size))) == [2]
    monkeypatch.undo()
    book.clock.advance(minutes=1)
    book.sequence()
    with book.kernel.db.reading() as session:
        assert sorted(session.scalars(select(CheckpointRow.size))) == [2, 3]


# ---- keys and statements -----------------------------------------------------------------------------------


def test_keys_are_made_at_the_first_start_and_read_at_the_next(book: Any) -> None:
    again = SigningKeys.load_or_generate(book.home / "keys")
    assert again.public == keys_of(book)


def test_a_statement_is_signed_with_the_published_keys(book: Any) -> None:
    made = statement({"model.onnx": "0" * 64}, "urn:gongqi:test:v1", {"name": "甲"})
    envelope = book.look(lambda ctx: service.sign_statement(ctx, made))
    published = KeySet.parse(orjson.dumps(book.look(service.keyset)))
    assert verify_envelope(orjson.dumps(envelope), published) == made


# ---- files and pages ---------------------------------------------------------------------------------------


def request(book: Any, path: str = "") -> Request:
    scope = {"type": "http", "method": "GET", "headers": [], "path_params": {"path": path}}
    made = Request(scope)
    made.state.kernel = book.kernel
    return made


def test_the_log_is_served_as_files(book: Any) -> None:
    for missing, code in (
        (lambda: api.give_checkpoint(request(book)), "evidence.log-empty"),
        (lambda: api.give_tile(request(book, "0/000.p/1")), "evidence.tile-unwritten"),
        (lambda: api.give_tile(request(book, "../keys/ed25519.pem")), "evidence.tile-path-malformed"),
    ):
        with pytest.raises(Refused) as refused:
            asyncio.run(missing())
        assert refused.value.code == code
    book.fill(2, 1)
    note = asyncio.run(api.give_checkpoint(request(book)))
    assert (note.body, note.headers["cache-control"]) == ((book.home / "log/checkpoint").read_bytes(), "no-cache")
    tile = asyncio.run(api.give_tile(request(book, "0/000.p/2")))
    assert tile.body == (book.home / "log/tile/0/000.p/3").read_bytes()[:64]
    assert "immutable" in tile.headers["cache-control"]


def test_the_page_of_an_entry_shows_whether_its_proof_holds(book: Any) -> None:
    key = book.record(size=3, files=["a", "b"])
    assert book.look(lambda ctx: pages.load_entry(ctx, key))["state"] == "claimed"
    book.sequence()
    book.fill(4)
    shown = book.look(lambda ctx: pages.load_entry(ctx, key))
    assert shown["state"] == "proven"
    assert len(shown["steps"]) == len(shown["proof"]["inclusion"]) + 1
    assert shown["steps"][-1][2] == shown["proof"]["root"]
    assert dict(shown["facts"]) == {"size": "3", "files": '[\n  "a",\n  "b"\n]'}
    changed = update(EntryRow).where(EntryRow.id == key)
    with book.kernel.db.reading() as session:
        leaf = session.scalars(select(EntryRow.leaf).where(EntryRow.id == key)).one()
    altered = leaf.replace(b'"size":3', b'"size":4')
    book.kernel.db.write(lambda session: session.execute(changed.values(leaf=altered)))
    assert book.look(lambda ctx: pages.load_entry(ctx, key))["state"] == "broken"


def test_the_page_of_the_log_filters_and_goes_on(book: Any) -> None:
    book.fill(pages.PAGE + 1)
    shown = book.look(lambda ctx: pages.load_log(ctx))
    assert len(shown["page"].items) == pages.PAGE
    rest = book.look(lambda ctx: pages.load_log(ctx, cursor=shown["more"]["cursor"]))
    assert len(rest["page"].items) == 1
    some = book.look(lambda ctx: pages.load_log(ctx, subject="thing_3"))
    assert {entry.subject for entry in some["page"].items} == {"thing_3"}
    assert shown["checkpoint"].size == pages.PAGE + 1
