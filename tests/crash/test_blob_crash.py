"""Kill whoever carries bytes, at any line: nothing in use is lost, nothing half is seen, what had come in is kept."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gongqi.kernel.blobs.folder import FolderBlobs

pytestmark = [pytest.mark.long, pytest.mark.postgres]
PORTERS = Path(__file__).with_name("porters.py")


def test_a_death_at_any_line_of_the_store_loses_nothing(tmp_path):
    done = subprocess.run([sys.executable, PORTERS, "lines", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


def test_porters_and_sweepers_killed_at_random_lose_nothing_in_use(tmp_path):
    (tmp_path / "written").mkdir()
    blobs, chance = FolderBlobs(tmp_path / "blobs"), random.Random(8420)
    for _ in range(5):
        work = ["carry", "carry", "carry", "sweep", "sweep"]
        people = [subprocess.Popen([sys.executable, PORTERS, each, tmp_path]) for each in work]
        time.sleep(chance.uniform(0.6, 1.2))
        for each in people:
            each.kill()
            each.wait()
        for digest in os.listdir(tmp_path / "written"):
            assert blobs.check(digest)
        assert all(blobs.check(held.sha256) for held in blobs.listing())
        for path in blobs.incoming.folder.iterdir():
            blobs.upload(resume=path.name).abandon()
    assert (tmp_path / "removed").exists(), "nothing was swept: nothing was tried"
