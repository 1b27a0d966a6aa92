"""Packers who bring a xorb and the shard that makes files of it, and are made to be killed.

`packers.py FOLDER` forks a child for every line of the hub's own code that this runs through for the first time, kills
it there, and lets another bring the same again, as a client does that never heard an answer.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from gongqi.kernel.access import Actor
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller
from gongqi.members import VOCABULARY
from gongqi.resources.hub import drafts, extents, known, rebuilding
from gongqi.resources.hub.assets import create_asset
from gongqi.resources.hub.intake import Intake
from gongqi.resources.hub.room import ROOM
from tests.crash.children import buried, fork
from tests.sim import xet as sim

CODE = {drafts.__file__, extents.__file__, known.__file__, rebuilding.__file__}
HOUSE = House.build((ROOM,), VOCABULARY)
ORG = "org_hospital"
DONOR = Actor("per_donor", "person", "donor", grants={ORG: frozenset({"hub:*"})}, orgs=frozenset({ORG}))
CHUNKS = tuple(bytes([number]) * 3000 for number in range(4))
DRAFTED = [sim.Piece(CHUNKS, 0, 4)]
FILES = ([sim.Piece(CHUNKS, 0, 3)], [sim.Piece(CHUNKS, 2, 4), sim.Piece(CHUNKS, 0, 1)], DRAFTED)
WHOLE = [b"".join(b"".join(piece.chunks[piece.start : piece.end]) for piece in file) for file in FILES]


def kernel_in(home: Path) -> Kernel:
    url = f"sqlite:///{home / 'gongqi.sqlite'}"
    settings = Settings.from_environment({"GONGQI_HOME": str(home), "GONGQI_DATABASE_URL": url})
    blobs = FolderBlobs(home / "blobs")
    return Kernel(settings, HOUSE, Database(url), blobs, record=lambda _ctx, _entry: None)


def prepare(home: Path) -> None:
    (home / "blobs").mkdir(parents=True)
    kernel = kernel_in(home)
    Base.metadata.create_all(kernel.db.writer)
    made = kernel.transact(
        lambda ctx: create_asset(ctx, org=ORG, slug="x", kind="model", title_zh="样", title_en="X"), reason="test"
    )
    (home / "asset").write_text(made.id)
    kernel.db.close()


def bring(home: Path) -> None:
    """All that a client sends, from the start; one of the files is made before the shard comes."""
    kernel, caller = kernel_in(home), Caller(DONOR)
    space = rebuilding.Space((home / "asset").read_text(), extents.FIRST)
    kernel.parts[drafts.Drafts] = ahead = drafts.Drafts(kernel, least_bytes=0)
    ahead.announced(space.asset, DONOR.id, [len(WHOLE[2])], room_bytes=1 << 30)
    ahead.expect(space.asset, DONOR.id, sim.name_of(CHUNKS))
    with known.held_xorbs(kernel).begin(passing=True) as upload:
        upload.feed(b"".join(map(sim.pack, CHUNKS)))
        rebuilding.take_xorb(kernel, caller, space, sim.name_of(CHUNKS), upload)
    ahead.arrived(space.asset, DONOR.id, sim.name_of(CHUNKS))
    wait_for_draft(kernel)
    with Intake().admit(ORG, size=None, room_bytes=1 << 30) as share:
        rebuilding.take_shard(kernel, caller, space, sim.shard_of(map(sim.file_records, FILES), []), share)
    (home / "told").touch()


def wait_for_draft(kernel: Kernel) -> None:
    give_up_at = time.monotonic() + 20
    while len(WHOLE[2]) not in [each.stat().st_size for each in kernel.blobs.incoming.folder.iterdir()]:
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def look_after_it(home: Path) -> None:
    """What was told stays so; what was not is brought again, and then all is as if nobody had died."""
    kernel = kernel_in(home)
    if (home / "told").exists():
        check(kernel)
    bring(home)
    check(kernel)
    held = known.held_xorbs(kernel)
    held.sweep_unknown(kernel)
    assert not any(held.folder.iterdir()), "a xorb is held that files cover"
    assert kernel.look(lambda ctx: extents.generation_of(ctx, (home / "asset").read_text())) == extents.FIRST


def check(kernel: Kernel) -> None:
    for whole in WHOLE:
        assert kernel.blobs.read(hashlib.sha256(whole).hexdigest(), limit_bytes=1 << 20) == whole


def lines(folder: Path) -> int:
    """How many lines were died at."""
    buried(lambda: prepare(folder / "first"))
    for number in itertools.count(1):
        home = folder / str(number)
        shutil.copytree(folder / "first", home)

        def round_of_work(home: Path = home, number: int = number) -> None:
            threading.settrace(dying := dying_at(number))
            sys.settrace(dying)
            bring(home)

        status = os.waitpid(fork(round_of_work), 0)[1]
        assert status in (0, signal.SIGKILL)
        assert buried(lambda home=home: look_after_it(home)) == 0, f"after a death at line {number}"
        shutil.rmtree(home)
        if status == 0:
            return number
    raise AssertionError("itertools.count ends")


def dying_at(number: int) -> Callable[..., Any]:
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in CODE:
            return None
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


if __name__ == "__main__":
    sys.stdout.write(f"{lines(Path(sys.argv[1]))}\n")
