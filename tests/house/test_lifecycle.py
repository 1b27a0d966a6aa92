"""Starting and stopping: whatever is wrong with the place, one clear line says so, and nothing there is damaged."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.long

STOP_SECONDS = 5.0

sqlite_only = pytest.mark.skipif(bool(os.environ.get("GONGQI_TEST_POSTGRES")), reason="looks into the SQLite file")


def contents(folder: Path) -> dict[str, str]:
    """Every file below `folder` but the lock, which is not content, by digest."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "server.lock")
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def refused(command: Callable[..., Any], made_codes: set[str]) -> Callable[..., str]:
    """Start `gongqi serve` where it cannot: exit 1, nothing said but one line on standard error, with `code`."""

    def start(code: str, *, language: str = "en", **given: Any) -> str:
        process = command("serve", language=language, **given)
        assert process.ends(30) == 1, (process.lines, process.errors)
        assert len(process.errors) == 1 and not process.lines, (process.lines, process.errors)
        assert process.errors[0].startswith("gongqi: ") and process.errors[0].endswith(f"[{code}]")
        made_codes.add(code)
        return process.errors[0]

    return start


@pytest.fixture
def founded(command: Callable[..., Any], tmp_path: Path) -> Path:
    """A home that has been served once and left in order."""
    served = command("serve")
    served.says("Serving on")
    wait_until_answers(served)
    served.interrupt()
    assert served.ends(STOP_SECONDS + 5) == 0
    return tmp_path / "home"


def wait_until_answers(served: Any) -> str:
    url = served.says("Serving on").rsplit(" ", 1)[1]
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url + "/health", trust_env=False).text == "ok\n":
                return url
        assert time.monotonic() < deadline, served.errors
        time.sleep(0.05)


# ---- places where it cannot start ------------------------------------------------------------------------------------


def test_a_port_in_use_is_said_before_anything_is_touched(refused, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        english, chinese = (refused("kernel.port-in-use", port=port, language=each) for each in ("en", "zh"))
    assert english.startswith(f"gongqi: Port {port} is already in use.")
    assert chinese.startswith(f"gongqi: 端口 {port} ")
    assert contents(tmp_path / "home") == {}


@pytest.mark.parametrize("place", ["{folder}/file/home", "/proc/gongqi-home", "/dev/null/home"])
def test_a_home_that_cannot_be_written_is_said(refused, tmp_path: Path, place: str) -> None:
    """Places that not even root can write."""
    (tmp_path / "file").write_text("mine", "ascii")
    home = place.format(folder=tmp_path)
    assert home in refused("kernel.home-unwritable", home=home)
    assert (tmp_path / "file").read_text("ascii") == "mine"


@sqlite_only
@pytest.mark.parametrize(
    ("found", "code"), [("0000", "kernel.schema-newer"), ("9999", "kernel.schema-newer"), (None, "kernel.schema-newer")]
)
def test_a_schema_of_another_program_is_never_touched(refused, tmp_path: Path, found: str | None, code: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with contextlib.closing(sqlite3.connect(home / "gongqi.sqlite")) as database, database:
        database.execute("CREATE TABLE of_somebody (words TEXT)")
        if found is not None:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")
            database.execute("INSERT INTO alembic_version VALUES (?)", (found,))
    line = refused(code, home=home)
    assert (found or "?") in line
    with contextlib.closing(sqlite3.connect(home / "gongqi.sqlite")) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
    assert tables == {"of_somebody"} | ({"alembic_version"} if found else set())


def test_an_older_schema_waits_for_the_word_of_its_keeper(monkeypatch, database_url: str) -> None:
    """There is one revision so far; a second is pretended: so an older database looks to a newer program."""
    from gongqi import migrations
    from gongqi.kernel.db import Database
    from gongqi.kernel.errors import Refused

    database = Database(database_url)
    migrations.prepare(database)
    asked: list[bool] = []
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "9000"))
    monkeypatch.setattr(migrations, "NEWEST", "9000")
    monkeypatch.setattr(migrations, "run", lambda _db: asked.append(True))
    with pytest.raises(Refused) as refusal:
        migrations.prepare(database)
    assert refusal.value.code == "kernel.schema-older" and not asked
    assert refusal.value.params["wanted"] == "9000"
    migrations.prepare(database, upgrade=True)
    assert asked == [True]
    database.close()


@pytest.mark.parametrize("url", ["postgresql://gongqi@127.0.0.1:{port}/gongqi", "sqlite:///{folder}/absent/x.sqlite"])
def test_a_database_that_does_not_answer_is_said(refused, tmp_path: Path, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    address = url.format(port=closed, folder=tmp_path)
    refused("kernel.database-unreachable", GONGQI_DATABASE_URL=address)
    assert "gongqi.sqlite" not in contents(tmp_path / "home")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("GONGQI_PORT", "high", "kernel.port-invalid"),
        ("GONGQI_DATABASE_URL", "oracle://somewhere", "kernel.database-url-invalid"),
    ],
)
def test_a_setting_that_makes_no_sense_is_said(refused, tmp_path: Path, name: str, value: str, code: str) -> None:
    refused(code, **{name: value})
    assert not (tmp_path / "home").exists()


