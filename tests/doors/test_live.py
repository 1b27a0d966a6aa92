"""The live stream: only what changed, to no more than so many, and it never keeps a server from stopping."""

from __future__ import annotations

import contextlib
import threading
import time

import httpx
import orjson
import pytest

from gongqi.doors.web import live


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PERIOD_SECONDS", 0.05)


def figures(lines):
    for line in lines:
        if line.startswith("data: "):
            yield orjson.loads(line[6:])


def test_a_listener_hears_all_figures_once_and_then_what_changes(served, town) -> None:
    with (
        httpx.Client(base_url=served.url, headers=town.auth, timeout=10) as http,
        http.stream("GET", "/live") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        heard = figures(stream.iter_lines())
        assert next(heard) == {"guild.notes": 0}
        town.note(httpx.Client(base_url=served.url, headers=town.auth))
        assert next(heard) == {"guild.notes": 1}
        with http.stream("GET", "/live") as late:
            assert next(figures(late.iter_lines())) == {"guild.notes": 1}


def test_a_stream_that_nothing_happens_on_still_beats(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PULSE_SECONDS", 0.05)
    with httpx.stream("GET", served.url + "/live", timeout=10) as stream:
        assert any(line == ":" for line in stream.iter_lines())


def test_a_stream_ends_after_its_lifetime(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PULSE_SECONDS", 0.05)
    monkeypatch.setattr(live, "LIFETIME_SECONDS", 0.2)
    with httpx.stream("GET", served.url + "/live", timeout=10) as stream:
        lines = list(stream.iter_lines())
    assert lines[0] == "retry: 3000"


def test_one_listener_too_many_is_told_to_come_back(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_LISTENERS", 1)
    with httpx.Client(base_url=served.url, timeout=10) as http:
        with http.stream("GET", "/live") as stream:
            heard = figures(stream.iter_lines())  # held on to: a reader that is forgotten closes its stream
            next(heard)
            full = http.get("/live")
            assert (full.status_code, full.headers["retry-after"]) == (503, "30")
            assert full.json()["code"] == "web.too-many-streams"
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with http.stream("GET", "/live") as stream:
                if stream.status_code == 200:
                    return
            time.sleep(0.02)
        pytest.fail("who left is still counted")


def test_nothing_is_measured_while_nobody_listens(served, town, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(live, "measure", lambda kernel: measured.append(1) or {"guild.notes": len(measured)})
    with httpx.stream("GET", served.url + "/live", timeout=10) as stream:
        heard = figures(stream.iter_lines())
        assert next(heard) and next(heard)
    deadline, before = time.monotonic() + 5, -1
    while len(measured) != before and time.monotonic() < deadline:
        before = len(measured)
        time.sleep(0.3)
    assert len(measured) == before


def test_a_figure_that_fails_ends_the_streams_and_the_next_listener_starts_anew(served, monkeypatch) -> None:
    def fail(_kernel):
        raise RuntimeError("a figure of some room")

    with monkeypatch.context() as broken:
        broken.setattr(live, "measure", fail)
        with httpx.stream("GET", served.url + "/live", timeout=10) as stream:
            assert not list(figures(stream.iter_lines()))
    with httpx.stream("GET", served.url + "/live", timeout=10) as stream:
        assert next(figures(stream.iter_lines())) == {"guild.notes": 0}


def test_open_streams_do_not_keep_the_server_from_stopping(served) -> None:
    heard, ended = threading.Event(), threading.Event()

    def listen() -> None:
        with contextlib.suppress(httpx.TransportError), httpx.stream("GET", served.url + "/live", timeout=20) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    heard.set()
        ended.set()

    threads = [threading.Thread(target=listen, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert heard.wait(5)
    assert served.stop() < 3.0
    assert ended.wait(2)


def test_a_stream_that_comes_while_the_server_stops_ends_at_once(served, town) -> None:
    with httpx.stream("GET", served.url + "/live", timeout=10) as before:
        heard = figures(before.iter_lines())
        next(heard)
        town.kernel.parts[live.Live].close()
        assert not list(heard)
    with httpx.stream("GET", served.url + "/live", timeout=10) as after:
        assert not list(figures(after.iter_lines()))


def test_a_slow_listener_misses_steps_but_never_the_last_value() -> None:
    listener = live.Listener({"a": 1, "b": 1})
    for number in range(1000):
        listener.tell({"a": number})
    assert listener.untold == {"a": 999, "b": 1}


# ---- the figures of pages ----------------------------------------------------------------------------


class Counting:
    """Measures as `live.measure` would, taking `seconds`, and remembers how often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.seconds, self.times, self.failing = seconds, 0, False
        monkeypatch.setattr(live, "measure", self)

    def __call__(self, _kernel) -> dict[str, int | str]:
        self.times += 1
        time.sleep(self.seconds)
        if self.failing:
            raise RuntimeError("a figure of some room")
        return {"measured": self.times}

    def until(self, times: int) -> None:
        deadline = time.monotonic() + 5
        while self.times < times and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.times == times


def test_what_is_quickly_measured_is_measured_for_every_reader(monkeypatch) -> None:
    measuring, figures_ = Counting(monkeypatch, 0.0), live.Figures(None)
    assert [figures_.latest()["measured"] for _ in range(3)] == [1, 2, 3]
    assert measuring.times == 3


def test_however_many_ask_at_once_one_measures(monkeypatch) -> None:
    measuring, figures_ = Counting(monkeypatch, 0.1), live.Figures(None)
    monkeypatch.setattr(live, "PERIOD_SECONDS", 5.0)
    ready, shown = threading.Barrier(20), []

    def ask() -> None:
        ready.wait()
        shown.append(figures_.latest())

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(shown) == 20
    assert measuring.times <= 2, "who asked during the first measuring shares the second"
    assert [figures_.latest() for _ in range(50)] == [{"measured": measuring.times}] * 50


def test_a_reader_after_the_period_sets_off_one_measuring_and_does_not_wait_for_it(monkeypatch) -> None:
    measuring, figures_ = Counting(monkeypatch, 0.05), live.Figures(None)
    monkeypatch.setattr(live, "PERIOD_SECONDS", 0.06)
    assert figures_.latest() == {"measured": 1}
    time.sleep(0.07)
    measuring.seconds = 0.3
    began = time.monotonic()
    assert [figures_.latest() for _ in range(10)] == [{"measured": 1}] * 10
    assert time.monotonic() - began < 0.25
    measuring.until(2)


def test_nobody_is_shown_figures_older_than_the_limit(monkeypatch) -> None:
    measuring, figures_ = Counting(monkeypatch, 0.05), live.Figures(None)
    monkeypatch.setattr(live, "STALE_SECONDS", 0.1)
    assert figures_.latest() == {"measured": 1}
    time.sleep(0.12)
    assert figures_.latest() == {"measured": 2}
    assert measuring.times == 2


def test_figures_that_fail_are_told_to_who_waits_and_measured_again(monkeypatch) -> None:
    measuring, figures_ = Counting(monkeypatch, 0.05), live.Figures(None)
    measuring.failing = True
    with pytest.raises(RuntimeError):
        figures_.latest()
    measuring.failing = False
    assert figures_.latest() == {"measured": 2}
    measuring.failing = True
    time.sleep(0.1)
    assert figures_.latest() == {"measured": 2}, "who does not wait is shown what there is"
    measuring.until(3)
