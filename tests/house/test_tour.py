"""`gongqi tour`: what it says to a terminal and to a file, and how it gives up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gongqi.doors.cli import tour as walking
from gongqi.doors.cli.client import Client
from gongqi.doors.cli.tour import Tour
from gongqi.kernel.errors import Refused, Unavailable

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("language", "says"), [("en", "Nothing answers"), ("zh", "没有")])
def test_a_tour_without_a_server_says_so_in_one_line(command, port: int, language: str, says: str, made_codes) -> None:
    tour = command("tour", "--name", "alone", language=language)
    assert tour.ends(30) == 1
    assert len(tour.errors) == 1, tour.errors
    assert says in tour.errors[0] and str(port) in tour.errors[0]
    assert tour.errors[0].endswith("[cli.server-unreachable]")
    made_codes.add("cli.server-unreachable")


@pytest.mark.parametrize(("language", "mark"), [("en", "■"), ("zh", "印")])
def test_a_step_is_marked_on_a_terminal_and_plain_elsewhere(
    tmp_path: Path, monkeypatch, capsys, foundation, language: str, mark: str
) -> None:
    monkeypatch.setenv("GONGQI_LANG", language)
    tour = Tour("first", tmp_path / "tour", foundation.operator)
    tour.line("一步", "a step")
    word = "a step" if language == "en" else "一步"
    assert capsys.readouterr().out == f"-  1 {word}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    tour.line("一步", "a step")
    assert capsys.readouterr().out.replace("\x1b[31m", "").replace("\x1b[0m", "") == f"{mark}  2 {word}\n"


def test_a_step_that_was_remembered_is_not_taken_again(tmp_path: Path, foundation) -> None:
    first = Tour("first", tmp_path / "tour", foundation.operator)
    made = first.act(foundation.operator, "make", "members:organisation:create", handle="made-once", name="Once")
    before = foundation.operator.read("members:party:list")["items"]
    after_a_kill = Tour("first", tmp_path / "tour", foundation.operator)
    given = {"handle": "made-once", "name": "Once"}
    assert after_a_kill.act(foundation.operator, "make", "members:organisation:create", **given) == made
    (tmp_path / "tour" / "first.json").unlink()  # killed after the server had acted and before it was written down
    forgetful = Tour("first", tmp_path / "tour", foundation.operator)
    assert forgetful.act(foundation.operator, "make", "members:organisation:create", **given) == made
    assert foundation.operator.read("members:party:list")["items"] == before
    kept = tmp_path / "tour" / "first.json"
    assert kept.stat().st_mode & 0o777 == 0o600 and json.loads(kept.read_text("utf-8"))["make"] == made


def test_a_tour_does_not_wait_for_ever(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(walking, "WAIT_SECONDS", 0.0)
    tour = Tour("first", tmp_path, Client("http://127.0.0.1:1", None))
    with pytest.raises(Unavailable) as refusal:
        tour.wait(lambda: None)
    assert refusal.value.code == "cli.waited-too-long"


def test_a_tour_does_not_begin_where_other_reviewers_sit(tmp_path: Path, foundation) -> None:
    foundation.person("a-real-reviewer", "*", "reviewer")
    tour = Tour("second", tmp_path / "tour", foundation.operator)
    with pytest.raises(Refused) as refusal:
        tour.principals()
    assert (refusal.value.code, refusal.value.params["count"]) == ("cli.tour-board", 1)
