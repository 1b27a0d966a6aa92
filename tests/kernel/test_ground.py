"""Money, ids, clock and settings: the small things everything else believes in."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from gongqi.kernel.clock import FixedClock, SystemClock
from gongqi.kernel.config import DEFAULT_PORT, Settings
from gongqi.kernel.errors import Refused
from gongqi.kernel.ids import mint
from gongqi.kernel.money import UNITS, split, unit_named


def test_a_split_gives_what_remains_to_who_would_first_miss_a_whole_unit_then_by_weight_then_by_key():
    assert split(100, {"a": 1, "b": 1, "c": 1}) == {"a": 34, "b": 33, "c": 33}
    assert split(10, {"big": 5, "small": 1}) == {"big": 9, "small": 1}
    assert split(1, {"z": 3, "a": 3}) == {"a": 1, "z": 0}
    assert split(0, {"a": 1}) == {"a": 0}
    assert split(7, {"a": 0, "b": 2}) == {"a": 0, "b": 7}


def test_what_a_split_leaves_is_made_good_by_the_next():
    weights, paid, gainers = {"big": 5, "small": 1}, {"big": 0, "small": 0}, []
    for _ in range(12):
        [gainer] = [key for key, part in split(1, weights, paid).items() if part]
        paid[gainer] += 1
        gainers.append(gainer)
    assert gainers == [*["big"] * 5, "small"] * 2


@pytest.mark.parametrize(("amount", "weights"), [(1, {}), (1, {"a": 0}), (-1, {"a": 1}), (1, {"a": 2, "b": -1})])
def test_a_split_without_sense_is_refused(amount, weights):
    with pytest.raises(Refused) as caught:
        split(amount, weights)
    assert caught.value.code == "kernel.split-impossible"


def test_an_unknown_unit_is_refused_with_the_known_ones():
    assert unit_named("CNY-fen").decimals == 2
    with pytest.raises(Refused) as caught:
        unit_named("CNY")
    assert caught.value.code == "kernel.unit-unknown"
    assert caught.value.params["known"] == ", ".join(UNITS)


def test_an_id_is_a_uuid7_that_sorts_by_millisecond():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    minted = [mint("rel", start + timedelta(milliseconds=number)) for number in range(50)]
    assert minted == sorted(minted)
    value = 0
    for digit in minted[0].removeprefix("rel_"):
        value = value << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(digit)
    assert value >> 80 == int(start.timestamp() * 1000)
    assert (value >> 76 & 0xF, value >> 62 & 0b11) == (7, 0b10)


def test_ids_of_one_moment_do_not_collide():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({mint("x", now) for _ in range(10_000)}) == 10_000


def test_the_clock_follows_the_wall_forward_and_goes_on_evenly_when_it_jumps_back(monkeypatch):
    wall, steady = [1_000_000.0], [50.0]
    monkeypatch.setattr(time, "time", lambda: wall[0])
    monkeypatch.setattr(time, "monotonic", lambda: steady[0])
    clock = SystemClock()

    def after(*, wall_moves: float, seconds: float) -> float:
        wall[0] += wall_moves
        steady[0] += seconds
        return clock.now().timestamp() - 1_000_000

    assert after(wall_moves=5, seconds=5) == 5
    assert after(wall_moves=-3600, seconds=2) == 7  # the machine's clock was set back an hour
    assert after(wall_moves=1, seconds=1) == 8
    assert after(wall_moves=3599, seconds=0) == 8  # set right again, it has nothing to catch up
    assert after(wall_moves=60, seconds=1) == 65  # a jump forward is followed


@pytest.mark.parametrize(
    ("ahead_seconds", "begins_at"), [(-60, 0), (0, 0), (3600, 3600), (86_400, 86_400), (86_401, 0)]
)
def test_after_a_restart_the_clock_begins_where_the_books_end_if_that_is_within_a_day(
    monkeypatch, ahead_seconds, begins_at
):
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    clock = SystemClock(not_before=datetime.fromtimestamp(1_000_000 + ahead_seconds, UTC))
    assert clock.now().timestamp() - 1_000_000 == begins_at
    assert clock.behind_seconds == max(ahead_seconds, 0)


def test_a_fixed_clock_moves_only_when_told():
    clock = FixedClock()
    before = clock.now()
    assert clock.now() == before
    clock.advance(hours=1, seconds=1)
    assert clock.now() - before == timedelta(hours=1, seconds=1)


def test_settings_have_defaults_that_need_no_environment(tmp_path):
    settings = Settings.from_environment({"GONGQI_HOME": str(tmp_path)})
    assert settings.port == DEFAULT_PORT
    assert settings.database_url == f"sqlite:///{tmp_path / 'gongqi.sqlite'}"
    assert settings.origin == f"http://127.0.0.1:{DEFAULT_PORT}"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "²", "٣", "8 0"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(Refused) as caught:
        Settings.from_environment({"GONGQI_PORT": port})
    assert caught.value.code == "kernel.port-invalid"


def test_an_unknown_database_is_refused_without_showing_its_password():
    with pytest.raises(Refused) as caught:
        Settings.from_environment({"GONGQI_DATABASE_URL": "mysql://root:secret@host/x"})
    assert caught.value.code == "kernel.database-url-invalid"
    assert "secret" not in str(caught.value)


def test_the_home_is_made_private_and_one_that_cannot_be_used_is_refused_in_one_line(tmp_path):
    settings = Settings.from_environment({"GONGQI_HOME": str(tmp_path / "deep" / "home")})
    settings.prepare_home()
    assert settings.home.stat().st_mode & 0o777 == 0o700
    assert list(settings.home.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refused) as caught:
        Settings.from_environment({"GONGQI_HOME": str(tmp_path / "file" / "home")}).prepare_home()
    assert caught.value.code == "kernel.home-unwritable"
