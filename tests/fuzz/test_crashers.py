"""What fuzzing has found once is never found again, and every sound example is read, whole or cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CRASHERS = Path(__file__).parent / "crashers"


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_sound_examples_their_cuts_and_what_once_broke_a_reader_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds():
        for end in {0, 1, len(seed) // 2, max(len(seed) - 1, 0), len(seed)}:
            target.run(seed[:end])
    for crasher in sorted((CRASHERS / name).glob("*")):
        target.run(crasher.read_bytes())
