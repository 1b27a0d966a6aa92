"""Files that are not there, not files, or not to be written: each command says so in one line, in both languages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from gongqi import app
from gongqi.doors.cli.main import cli

pytestmark = pytest.mark.long

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing answers there
SAID = {"zh": ("无法使用", "没有"), "en": ("cannot be used", "There is no")}


@pytest.fixture(params=sorted(SAID))
def say(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Run a command on an empty home without a server; its one line."""
    environment = {
        "GONGQI_HOME": str(tmp_path / "home"), "GONGQI_URL": NOWHERE, "GONGQI_TOKEN": "gq_nobodys",
        "GONGQI_LANG": request.param, "GONGQI_DATABASE_URL": None,
    }  # fmt: skip

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(cli, [str(each) for each in arguments], obj=app, env=environment)
        assert isinstance(result.exception, SystemExit) and result.exit_code == 1, result.exception
        assert result.stderr.count("\n") == 1 and not result.stdout, result.output
        assert any(words in result.stderr for words in SAID[request.param]), result.stderr
        return result.stderr.strip()

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "a-folder"
    made.mkdir()
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """It begins like a proof, so that its keys are asked for."""
    made = tmp_path / "a-file.json"
    made.write_text("{}")
    return made


def test_what_is_to_be_read_is_not_there_or_is_no_such_thing(say, folder: Path, file: Path) -> None:
    missing = folder / "none"
    assert say("verify", missing).endswith("[cli.file-missing]")
    for wrong, *arguments in (
        (folder, "verify", folder),
        (missing, "verify", file, "--keyset", missing),
        (folder, "verify", file, "--keyset", folder),
        (missing, "push", "ast_none", missing, "-m", "x"),
        (file, "push", "ast_none", file, "-m", "x"),
    ):
        line = say(*arguments)
        assert line.endswith("[cli.path-unusable]") and str(wrong) in line


def test_a_bundle_that_cannot_be_written_is_not_fetched(say, folder: Path) -> None:
    for target in (folder, folder / "none" / "release.zip"):
        assert say("bundle", "rel_none", "-o", target).endswith("[cli.path-unusable]")
    assert list(folder.iterdir()) == []


def test_a_home_without_a_foundation_is_not_found_in_order(say, tmp_path: Path) -> None:
    for command in (("ledger", "check"), ("ledger", "export")):
        assert say(*command).endswith("[cli.home-empty]")
    assert not (tmp_path / "home").exists()


def test_a_walk_whose_folder_cannot_be_made_says_so(say, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    assert say("tour").endswith("[cli.path-unusable]")


# ---- no room


def no_more_than(blocks: int) -> tuple[str, ...]:
    """Runs a command none of whose files may grow beyond so many blocks of 512 bytes."""
    return ("sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh")


@pytest.mark.parametrize("arguments", [("up",), ("serve",), ("migrate",)])
@pytest.mark.parametrize("blocks", [0, 200], ids=["none at all", "none for the schema"])
def test_a_start_without_room_is_one_line(
    command, tmp_path: Path, made_codes: set[str], arguments: tuple[str, ...], blocks: int
) -> None:
    """On SQLite whatever the run: the disk of another database is its own server's."""
    here = f"sqlite:///{tmp_path / 'home' / 'gongqi.sqlite'}"
    process = command(*arguments, within=no_more_than(blocks), GONGQI_DATABASE_URL=here)
    assert process.ends(30) == 1
    assert len(process.errors) == 1, process.errors
    assert process.errors[0].endswith("[kernel.disk-failing]")
    made_codes.add("kernel.disk-failing")


@pytest.fixture
def mirror() -> Iterator[str]:
    """A server that has whatever is asked for: a hundred thousand bytes of it."""

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 100_000)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("language", "says"), [("zh", "磁盘已满"), ("en", "The disk is full")])
def test_a_bundle_without_room_leaves_nothing(command, folder: Path, mirror: str, language: str, says: str) -> None:
    target = folder / "release.zip"
    fetch = ("bundle", "rel_any", "-o", str(target))
    without = command(*fetch, within=no_more_than(20), language=language, GONGQI_URL=mirror)
    assert without.ends(30) == 1
    assert len(without.errors) == 1 and says in without.errors[0], without.errors
    assert list(folder.iterdir()) == []
    with_room = command(*fetch, language=language, GONGQI_URL=mirror)
    assert with_room.ends(30) == 0 and target.stat().st_size == 100_000
