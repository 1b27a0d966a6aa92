"""The command line: quick to speak, derived from the verbs, one line for every error."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gongqi.doors.cli import client, main

HEAVY = ("sqlalchemy", "pydantic", "starlette", "httpx", "numpy", "jinja2", "cryptography", "gongqi.app")


@pytest.fixture
def run(served, town, house, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(main.ROOMS, "guild", ("行会", "the guild"))
    monkeypatch.setenv("GONGQI_URL", served.url)
    monkeypatch.setenv("GONGQI_TOKEN", town.start.token)
    monkeypatch.setenv("GONGQI_LANG", "en")
    application = SimpleNamespace(house=lambda: house)

    def invoke(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(main.cli, arguments, obj=application, env=environment)

    return invoke


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
from gongqi.__main__ import main
sys.argv = ["gongqi", "--help"]
try:
    main()
except SystemExit:
    print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert "hub" in done.stdout and "evidence" in done.stdout


@pytest.mark.parametrize(
    ("lang", "word"), [("zh", "命令"), ("zh_CN.UTF-8", "命令"), ("en", "Commands"), ("C", "Commands")]
)
def test_help_is_in_the_language_of_the_terminal(run, lang: str, word: str) -> None:
    assert word in run("--help", GONGQI_LANG=lang).output


def test_a_verb_and_its_reads_are_commands(run, town) -> None:
    made = run(
        "guild", "note", "create", "--org", town.org, "--text", "by hand", "--tags", "a", "--tags", "b", "--no-public",
        "--schedule", '[{"audience": "public"}]',
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    note = json.loads(made.output)
    assert (note["text"], note["public"]) == ("by hand", False)
    assert note["more"]["tags"] == ["a", "b"] and note["more"]["schedule"][0]["audience"] == "public"
    assert json.loads(run("guild", "note", "get", note["id"]).output) == note
    assert json.loads(run("guild", "note", "list", "--limit", "1").output)["items"] == [note]


def test_a_structure_may_come_from_a_file(run, town, tmp_path) -> None:
    (tmp_path / "extra.json").write_text('{"of": "a file"}')
    made = run("guild", "note", "create", "--org", town.org, "--text", "t", "--extra", f"@{tmp_path / 'extra.json'}")
    assert json.loads(made.output)["more"]["extra"] == {"of": "a file"}


@pytest.mark.parametrize("value", ["{", "@/nowhere/at/all"])
def test_a_structure_that_is_none_is_refused_before_anything_is_sent(run, value: str) -> None:
    made = run("guild", "note", "create", "--org", "o", "--text", "t", "--extra", value)
    assert made.exit_code == 2


def test_a_repeat_with_its_key_acts_once_and_a_condition_is_kept(run, town, evidence) -> None:
    before = len(evidence)
    create = ("guild", "note", "create", "--org", town.org, "--text", "once", "--idempotency-key", "cli-1")
    first, again = run(*create), run(*create)
    assert first.output == again.output
    assert len(evidence) == before + 1
    note = json.loads(first.output)["id"]
    stale = run("guild", "note", "edit", "--note", note, "--text", "new", "--if-match", '"v9"')
    assert (stale.exit_code, stale.stderr.count("\n")) == (1, 1)
    assert "kernel.version-changed" in stale.stderr


@pytest.mark.parametrize(("lang", "words"), [("zh", "找不到"), ("en", "There is no")])
def test_a_refusal_is_one_line_in_the_language_and_exit_1(run, lang: str, words: str) -> None:
    refused = run("guild", "note", "get", "none", GONGQI_LANG=lang)
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert words in refused.stderr and "access.not-found" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("guild", "nonsense"), ("guild", "note", "nonsense"), ("guild", "note", "create", "--nope")],
)
def test_an_unknown_command_is_exit_2(run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_server_that_is_not_there_is_one_line(run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    refused = run("guild", "note", "list", GONGQI_URL=f"http://127.0.0.1:{port}")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "cli.server-unreachable" in refused.stderr


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://", "http://host:port"])
def test_an_address_that_is_none_is_one_line(run, url: str) -> None:
    refused = run("guild", "note", "list", GONGQI_URL=url)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "cli.url-invalid" in refused.stderr


@pytest.fixture
def foreign() -> Iterator[str]:
    """A server of something else: it answers everything with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<h1>hello</h1>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_is_not_ours_is_one_line(run, foreign: str) -> None:
    refused = run("guild", "note", "list", GONGQI_URL=foreign)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "cli.answer-unexpected" in refused.stderr


def test_an_id_is_never_taken_for_a_path(served, town) -> None:
    speaker = client.Client(served.url, town.start.token)
    for key in ("../note", "a?b=c", "a#b", "..", "a/b"):
        with pytest.raises(client.Problem) as refused:
            speaker.read("guild:note:get", key)
        assert refused.value.document["status"] == 404, key


def test_every_item_is_read_page_by_page(served, town) -> None:
    speaker = client.Client(served.url, town.start.token)
    for number in range(5):
        speaker.verb("guild:note:create", org=town.org, text=f"n{number}")
    assert len(list(speaker.every("guild:note:list", limit=2))) == 5


def test_help_of_a_verb_names_its_fields(run) -> None:
    shown = run("members", "token", "issue", "--help", GONGQI_LANG="zh").output
    assert "有效天数" in shown and "--scopes" in shown