# ---- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where the machine lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = subprocess.run(
        [mount or "false", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, *, but_bytes: int = 0) -> Path:
    """A file that takes all the room but so much."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as out:
        while True:
            out.write(b"\0" * 4096)
    os.truncate(ballast, ballast.stat().st_size - but_bytes)
    return ballast


@sqlite_only
@pytest.mark.parametrize("room_bytes", [0, 200 * 1024])
def test_a_disk_that_is_full_from_the_first_minute_is_said(command, small_disk: Path, room_bytes: int) -> None:
    """With no room at all, or none for the schema; with room again it starts as if nothing had been."""
    home = small_disk / "home"
    ballast = fill(small_disk, but_bytes=room_bytes)
    process = command("serve", home=home)
    assert process.ends(30) == 1
    assert len(process.errors) == 1, process.errors
    assert process.errors[0].endswith(("[kernel.disk-full]", "[kernel.home-unwritable]"))
    ballast.unlink()
    served = command("serve", home=home)
    wait_until_answers(served)
    served.interrupt()
    assert served.ends(STOP_SECONDS + 5) == 0


@sqlite_only
def test_a_disk_that_fills_up_loses_nothing_and_serves_again_with_room(command, small_disk: Path) -> None:
    home = small_disk / "home"
    served = command("serve", home=home)
    url = wait_until_answers(served)
    token = (home / "operator.token").read_text("ascii").strip()
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, trust_env=False) as http:

        def add(number: int) -> httpx.Response:
            return http.post(
                "/api/v1/members/organisation/create", json={"handle": f"guild-{number}", "name": "行会" * 40}
            )

        assert add(0).status_code == 200
        ballast = fill(small_disk)
        answers = []
        for number in range(1, 400):
            answers.append(add(number))
            if answers[-1].status_code != 200:
                break
        full = answers[-1]
        assert (full.status_code, full.json()["code"]) == (503, "kernel.disk-full"), full.text
        assert full.headers["retry-after"]
        assert set(full.json()["localized"]) == {"zh", "en"}
        acknowledged = len(answers)  # number 0 and all before the refusal
        assert http.get("/api/v1/members/party?kind=organisation").status_code == 200
        ballast.unlink()
        assert add(1000).status_code == 200
        handles = {each["handle"] for each in every(http, "/api/v1/members/party", kind="organisation")}
    assert handles == {"foundation", "guild-1000"} | {f"guild-{number}" for number in range(acknowledged)}
    served.interrupt()
    assert served.ends(STOP_SECONDS + 5) == 0
    verified = command("verify", "log", home=home)
    assert verified.ends() == 0, verified.lines


def every(http: httpx.Client, path: str, **params: Any) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = http.get(path, params=params | {"limit": 200} | ({"cursor": cursor} if cursor else {})).json()
        yield from page["items"]
        if (cursor := page["next"]) is None:
            return


# ---- two at once, and the end ----------------------------------------------------------------------------------------


def test_a_second_server_on_the_same_home_is_said_and_the_first_goes_on(command, refused, port: int, tmp_path) -> None:
    first = command("serve")
    url = wait_until_answers(first)
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]
    refused("app.already-running", port=other)
    assert httpx.get(url + "/health", trust_env=False).text == "ok\n"
    first.interrupt()
    assert first.ends(STOP_SECONDS + 5) == 0


def test_ctrl_c_stops_within_five_seconds_also_with_an_open_stream(command) -> None:
    served = command("serve")
    url = wait_until_answers(served)
    first, ended = threading.Event(), threading.Event()

    def listen() -> None:
        with httpx.stream("GET", url + "/live", timeout=30, trust_env=False) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    json.loads(line[5:])
                    first.set()
        ended.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert first.wait(10)
    asked = time.monotonic()
    served.interrupt()
    assert served.ends(STOP_SECONDS) == 0
    assert time.monotonic() - asked < STOP_SECONDS
    assert ended.wait(2), "the stream was cut, not ended"
    assert served.lines[-1] == "Stopped." and not served.errors


def test_a_home_that_was_left_in_order_is_found_in_order(command, founded: Path) -> None:
    secrets = {name: digest for name, digest in contents(founded).items() if name.startswith("keys/")}
    token = (founded / "operator.token").read_text("ascii")
    assert (founded / "operator.token").stat().st_mode & 0o777 == 0o600
    again = command("serve")
    wait_until_answers(again)
    again.interrupt()
    assert again.ends(STOP_SECONDS + 5) == 0
    assert {name: digest for name, digest in contents(founded).items() if name.startswith("keys/")} == secrets
    assert (founded / "operator.token").read_text("ascii") == token
