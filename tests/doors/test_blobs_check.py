"""`gongqi blobs check` on a home: what holds, what was altered, what cannot be read, what is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gongqi import app
from gongqi.doors.cli.main import cli
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.resources.hub import service as hub

CONTENTS = (b"one", b"two", b"three")
ONE, TWO, THREE = (sha256(each).hexdigest() for each in CONTENTS)


@pytest.fixture
def home(settings: Settings) -> Iterator[Path]:
    """A home whose hub holds three files."""
    kernel = app.assemble(settings)
    for content in CONTENTS:
        stored = kernel.blobs.put(content)
        seen = hub.Inspected("a.txt", stored.size, (), ())
        kernel.transact(
            lambda ctx, stored=stored, seen=seen: hub.receive_blob(
                ctx, org="org_lab", sha256=stored.sha256, inspected=seen
            ),
            reason="test",
        )
    kernel.db.close()
    yield settings.home


@pytest.fixture
def check(home: Path, database_url: str) -> Callable[[str], Result]:
    def run(language: str = "en") -> Result:
        environment = {"GONGQI_HOME": str(home), "GONGQI_DATABASE_URL": database_url, "GONGQI_LANG": language}
        return CliRunner().invoke(cli, ["blobs", "check"], obj=app, env=environment)

    return run


def test_what_holds_is_counted(check):
    done = check()
    assert (done.exit_code, done.output) == (0, "✓ 3 blobs hold, 11 bytes; 0 do not.\n")


def test_what_does_not_hold_is_named_each_with_its_fault(check, home, monkeypatch):
    blobs = FolderBlobs(home / "blobs")
    path = blobs.path(ONE)
    path.chmod(0o600)
    path.write_bytes(b"0ne")
    blobs.path(TWO).unlink()
    blobs.path(THREE).unlink()
    blobs.path(THREE).mkdir()  # the disk answers, and with an error
    done = check()
    assert done.exit_code == 1
    said = dict(line.removeprefix("✗ ").split(": ") for line in done.output.splitlines()[:-1])
    assert said == {
        ONE: "its bytes no longer have this digest.",
        TWO: "it is in use and not there.",
        THREE: "it cannot be read.",
    }
    assert done.output.splitlines()[-1] == "✗ 0 blobs hold, 0 bytes; 3 do not."
    assert TWO + ": 应有而缺失。" in check("zh").output
