"""The documents say what is true: both languages show the same commands, and every one of them runs.

Blocks fenced `sh` are run, page by page in the order of docs/en/index.md, on a foundation that has just walked the
chain, as a reader would after `make up`. Blocks fenced `console` install, stop or never end; of those the `make`
targets are looked up.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gongqi import app
from gongqi.doors.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NODE_MODULES = ROOT / "tests" / "resources" / "serving" / "npm" / "node_modules"  # scripts/need-node fills it
WALK_SECONDS = 240  # the walk takes half a minute; a loaded machine may take longer
PAGE_SECONDS = 120

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INDEXED = re.compile(r"\]\(([a-z-]+\.md)\)")


def pages(language: str) -> list[Path]:
    """The pages that people wrote, in the order in which the index names them; the index itself comes first."""
    index = DOCS / language / "index.md"
    return [index, *(index.with_name(name) for name in dict.fromkeys(_INDEXED.findall(index.read_text("utf-8"))))]


def pairs() -> list[tuple[Path, Path]]:
    """(English, Chinese) of every document that exists in both."""
    return [(ROOT / "README.md", ROOT / "README.zh.md"), *zip(pages("en"), pages("zh"), strict=True)]


def blocks(page: Path) -> list[tuple[str, str]]:
    """(kind, text) of each fenced block."""
    return _FENCE.findall(page.read_text("utf-8"))


def commands(page: Path) -> str:
    return "".join(text for kind, text in blocks(page) if kind == "sh")


def found(pattern: str, files: Iterable[Path]) -> set[str]:
    return {each for file in files for each in re.findall(pattern, file.read_text("utf-8"))}


EVERY = [page for pair in pairs() for page in pair]


def test_each_page_is_written_in_both_languages_and_named_by_the_index() -> None:
    for language in ("en", "zh"):
        assert set(pages(language)) == set((DOCS / language).glob("*.md"))
    assert [page.name for page in pages("en")] == [page.name for page in pages("zh")]


@pytest.mark.parametrize(("english", "chinese"), pairs(), ids=lambda page: page.name)
def test_both_languages_show_the_same_commands_in_the_same_order(english: Path, chinese: Path) -> None:
    assert blocks(english) == blocks(chinese)


@pytest.mark.parametrize("page", EVERY, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = _FENCE.sub("", page.read_text("utf-8"))
    targets = [target for target in _LINK.findall(prose) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = found(r"(?m)(?:`|^)make ([a-z-]+)", EVERY)
    assert {"up", "test"} <= shown <= targets


def test_every_command_named_exists() -> None:
    """Also those in running text, which no test runs."""
    house = app.house()
    verbs = {name.replace(":", " ") for name in (*house.verbs, *house.reads)}
    alone = set(COMMANDS) | {"ledger check", "ledger export"}
    form = re.compile(r"(?<![\w-])gongqi ([a-z][a-z-]*(?: [a-z][a-z-]*){0,2})")
    named = {words for page in EVERY for words in form.findall(_spoken(page))}
    assert named
    unknown = {w for w in named if w not in verbs and w not in alone and w.split(" ")[0] not in COMMANDS}
    assert unknown == {"site join"}  # said not to exist, for those who have read of it elsewhere


def _spoken(page: Path) -> str:
    """Commands as they stand in code, inline or fenced."""
    text = page.read_text("utf-8")
    fenced = [body for kind, body in _FENCE.findall(text) if kind in ("sh", "console")]
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))])


def test_every_permission_named_is_a_verb() -> None:
    house = app.house()
    named = found(r"`([a-z]+:[a-z-]+:[a-z-]+)`", EVERY)
    assert named and named <= {*house.verbs, *house.reads}


def test_every_variable_named_is_read() -> None:
    named = found(r"GONGQI_[A-Z_]+", EVERY)
    assert named and named <= found(r"GONGQI_[A-Z_]+", (ROOT / "src").rglob("*.py"))


def test_the_glossaries_hold_the_same_terms() -> None:
    def terms(language: str) -> list[tuple[str, str]]:
        text = (DOCS / language / "concepts.md").read_text("utf-8")
        return re.findall(r"^\| ([一-鿿]+) \| ([a-z, ]+) \|", text, re.MULTILINE)

    assert terms("en") == terms("zh")
    assert len(terms("en")) > 30


def test_nothing_is_shouted() -> None:
    for page in EVERY:
        prose = re.sub(r"`[^`\n]*`|!\[", "", _FENCE.sub("", page.read_text("utf-8")))
        assert "!" not in prose and "！" not in prose, page


@pytest.mark.slow
@pytest.mark.timeout(WALK_SECONDS + 10 * PAGE_SECONDS)
def test_every_command_shown_runs(tmp_path: Path, database_url: str) -> None:
    home = tmp_path / "home"
    with foundation(home, database_url) as environment, warm_command() as warm, model_server() as address:
        environment["MODEL_SERVER"] = address
        environment["PATH"] = f"{warm}{os.pathsep}{environment['PATH']}"
        for page in (ROOT / "README.md", *pages("en")):
            if not commands(page):
                continue
            folder = tmp_path / page.stem
            folder.mkdir()
            if "node " in commands(page):  # what a reader installs by `npm install`
                (folder / "node_modules").symlink_to(NODE_MODULES)
            done = subprocess.run(
                ["sh", "-eux"], input=commands(page), cwd=folder, env=environment, text=True, capture_output=True,
                timeout=PAGE_SECONDS,
            )  # fmt: skip
            assert done.returncode == 0, f"{page.relative_to(ROOT)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@contextlib.contextmanager
def model_server() -> Iterator[str]:
    """The address of an OpenAI-compatible server, in place of the reader's own."""
    spec = importlib.util.spec_from_file_location("gongqi_model_server", ROOT / "tests" / "sim" / "model_server.py")
    assert spec is not None and spec.loader is not None
    sim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sim)
    with sim.upstream() as made:
        yield made.url


@contextlib.contextmanager
def foundation(home: Path, database_url: str) -> Iterator[dict[str, str]]:
    """A server that has walked the chain, and the environment that a reader's terminal has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GONGQI_")} | {
        "GONGQI_HOME": str(home), "GONGQI_PORT": str(port), "GONGQI_URL": f"http://127.0.0.1:{port}",
        "GONGQI_DATABASE_URL": database_url, "GONGQI_LANG": "en",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    said = home.with_suffix(".log")
    with said.open("w") as log:
        # A group of its own, so that Ctrl-C reaches the walk as well as the server, as in a terminal.
        server = subprocess.Popen(
            [sys.executable, "-m", "gongqi", "up"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + WALK_SECONDS
            while "sign-in link" not in said.read_text("utf-8"):
                assert server.poll() is None and time.monotonic() < deadline, said.read_text("utf-8")[-4000:]
                assert "did not finish" not in said.read_text("utf-8"), said.read_text("utf-8")[-4000:]
                time.sleep(0.2)
            yield environment
        finally:
            os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


@contextlib.contextmanager
def warm_command() -> Iterator[str]:
    """A folder with a `gongqi` that answers at once; short, because the name of a socket is."""
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([sys.executable, str(Path(__file__).with_name("warm.py")), folder])
        try:
            while not Path(folder, "gongqi").exists():
                assert server.poll() is None
                time.sleep(0.05)
            yield folder
        finally:
            server.kill()
            server.wait()
