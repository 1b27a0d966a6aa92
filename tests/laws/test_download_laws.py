"""The law of download counts, for which the machine looks for counter-examples.

However requests come, through whichever process, and whenever tallies are brought home and days go by, an asset has as
many downloads as there are pairs of a client and a day on which that client was given bytes of it; the downloads of its
revisions add up to them; and those of the last thirty days are the recent ones.

The one who counts beside keeps a set of who had what on which day, and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from gongqi.books.evidence import service as evidence
from gongqi.kernel.access import ANONYMOUS, Actor
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, query
from gongqi.members import VOCABULARY
from gongqi.resources.hub import counting, service, tally
from gongqi.resources.hub.models import Asset, Revision
from gongqi.resources.hub.room import ROOM as HUB
from gongqi.resources.hub.tickets import Seal

NUMBERS = itertools.count()
CALLERS = (
    Caller(ANONYMOUS, address="198.51.100.7"),
    Caller(ANONYMOUS, address="2001:db8::1"),
    Caller(ANONYMOUS, address="2001:db8::2"),  # the same machine, for all one can know
    Caller(Actor("per_a", "person", "a"), address="198.51.100.7"),
    Caller(Actor("per_a", "person", "a"), address="203.0.113.9"),  # the same person elsewhere
)
WHO = ("198.51.100.7", "net", "net", "per_a", "per_a")
AGENTS = ("curl/8", "gongqi-mirror/1", "")
ASSETS = REVISIONS = PROCESSES = 2

asked = st.tuples(
    st.just("ask"),
    st.integers(0, len(CALLERS) - 1),
    st.integers(0, ASSETS - 1),
    st.integers(0, REVISIONS - 1),
    st.sampled_from(["GET", "GET", "HEAD"]),
    st.sampled_from(AGENTS),
    st.integers(0, PROCESSES - 1),
)
home = st.tuples(st.just("home"), st.integers(0, PROCESSES - 1))
later = st.tuples(st.just("later"), st.sampled_from([3600, 86_400, 20 * 86_400]))
hourly = st.tuples(st.just("hourly"))


@pytest.fixture
def kernel(build: Callable[..., Kernel]) -> Kernel:
    return build(House.build((HUB,), VOCABULARY), record=evidence.append, clock=FixedClock())


def stock(kernel: Kernel) -> list[str]:
    """Two fresh public assets; returns their ids. Revision n of asset `a` is called `a.n`."""
    number = next(NUMBERS)
    assets = [f"ast_{number}_{n}" for n in range(ASSETS)]
    words = dict.fromkeys(("title_zh", "title_en", "summary_zh", "summary_en"), "")
    written = {"card": {}, "card_body": "", "card_sha256": "0" * 64, "message": "", "author": "per_a"}

    def add(ctx: Any) -> None:
        for id in assets:
            public = {"org": "org_a", "slug": id, "kind": "model", "visibility": "public"}
            ctx.add(Asset(id=id, created_at=ctx.now, **public, **words))
            ctx.session.flush()
            for n in range(REVISIONS):
                at = {"id": f"{id}.{n}", "asset": id, "number": n + 1, "parent": None, "created_at": ctx.now}
                ctx.add(Revision(digest=f"{id}.{n}".rjust(64, "0"), **at, **written))

    kernel.transact(add, reason="test")
    return assets


def request(kernel: Kernel, method: str, agent: str) -> Request:
    headers = [(b"user-agent", agent.encode())]
    return Request({"type": "http", "method": method, "headers": headers, "state": {"kernel": kernel}})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(asked | asked | asked | home | later | hourly, max_size=40))
def test_a_client_that_had_bytes_of_an_asset_counts_once_a_day(kernel: Kernel, steps: list[Any]) -> None:
    assets = stock(kernel)
    processes = [tally.Tally() for _ in range(PROCESSES)]
    had: set[tuple[str, str, int]] = set()

    def bring(process: int) -> None:
        kernel.parts[tally.Tally] = processes[process]
        tally.bring_home(kernel)

    for step in steps:
        match step:
            case ("ask", who, asset, revision, method, agent, process):
                kernel.parts[tally.Tally] = processes[process]
                at = f"{assets[asset]}.{revision}"
                tally.note(request(kernel, method, agent), CALLERS[who], assets[asset], at)
                if method == "GET" and not agent.startswith("gongqi-mirror/"):
                    had.add((WHO[who], assets[asset], counting.day_of(kernel.clock.now())))
            case ("home", process):
                bring(process)
            case ("later", seconds):
                for process in range(PROCESSES):  # every few seconds, in life
                    bring(process)
                kernel.clock.advance(seconds=seconds)  # type: ignore[attr-defined]
            case _:
                kernel.transact(tally.forget, reason="test")
                kernel.transact(tally.fold, reason="test")
    for process in range(PROCESSES):
        bring(process)
    kernel.transact(tally.fold, reason="test")
    today = counting.day_of(kernel.clock.now())
    for asset in assets:
        told = query(kernel, service.get_downloads, CALLERS[0], service.GetDownloads(asset=asset))
        days = [day for _, each, day in had if each == asset]
        assert told.total == len(days) == sum(each.total for each in told.revisions)
        assert told.recent == sum(day > today - 30 for day in days) == sum(each.recent for each in told.revisions)


@given(st.datetimes(), st.integers(0, 90))
def test_a_day_is_recent_for_thirty_days(moment: Any, days: int) -> None:

    then = counting.day_of(moment.replace(tzinfo=UTC))
    assert (then >= counting.first_recent(then + days)) == (days < 30)
    assert counting.day_of(moment.replace(tzinfo=UTC, hour=0, minute=0, second=0, microsecond=0)) == then


def test_a_mark_says_nothing_without_the_key_and_the_same_with_it() -> None:

    given = {"client": "198.51.100.7", "asset": "ast_1", "day": 20_000}
    one, two = Seal(b"1" * 32).over, Seal(b"2" * 32).over
    assert counting.mark_of(one, **given) == counting.mark_of(one, **given) != counting.mark_of(two, **given)
    assert len({counting.mark_of(one, **given | {"day": day}) for day in range(9)}) == 9
