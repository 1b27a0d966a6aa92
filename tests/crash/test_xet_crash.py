"""Kill whoever takes in a xorb or a shard, at any line: the client sends it again, and the files are whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.postgres]
ROOT = Path(__file__).parents[2]


def test_a_death_at_any_line_is_mended_by_sending_it_again(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.crash.packers", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200
