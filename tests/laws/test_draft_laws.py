"""Laws of drafts: a guess may save time, and never changes a byte.

1. Whatever comes, in whatever order, and however far a draft is when the shard comes: the file is the one that the shard
   names, made without a draft.
2. What is not used of a draft, and all of one that went wrong, leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.errors import Broken
from gongqi.resources.hub.drafts import Draft
from gongqi.resources.hub.xet.rebuild import rebuild
from gongqi.resources.hub.xet.shards import parse_shard
from gongqi.resources.hub.xet.xorbs import LZ4, STORED
from tests.laws.test_xet_laws import sim

pytestmark = pytest.mark.heavy

CHUNKS = st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4).map(tuple)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_file_is_the_same_with_a_draft_and_without(data):
    packs = data.draw(st.lists(CHUNKS, min_size=1, max_size=5, unique=True))
    held = sim.Held()
    for chunks in packs:
        held.receive(
            sim.name_of(chunks),
            b"".join(
                sim.pack(
                    raw,
                    data.draw(st.sampled_from([STORED, LZ4])),
                )
                for raw in chunks
            ),
        )
    whole = [sim.Piece(chunks, 0, len(chunks)) for chunks in packs]
    cut = [sim.Piece(chunks, 0, data.draw(st.integers(1, len(chunks)))) for chunks in packs]
    rest = [sim.Piece(piece.chunks, piece.end, len(piece.chunks)) for piece in cut if piece.end < len(piece.chunks)]
    in_two = [piece for one in cut for piece in (one, *(each for each in rest if each.chunks == one.chunks))]
    pieces = data.draw(
        st.sampled_from([whole, in_two]) | st.lists(st.sampled_from([*whole, *cut]), min_size=1, max_size=6)
    )
    content = b"".join(b"".join(piece.chunks[piece.start : piece.end]) for piece in pieces)
    [file] = parse_shard(sim.shard_of([sim.file_records(pieces)], [])).files
    with tempfile.TemporaryDirectory() as folder:
        blobs = FolderBlobs(Path(folder))
        draft = Draft(held, blobs, data.draw(st.integers(0, 200) | st.just(len(content)) | st.just(10_000)))
        names = [sim.name_of(chunks) for chunks in data.draw(st.just(packs) | st.permutations(packs))]
        for name in names:
            draft.expect(name)
            for came in data.draw(st.lists(st.sampled_from(names), max_size=3)):
                draft.arrived(came)
                draft.advance()
        while data.draw(st.booleans()) and draft.advance():
            pass
        begun = draft.begun(file)
        upload, terms = begun or (blobs.upload(), 0)
        with upload:
            for raw in rebuild(file, held, after=terms):
                upload.feed(raw)
            stored = upload.finish(sha256=file.sha256)
        assert (stored.sha256, stored.size) == (hashlib.sha256(content).hexdigest(), len(content))
        assert b"".join(blobs.chunks(stored.sha256)) == content
        assert draft.begun(file) is None or not begun, "it is given to one"
        draft.end()
        assert not draft.advance()
        assert os.listdir(blobs.incoming.folder) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(CHUNKS, min_size=2, max_size=5, unique=True), st.data())
def test_a_draft_that_meets_a_damaged_xorb_keeps_what_it_had(packs, data):
    held = sim.Held()
    for chunks in packs:
        held.receive(sim.name_of(chunks), b"".join(map(sim.pack, chunks)))
    bad = data.draw(st.integers(0, len(packs) - 1))
    held.xorbs[sim.name_of(packs[bad])][1][-1] ^= 1
    [file] = parse_shard(sim.shard_of([sim.file_records([sim.Piece(each, 0, len(each)) for each in packs])], [])).files
    with tempfile.TemporaryDirectory() as folder:
        blobs = FolderBlobs(Path(folder))
        draft = Draft(held, blobs, file.raw_bytes)
        for chunks in packs:
            draft.expect(sim.name_of(chunks))
            draft.arrived(sim.name_of(chunks))
        assert [draft.advance() for _ in packs] == [number < bad for number in range(len(packs))]
        begun = draft.begun(file)
        assert (begun is None) == (bad == 0)
        if begun is not None:
            upload, terms = begun
            with upload:
                assert (terms, upload.size) == (bad, sum(len(raw) for chunks in packs[:bad] for raw in chunks))
                try:
                    list(rebuild(file, held, after=terms))
                except Broken as error:
                    assert error.code == "hub.xet-chunk-damaged"
        draft.end()
        assert os.listdir(blobs.incoming.folder) == []
